"""Traces of requests with OpenTelemetry, if it is installed and asked for."""

from __future__ import annotations

import importlib
from typing import Any

from multimodal.core.errors import MissingExtra
from multimodal.server.endpoint import Asgi


def traced(app: Asgi, **options: Any) -> Asgi:
    """The application inside OpenTelemetry's ASGI middleware, set up by the usual OTEL_… variables.

    Args:
        app: The application.
        options: Of the middleware, such as `tracer_provider`.

    Returns:
        An application with a span for each request, and none for each message of it.

    Raises:
        MissingExtra: The middleware is not installed.
    """
    try:
        module: Any = importlib.import_module("opentelemetry.instrumentation.asgi")
    except ImportError as error:
        raise MissingExtra(
            "tracing requests", package="opentelemetry-instrumentation-asgi", extra="telemetry"
        ) from error
    wrapped: Asgi = module.OpenTelemetryMiddleware(app, **{"exclude_spans": ["receive", "send"]} | options)
    return wrapped
