"""Generators of test material: damaged images and audio, written words, shapes. Pure functions of their seed."""
