"""What an index on an object store needs in the place of files: its lock, its failures, and a local cache."""
