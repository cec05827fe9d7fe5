"""`multimodal export`: writes a model for ONNX Runtime, quantised as far as the vectors allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from multimodal.cli import console

if TYPE_CHECKING:
    from multimodal.exporting.export import Quantize

MODES = "none, float16, int8 or auto"


def export(
    name: Annotated[
        str, typer.Argument(metavar="SPACE", help="A model's name or ./folder.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder.", show_default=False)
    ],
    quantize: Annotated[
        str, typer.Option(help=f"How weights are stored: {MODES} (the smallest that passes).")
    ] = "none",
    modality: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this modality; may be repeated.", show_default=False),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Files to compare with, instead of the gallery's.", show_default=False
        ),
    ] = None,
    json: console.AsJson = False,
) -> None:
    """Export a model for ONNX Runtime, and check every tower against its source.

    \b
    Examples:
      [cyan]multimodal export starter -o exported[/]
      [cyan]multimodal export starter -o small --quantize int8[/]
      [cyan]multimodal export hf/openai/clip-vit-base-patch32 -o clip --quantize auto --json[/]

    A quantised tower is refused, and nothing written, if its worst cosine is below 0.98, R@1 falls by more than a
    point, or a vector changes with its batch. [cyan]load("onnx/./exported")[/] runs the result without torch.
    Needs the extra [cyan]export[/].
    """
    from multimodal.core.catalog import load
    from multimodal.exporting import export as write

    with console.working(f"exporting {name}", quiet=json):
        space = load(name)
        if modality:
            space = space.select(*modality)
        items = None if sample is None else list(_items(sample))
        report = write(space, out, quantize=cast("Quantize", quantize), sample=items)
    if json:
        console.print_json(report.to_dict())
        return
    from multimodal.exporting.report import COLUMNS

    table = console.make_table(*COLUMNS)
    for tower in report.towers:
        table.add_row(*map(console.verbatim, tower.cells()))
    console.stdout().print(table)
    for tower in report.towers:
        for tried in tower.tried:
            console.note(f"{tower.modality}: not kept: {tried}")
    place, size = console.verbatim(report.folder), f"{report.n_bytes / 1e6:.1f} MB"
    console.stdout().print(f"{place}: {len(report.towers)} towers, {size}", soft_wrap=True)


def _items(folder: Path) -> Iterator[object]:
    """The files of a folder as items of the modality that their content shows."""
    from multimodal.core.errors import InvalidInput, MediaError
    from multimodal.core.items import as_item

    if not folder.is_dir():
        raise InvalidInput(f"--sample must be a folder of files, got {str(folder)!r}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(MediaError):
            yield as_item(path)
