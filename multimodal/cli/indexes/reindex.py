"""`multimodal reindex`: encode the items of an index with another model into a new index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.indexes.index import run_job
from multimodal.core.remote.path import AnyPath


@options.with_runtime()
def reindex(
    index: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX",
            help="The index to read; it stays as it is.",
            show_default=False,
            parser=options.index_place,
        ),
    ],
    space: Annotated[
        str, typer.Option("--space", metavar="NAME", help="The model of the new index.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="The new index, or one to continue. \\[default: INDEX with the model's name appended]",
            show_default=False,
        ),
    ] = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = 32,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once if another process is writing to the new index.")
    ] = False,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Encode the items of an index with another model into a new index.

    \b
    Examples:
      [cyan]multimodal reindex memories.lance --space openclip/ViT-B-32:laion2b_s34b_b79k[/]
      [cyan]multimodal reindex memories.lance --space ./my-space -o better.lance --json[/]

    Files, tables and archives are read again; ids and metadata stay the same. Items whose source is gone are failures
    (exit code 3). An interrupted job resumes when the command is repeated.
    """
    from multimodal.core.catalog import load
    from multimodal.index import Index
    from multimodal.index.administration import IndexAdministration
    from multimodal.index.opening import index_folder, same_place

    old = IndexAdministration.without_space(index)
    target = output or default_output(index, space)
    if same_place(index_folder(target), old.path):
        raise typer.BadParameter("the new index cannot take the place of the old one", param_hint="--output")
    with console.working(f"loading {space}", quiet=json):
        new = Index.create(target, load(space, **load_options), exist_ok=True)
    how: dict[str, Any] = {"threads": threads, "batch_size": batch_size}
    run_job(new, target, lambda more: new.add_index(old, **how, **more), no_wait=no_wait, json=json)


def default_output(index: AnyPath, space: str) -> AnyPath:
    """`memories.lance` and `openclip/ViT-B-32:laion2b` -> `memories-openclip-vit-b-32-laion2b.lance`."""
    name = re.sub(
        r"[^a-z0-9]+", "-", Path(space).name.lower() if space.startswith((".", "/")) else space.lower()
    )
    return index.with_name(f"{index.stem}-{name.strip('-')}{Path(index.name).suffix}")
