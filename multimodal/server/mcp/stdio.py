"""An MCP server on stdin and stdout, as assistants on the same machine start it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.adapters import split_options
from multimodal.core.errors import InvalidInput, MissingExtra
from multimodal.core.items import Item
from multimodal.core.pipeline import pipeline
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.server.mcp.tools import IndexTools

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from multimodal.core.remote.path import GivenPath
    from multimodal.core.space import Space
    from multimodal.index import Index


def mcp_server(
    indexes: Sequence[Index | GivenPath],
    *,
    captioning: str = "starter",
    transcription: str = "starter",
    answering: str = "extractive",
    load_options: Mapping[str, Any] | None = None,
) -> Server[Any]:
    """An MCP server on indexes, for any transport of the `mcp` package. Models are loaded when a tool first needs them.

    Args:
        indexes: Indexes, or their folders, which are opened on first use. The first is the default of the tools.
        captioning: The model of the tool `caption`, see `CaptioningPipeline.from_pretrained`.
        transcription: The model of the tool `transcribe`, see `TranscriptionPipeline.from_pretrained`.
        answering: What the tool `ask` answers by, see `AnsweringPipeline.from_pretrained`.
        load_options: Options of `load`, such as the device, for the spaces of the folders and for both models.

    Returns:
        The server.

    Raises:
        IndexStateError: A folder holds no index.
        InvalidInput: Two indexes have the same name.
        MissingExtra: The `mcp` package is not installed.
    """
    _require_mcp()
    import anyio
    import anyio.to_thread

    from multimodal.server.mcp.protocol import build_server

    of_spaces, options = split_options(load_options or {})
    opened = {name: _opener(index, of_spaces) for name, index in index_names(indexes).items()}
    tools = IndexTools(
        opened,
        caption=_task(functools.partial(pipeline, "captioning", model=captioning, **options), caption_result),
        transcribe=_task(
            functools.partial(pipeline, "transcription", model=transcription, **options), transcription_result
        ),
        answer=_answers(opened, answering, options),
    )
    worker = anyio.CapacityLimiter(
        1
    )  # torch uses every core for one call: two at once would only wait for them

    async def run(call: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(call, limiter=worker)

    return build_server(tools, run)


def serve_stdio(indexes: Sequence[Index | GivenPath], **options: Any) -> None:
    """Serves indexes on stdin and stdout until stdin closes.

    Args:
        indexes: As of `mcp_server`.
        **options: As of `mcp_server`.

    Raises:
        IndexStateError: A folder holds no index.
        MissingExtra: The `mcp` package is not installed.
    """
    _require_mcp()
    import anyio
    from mcp.server.stdio import stdio_server

    server = mcp_server(indexes, **options)

    async def serve() -> None:
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())

    anyio.run(serve)


def _require_mcp() -> None:
    try:
        import mcp.server  # noqa: F401
    except ImportError as error:
        raise MissingExtra("a server for assistants", package="mcp", extra="mcp") from error


def _folder(index: Index | GivenPath) -> AnyPath:
    from multimodal.index.opening import index_folder

    return index_folder(index) if isinstance(index, str | os.PathLike | RemotePath) else index.path


def index_names(
    indexes: Sequence[Index | GivenPath],
) -> dict[str, Index | GivenPath]:
    """A short name for each index: that of its folder without .lance. Raises InvalidInput for equal names."""
    names: dict[str, Index | GivenPath] = {}
    for index in indexes:
        name = _folder(index).name.removesuffix(".lance")
        if name in names:
            raise InvalidInput(
                f"two indexes are called {name!r}, got {names[name]} and {index}; rename one folder"
            )
        names[name] = index
    return names


def caption_result(result: Any) -> dict[str, Any]:
    """A Caption as the tool `caption` answers it."""
    return {"caption": result.text, "score": round(result.score, 4), "complete": result.complete}


def transcription_result(result: Any) -> dict[str, Any]:
    """A Transcription as the tool `transcribe` answers it."""
    values = result.to_dict()
    return {name: values[name] for name in ("text", "language", "segments", "duration_s", "model")}


def _task(
    load: Callable[[], Any], shown: Callable[[Any], dict[str, Any]]
) -> Callable[[Item], dict[str, Any]]:
    """Calls a pipeline, which is loaded on first use."""
    loaded = _once(load)
    return lambda item: shown(loaded()(item))


def _answers(
    indexes: Mapping[str, Callable[[], Index]], model: str, options: Mapping[str, Any]
) -> Callable[[str, str, Mapping[str, Any]], Any]:
    """Answers from an index by its name; the model is loaded on first use."""
    runtime = {key: value for key, value in options.items() if key in ("device", "precision", "offline")}

    def make(name: str) -> Callable[[], Any]:
        return _once(lambda: pipeline("answering", model=model, index=indexes[name](), **runtime))

    pipelines = {name: make(name) for name in indexes}
    return lambda name, question, call_options: pipelines[name]()(question, **call_options)


def _opener(index: Index | GivenPath, options: dict[str, Any]) -> Callable[[], Index]:
    """Opens an index on first use. Raises IndexStateError at once if there is none."""
    if not isinstance(index, str | os.PathLike | RemotePath):
        return lambda: index
    from multimodal.index import Index
    from multimodal.index.administration import IndexAdministration

    metadata = IndexAdministration.without_space(index)._table.index_metadata

    def open_index() -> Index:
        from multimodal.core.catalog import load

        space: Space | None = load(metadata.address, **(metadata.options | options)) if options else None
        return Index.open(index, space)

    return _once(open_index)


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    """Calls a function on first use, in one thread at a time; an error is raised again at the next use."""
    lock = threading.Lock()
    made: list[Any] = []

    def get() -> Any:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get
