"""Metrics on arrays and strings, without models: retrieval, classification, text and generated images."""
