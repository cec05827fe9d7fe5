"""Jobs that add to an index from many machines: a driver, which decides and commits, and workers, which encode."""
