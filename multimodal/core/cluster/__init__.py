"""Work on many machines, by Ray: the connection, a pool of workers that may die, and a map over many files."""
