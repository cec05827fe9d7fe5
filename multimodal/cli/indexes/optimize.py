"""`multimodal optimize`: compact an index and build what searches read."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from multimodal.cli import console, options


def optimize(
    index: options.IndexArgument,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exhaustive",
            help="Build LanceDB's vector index, or drop it. By default it is built above ten million items.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model of the index, if its recorded name cannot be loaded.",
            show_default=False,
        ),
    ] = None,
    json: console.AsJson = False,
) -> None:
    """Compact small files and build the search structures now instead of at the first search.

    \b
    Examples:
      [cyan]multimodal optimize memories.lance[/]
      [cyan]multimodal optimize memories.lance --approximate[/]
    """
    from multimodal.index import Index

    began = time.perf_counter()
    with console.working("preparing the index", quiet=json):
        opened = Index.open(index, space)
        opened.optimize(approximate=approximate)
    seconds = time.perf_counter() - began
    if json:
        console.print_json({"index": str(index), "items": len(opened), "seconds": round(seconds, 4)})
    else:
        place = console.verbatim(str(index))
        console.stdout().print(
            f"{place} with {len(opened):,} items is ready ({seconds:.1f} s)", soft_wrap=True
        )
