"""`--telemetry`: a span for each request, by OpenTelemetry's middleware."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from multimodal.server.app import App, create_app
from multimodal.server.config import ServerConfig

trace = pytest.importorskip("opentelemetry.trace", reason="the extra telemetry is not installed")


def request(app: App, path: str, **headers: str) -> int:
    """The status of a GET, without a socket."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = [(key.encode(), value.encode()) for key, value in {"host": "localhost", **headers}.items()]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": given,
             "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
             "http_version": "1.1", "root_path": ""}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


def test_each_request_gets_a_span_with_its_route_and_status_below_that_of_the_client() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # where the OTEL_… variables and libraries put theirs
    app = create_app(ServerConfig(telemetry=True))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert request(app, "/health", traceparent=parent) == 200
    assert request(app, "/v1/items/secret-id") == 503  # still loading
    assert request(app, "/nothing") == 404
    spans = exporter.get_finished_spans()
    names = ["GET /health", "GET /v1/items/{item_id:path}", "GET unknown"]
    assert [span.name for span in spans] == names
    assert [span.attributes["http.route"] for span in spans] == [name[4:] for name in names]
    codes = [dict(span.attributes).get("http.status_code") for span in spans]
    assert codes == [200, 503, 404]
    assert format(spans[0].context.trace_id, "032x") == parent.split("-")[1]
    assert "secret-id" not in spans[1].name
    assert not hasattr(create_app(ServerConfig()).serve, "tracer")
    app.state.close()
