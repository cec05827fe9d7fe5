"""Spaces that are made of others: joined, and truncated."""
