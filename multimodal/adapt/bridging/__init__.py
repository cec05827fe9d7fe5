"""Bridges between embedding spaces. See `multimodal.adapt`."""
