"""Alignment of decoders with preferences; see `api`."""
