"""`multimodal serve`: serve models and indexes over HTTP."""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.core.remote.path import AnyPath

KEY_VARIABLE = "MULTIMODAL_API_KEY"


def _many(metavar: str, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


@options.with_runtime()
def serve(
    indexes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INDEX]...",
            help="Indexes to search, made by multimodal index.",
            show_default=False,
            parser=options.index_place,
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        _many("NAME", "A model to serve; may be repeated. \\[default: those of the indexes, or starter]"),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 for any free one.")
    ] = 7997,
    api_key: Annotated[
        list[str] | None,
        _many("KEY", f"Key that requests must present; may be repeated. \\[default: ${KEY_VARIABLE}]"),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Accept requests without a key at any address.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Allow uploads and deletions.")] = False,
    allow_urls: Annotated[
        list[str] | None, _many("HOST", "Fetch media given by URL from this host; may be repeated.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, _many("NAME", "A host name by which the server is reached; may be repeated.")
    ] = None,
    cors: Annotated[
        list[str] | None, _many("ORIGIN", "Pages of this origin may use the server; may be repeated.")
    ] = None,
    alias: Annotated[
        list[str] | None, _many("ALIAS=NAME", "Another name of a model; may be repeated.")
    ] = None,
    caption_model: Annotated[
        list[str] | None, _many("NAME", "A further model that captions; may be repeated.")
    ] = None,
    transcription_model: Annotated[
        list[str] | None, _many("NAME", "A further model that transcribes; may be repeated.")
    ] = None,
    generation_model: Annotated[
        list[str] | None, _many("NAME", "A further model that draws; may be repeated.")
    ] = None,
    answer_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What answers as the model index:NAME, as of multimodal ask. \\[default: extractive]",
            show_default=False,
        ),
    ] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log every request.")] = False,
    telemetry: Annotated[
        bool, typer.Option("--telemetry", help="Trace requests with OpenTelemetry.")
    ] = False,
    openapi: Annotated[bool, typer.Option("--openapi", help="Print the schema and exit.")] = False,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Serve models and indexes over HTTP, to clients of OpenAI, Cohere, Voyage, Ollama and others.

    \b
    Examples:
      [cyan]multimodal serve[/]                                          embeddings of the starter
      [cyan]multimodal serve memories.lance[/]                           and search
      [cyan]multimodal serve memories.lance --write --api-key SECRET --host 0.0.0.0[/]
      [cyan]multimodal serve --space openclip/ViT-B-32:laion2b_s34b_b79k --alias text-embedding-3-small=starter[/]

    Only this machine can connect unless a key or --no-auth is given with another --host. SIGTERM lets running requests
    finish.
    """
    _require()
    from multimodal.server.app import find_endpoints
    from multimodal.server.config import ServerConfig
    from multimodal.server.http import logs
    from multimodal.server.http.schema import openapi as make_schema
    from multimodal.server.run import serve as run_server

    if openapi:
        console.print_json(make_schema(find_endpoints()))
        return
    for path in indexes or ():
        _require_index(path)
    environment_key = os.environ.get(KEY_VARIABLE)
    keys = api_key or ([environment_key] if environment_key and not no_auth else [])
    task_models = {
        "captioning": caption_model, "transcription": transcription_model, "generation": generation_model,
        "answering": [answer_model] if answer_model is not None else None,
    }  # fmt: skip
    config = ServerConfig(
        indexes=tuple(indexes or ()),
        spaces=tuple(space or ()),
        host=host,
        port=port,
        api_keys=tuple(keys),
        no_auth=no_auth,
        write=write,
        allow_urls=tuple(allow_urls or ()),
        allow_hosts=tuple(allow_host or ()),
        cors=tuple(cors or ()),
        aliases=_aliases(alias),
        task_models={task: tuple(names) for task, names in task_models.items() if names},
        load_options=load_options,
        log_requests=log_requests,
        telemetry=telemetry,
    )
    logs.configure()

    def announce(url: str) -> None:
        if json:
            typer.echo(jsonlib.dumps({"url": url}))  # one line, which a program can wait for
        else:
            console.note(f"serving at {url} (stop with Ctrl-C)")

    code = run_server(config, announce)
    if code:
        raise typer.Exit(code)


def _require() -> None:
    """Raises MissingExtra unless the libraries of the server are installed."""
    import importlib.util

    from multimodal.core.errors import MissingExtra

    packages = {"starlette": "starlette", "uvicorn": "uvicorn", "orjson": "orjson", "pydantic": "pydantic",
                "httptools": "httptools", "prometheus_client": "prometheus-client"}  # fmt: skip
    for module, package in packages.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("multimodal serve", package=package, extra="serve")


def _require_index(path: AnyPath) -> None:
    from multimodal.cli.indexes.search import require_index

    require_index(path)


def _aliases(pairs: list[str] | None) -> dict[str, str]:
    aliases = {}
    for pair in pairs or ():
        name, sign, model = pair.partition("=")
        if not name or not model or not sign:
            raise typer.BadParameter(f"{pair!r} is not ALIAS=NAME", param_hint="--alias")
        aliases[name] = model
    return aliases
