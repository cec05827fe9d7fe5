"""The command line: the only place where an argument is read as a path. Nothing heavy is imported at the top."""
