"""Generates `assets/gallery`: `python -m recipes.gallery` reproduces the same files."""
