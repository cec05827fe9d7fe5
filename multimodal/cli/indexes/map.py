"""`multimodal map`: an index as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multimodal.cli import console


def map(
    index: Annotated[
        Path, typer.Argument(metavar="INDEX", help="What multimodal index made.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="map.html, a page to walk about in, or map.png.",
            show_default=False,
        ),
    ],
    method: Annotated[str, typer.Option(help="umap, pca, or auto: UMAP where it is installed.")] = "auto",
    centre: Annotated[
        bool,
        typer.Option(
            "--centre/--no-centre", help="Take each kind's mean away, or let the gap between kinds be seen."
        ),
    ] = True,
    limit: Annotated[
        int, typer.Option(min=2, help="Of a larger index, so many are shown, evenly chosen.")
    ] = 20_000,
    max_mb: Annotated[
        float, typer.Option(min=0, help="Of pictures and sounds within the page; the rest are named.")
    ] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same map.")] = 0,
    json: console.AsJson = False,
) -> None:
    """Draw an index: what the model finds alike lies together, coloured by kind.

    \b
    Examples:
      [cyan]multimodal map memories.lance -o map.html[/]
      [cyan]multimodal map memories.lance -o map.png --no-centre[/]
      [cyan]multimodal map memories.lance -o map.html --method pca --json[/]

    The page is one file: it holds its thumbnails and fetches nothing. UMAP and .png need the extra [cyan]map[/].
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
        f"{place}: {report.n_items:,} items by {report.method.upper()}, {size}", soft_wrap=True
    )
    for one in report.notes:
        console.note(one)
