"""The OpenAPI schema of all endpoints, and a page that shows it without scripts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from multimodal import __version__
from multimodal.server.endpoint import ANY_TYPE, JSON_TYPE, Endpoint

REF = "#/components/schemas/{model}"
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 880px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; } h2 { font-size: 18px; margin: 32px 0 4px; overflow-wrap: anywhere; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { border: 1px solid #8884; border-radius: 8px; padding: 12px; overflow: auto; max-height: 420px; }
"""


def openapi(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The schema, version 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    components: dict[str, Any] = {"Error": ERROR}
    for endpoint in endpoints:
        path = PARAMETER.sub(r"{\1}", endpoint.path)
        for method in endpoint.methods:
            paths.setdefault(path, {})[method.lower()] = _operation(endpoint, method, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "multimodal", "version": __version__, "description": "Paths below /v1 also work without it."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def _operation(endpoint: Endpoint, method: str, components: dict[str, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{method.lower()}{endpoint.path}").strip("_")
    operation: dict[str, Any] = {"operationId": name, "summary": endpoint.summary, "tags": [endpoint.tag]}
    parameters = [
        {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}
        for parameter in PARAMETER.findall(endpoint.path)
    ]
    parameters += [
        {"name": key, "in": "query", "required": False, "schema": dict(schema)}
        for key, schema in (endpoint.query or {}).items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {_content_type(endpoint): {"schema": _component(endpoint.request, components)}},
        }
    success = {"description": "Success"}
    if endpoint.produces:
        body = {"schema": dict(endpoint.response)} if endpoint.response else {}
        success |= {"content": {endpoint.produces: body}}  # type: ignore[dict-item]
    failure = {
        "description": "Error",
        "content": {JSON_TYPE: {"schema": {"$ref": REF.format(model="Error")}}},
    }
    operation["responses"] = {"200": success, "4XX": failure, "5XX": failure}
    if not endpoint.is_public:
        operation["security"] = [{"key": []}, {}]
    return operation


def _content_type(endpoint: Endpoint) -> str:
    return JSON_TYPE if endpoint.content == ANY_TYPE else endpoint.content


def _component(model: Any, components: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    components |= schema.pop("$defs", {})
    components[model.__name__] = schema
    return {"$ref": REF.format(model=model.__name__)}


def docs_page(schema: Mapping[str, Any]) -> str:
    """The schema as a page of HTML."""
    sections = []
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            body = ""
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                shown = json.dumps(schema["components"]["schemas"][name].get("properties", {}), indent=2)
                body = f"<details><summary>Request</summary><pre>{html.escape(shown)}</pre></details>"
            if operation.get("parameters"):
                names = ", ".join(f"<code>{html.escape(p['name'])}</code>" for p in operation["parameters"])
                body = f"<p>Parameters: {names}</p>{body}"
            title = f"{method.upper()} {html.escape(path)}"
            sections.append(f"<h2>{title}</h2><p>{html.escape(operation['summary'])}</p>{body}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>multimodal: HTTP API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>HTTP API</h1><p>{html.escape(schema['info']['description'])} The schema for programs: "
        f'<a href="/openapi.json">openapi.json</a>.</p>{"".join(sections)}</body></html>'
    )
