"""Importing OpenVINO, without torch and without its telemetry."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import warnings
from typing import Any

from multimodal.core.errors import MissingExtra

TELEMETRY = "openvino_telemetry"


def require_openvino() -> None:
    """Raises MissingExtra if it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtra("engine='openvino'", package="openvino", extra="openvino")


def openvino() -> Any:
    """The library, imported with its telemetry switched off. Raises MissingExtra.

    On import OpenVINO sends a usage report over the network; here that package is hidden from it.
    """
    require_openvino()
    if "openvino" in sys.modules or TELEMETRY in sys.modules:
        import openvino

        return openvino
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # import sees it as not installed
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import openvino
    finally:
        del sys.modules[TELEMETRY]
    return openvino
