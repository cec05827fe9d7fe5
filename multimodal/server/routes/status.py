"""Health, readiness, metrics, the schema and its page."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from multimodal.server import metrics
from multimodal.server.endpoint import Endpoint, JsonResponse, state_of
from multimodal.server.http.schema import docs_page, openapi

DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


async def health(request: Request) -> Response:
    """The process lives, whether or not it is ready."""
    return JsonResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """Requests are served: 503 while loading and while stopping."""
    state_of(request).check_ready()
    return JsonResponse({"status": "ready"})


async def metrics_text(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(state_of(request).metrics.text(), media_type=metrics.CONTENT_TYPE)


async def schema(request: Request) -> Response:
    """The OpenAPI schema."""
    return JsonResponse(openapi(state_of(request).extras["endpoints"]))


async def docs(request: Request) -> Response:
    """The schema as a page that loads nothing from elsewhere."""
    page = docs_page(openapi(state_of(request).extras["endpoints"]))
    return Response(page, media_type="text/html", headers={"content-security-policy": DOCS_POLICY})


OPEN: dict[str, Any] = {"is_public": True, "when_loading": True, "tag": "status"}

ENDPOINTS = [
    Endpoint("/health", health, ("GET",), "Whether the process lives.", **OPEN),
    Endpoint("/ready", ready, ("GET",), "Whether requests are served.", **OPEN),
    Endpoint(
        "/metrics",
        metrics_text,
        ("GET",),
        "Prometheus metrics.",
        when_loading=True,
        produces="text/plain",
        tag="status",
    ),
    Endpoint("/openapi.json", schema, ("GET",), "This schema.", **OPEN),
    Endpoint("/docs", docs, ("GET",), "This schema as a page.", produces="text/html", **OPEN),
]
