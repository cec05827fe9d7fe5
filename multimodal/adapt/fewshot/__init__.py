"""Classifiers from a few labelled examples; see `api`."""
