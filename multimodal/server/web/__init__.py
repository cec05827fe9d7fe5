"""What the web page needs beside its endpoints: sessions, and views of an index."""
