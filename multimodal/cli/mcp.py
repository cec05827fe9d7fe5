"""`multimodal mcp`: a server for assistants that speak the Model Context Protocol, over stdin and stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import options


@options.with_runtime()
def mcp(
    indexes: Annotated[
        list[Path],
        typer.Argument(
            metavar="INDEX...",
            help="Indexes made by multimodal index.",
            show_default=False,
            parser=options.index_place,
        ),
    ],
    caption_model: Annotated[
        str, typer.Option(metavar="NAME", help="The model of the tool caption.")
    ] = "starter",
    transcription_model: Annotated[
        str, typer.Option(metavar="NAME", help="The model of the tool transcribe.")
    ] = "starter",
    answer_model: Annotated[
        str, typer.Option(metavar="NAME", help="What the tool ask answers by, as of multimodal ask.")
    ] = "extractive",
    *,
    load_options: dict[str, Any],
) -> None:
    """Let an assistant search your indexes: a read-only MCP server on stdin and stdout.

    \b
    Examples:
      [cyan]multimodal mcp memories.lance[/]
      [cyan]claude mcp add memories -- multimodal mcp ~/memories.lance[/]

    Tools: search, ask, get_item, describe_index, caption, transcribe. Items are resources too.
    """
    from multimodal.cli.indexes.search import require_index
    from multimodal.server.mcp.stdio import serve_stdio

    for path in indexes:
        require_index(path)
    serve_stdio(
        indexes,
        captioning=caption_model,
        transcription=transcription_model,
        answering=answer_model,
        load_options=load_options,
    )
