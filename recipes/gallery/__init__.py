"""How `assets/gallery` was made: `python -m recipes.gallery` writes the same files again."""
