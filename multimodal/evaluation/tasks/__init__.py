"""Tasks: each turns a model and a table into the outcome of every item. A task is one file with a function `run`."""
