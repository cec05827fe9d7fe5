"""Our figures beside those of other libraries for the same input: they must be equal."""
