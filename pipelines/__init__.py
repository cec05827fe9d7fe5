"""This folder imports as ``multimodal.pipelines``, and under no other name."""

if not __name__.startswith("multimodal."):
    raise ImportError(
        f"this folder was imported as {__name__!r}, but it is part of the package 'multimodal': "
        "write 'import multimodal.pipelines' (from a checkout, run with its root on PYTHONPATH)"
    )
