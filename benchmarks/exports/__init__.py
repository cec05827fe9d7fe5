"""Benchmarks of exported spaces and pages."""
