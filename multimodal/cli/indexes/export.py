"""`multimodal export-index`: write the rows and vectors of an index to a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from multimodal.cli import console, options
from multimodal.cli.indexes.search import conditions_of
from multimodal.core.modality import Modality


def export_index(
    index: options.IndexArgument,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="out.parquet, out.jsonl, or out.npy: the vectors, with their rows in out.jsonl.",
            show_default=False,
        ),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Filter by metadata, as in search; may be repeated."),
    ] = None,
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only this modality; may be repeated.", show_default=False),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="Include the vectors.", show_default=True)
    ] = True,
    overwrite: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    *,
    json: console.AsJson = False,
) -> None:
    """Export the items of an index: id, uri, modality, text, metadata, position in the document, and vector.

    \b
    Examples:
      [cyan]multimodal export-index memories.lance rows.parquet[/]
      [cyan]multimodal export-index memories.lance rows.jsonl --no-vectors --where album=Rome[/]
      [cyan]multimodal export-index memories.lance vectors.npy --modality image --json[/]
    """
    from multimodal.index.administration import IndexAdministration

    if not vectors and output.suffix.lower() == ".npy":
        raise typer.BadParameter("a .npy file holds the vectors; leave it out", param_hint="--no-vectors")
    began = time.perf_counter()
    opened = IndexAdministration.without_space(index)
    with console.working("exporting", quiet=json):
        n = opened.export(
            output,
            vectors=vectors,
            modality=modality or None,
            where=conditions_of(where) or None,
            overwrite=overwrite,
        )
    seconds = time.perf_counter() - began
    if json:
        console.print_json(
            {"index": str(index), "output": str(output), "items": n, "seconds": round(seconds, 4)}
        )
    else:
        console.stdout().print(
            f"{console.verbatim(str(output))}: {n:,} items ({seconds:.1f} s)", soft_wrap=True
        )
