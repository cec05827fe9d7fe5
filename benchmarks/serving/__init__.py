"""Benchmarks of the server beside `benchmarks.server`."""
