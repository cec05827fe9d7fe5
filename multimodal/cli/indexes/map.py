"""`multimodal map`: a two-dimensional projection of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multimodal.cli import console, options


def map(
    index: options.IndexArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="map.html (interactive), or map.png.",
            show_default=False,
        ),
    ],
    method: Annotated[str, typer.Option(help="umap, pca, or auto (UMAP if installed).")] = "auto",
    centre: Annotated[
        bool,
        typer.Option(
            "--centre/--no-centre", help="Subtract the mean of each modality, or show the modality gap."
        ),
    ] = True,
    limit: Annotated[int, typer.Option(min=2, help="Maximum number of items, evenly sampled.")] = 20_000,
    max_mb: Annotated[
        float,
        typer.Option(min=0, help="Size of the media embedded in the page; further items show their name."),
    ] = 24,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    json: console.AsJson = False,
) -> None:
    """Draw a two-dimensional map of an index, coloured by modality.

    \b
    Examples:
      [cyan]multimodal map memories.lance -o map.html[/]
      [cyan]multimodal map memories.lance -o map.png --no-centre[/]
      [cyan]multimodal map memories.lance -o map.html --method pca --json[/]

    The page is one self-contained file. UMAP and .png need the extra [cyan]map[/].
    """
    from multimodal.views import plot_map

    with console.working("drawing the map (UMAP takes a while to start)", quiet=json):
        report = plot_map(
            index, output, method=method, centre=centre, seed=seed, limit=limit, max_bytes=round(max_mb * 1e6)
        )
    if json:
        console.print_json(report.to_dict())
        return
    place, size = console.verbatim(str(output)), f"{report.n_bytes / 1e6:.1f} MB"
    console.stdout().print(
        f"{place}: {console.counted(report.n_items, 'item')} by {report.method.upper()}, {size}",
        soft_wrap=True,
    )
    for note in report.notes:
        console.note(note)
