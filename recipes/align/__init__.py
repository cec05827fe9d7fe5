"""Recipes that align decoders: a captioner with preferences, a language model with instructions and refusals."""
