"""`multimodal export`: writes a model for ONNX Runtime or OpenVINO, or a page that searches an index in the browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from multimodal.cli import console, options

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.exporting.export import Format, Quantize
    from multimodal.exporting.page.items import Vectors
    from multimodal.exporting.page.media import Media

FORMATS = ("onnx", "openvino", "page")
MODES = "none, float16, int8 or auto"
DEFAULT_MEDIA, DEFAULT_VECTORS = "copy", "auto"


@options.with_runtime("adapter")
def export(
    name: Annotated[
        str, typer.Argument(metavar="SPACE", help="A model's name or ./folder.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder.", show_default=False)
    ],
    format: Annotated[
        str,
        typer.Option(
            help="onnx, openvino, or page: files that search an index in the browser, without a server."
        ),
    ] = "onnx",
    quantize: Annotated[
        str, typer.Option(help=f"How weights are stored: {MODES} (the smallest that passes).")
    ] = "none",
    modality: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this modality; may be repeated.", show_default=False),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Only the first N numbers of each vector, at length one.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Files to compare with, instead of the gallery's.", show_default=False
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="INDEX", help="For a page: the index that it searches.", show_default=False),
    ] = None,
    media: Annotated[
        str, typer.Option(help="For a page: copy, link or none (the files of the items).")
    ] = DEFAULT_MEDIA,
    vectors: Annotated[
        str,
        typer.Option(help="For a page: float32, float16, int8 or auto (by the number of items)."),
    ] = DEFAULT_VECTORS,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Export a model for ONNX Runtime or OpenVINO, checked against its source, or as a page that searches by itself.

    \b
    Examples:
      [cyan]multimodal export starter -o exported[/]
      [cyan]multimodal export starter -o small --quantize int8[/]
      [cyan]multimodal export starter -o small --quantize int8 --format openvino[/]
      [cyan]multimodal export hf/openai/clip-vit-base-patch32 -o clip --quantize auto --json[/]
      [cyan]multimodal export starter -o site --format page --index memories.lance[/]

    A quantised tower is refused, and nothing written, if its worst cosine is below 0.98, R@1 falls by more than a
    point, or a vector changes with its batch. [cyan]load("onnx/./exported")[/] runs the result without torch.
    Needs the extra [cyan]export[/].

    A page runs the starter in the browser. Serve its folder by any web server.
    """
    from multimodal.core.catalog import load
    from multimodal.core.errors import InvalidInput
    from multimodal.exporting import export as write

    if format not in FORMATS:
        raise InvalidInput(f"--format must be {' or '.join(FORMATS)}, got {format!r}")
    if format == "page":
        console.refuse_options("with --format page", quantize=quantize != "none", sample=sample)
        space = load(name, dims=dims, **load_options)
        _page(space.select(*modality) if modality else space, out, index, media, vectors, json=json)
        return
    if index is not None:
        raise InvalidInput("--index is for --format page; add it, or leave --index out")
    console.refuse_options(
        "without --format page", media=media != DEFAULT_MEDIA, vectors=vectors != DEFAULT_VECTORS
    )
    with console.working(f"exporting {name}", quiet=json):
        space = load(name, dims=dims, **load_options)
        if modality:
            space = space.select(*modality)
        items = None if sample is None else list(_items(sample))
        report = write(
            space, out, format=cast("Format", format), quantize=cast("Quantize", quantize), sample=items
        )
    if json:
        console.print_json(report.to_dict())
        return
    from multimodal.exporting.report import COLUMNS

    table = console.make_table(*COLUMNS)
    for tower in report.towers:
        table.add_row(*map(console.verbatim, tower.cells()))
    console.print_table(table)
    for tower in report.towers:
        for tried in tower.tried:
            console.note(f"{tower.modality}: not kept: {tried}")
    place, size = console.verbatim(report.folder), f"{report.n_bytes / 1e6:.1f} MB"
    console.stdout().print(f"{place}: {console.counted(len(report.towers), 'tower')}, {size}", soft_wrap=True)


def _page(space: Space, out: Path, index: Path | None, media: str, vectors: str, *, json: bool) -> None:
    from multimodal.core.errors import InvalidInput
    from multimodal.exporting import export as write

    if index is None:
        raise InvalidInput("--format page searches an index; give --index memories.lance")
    with console.stages(quiet=json) as progress:
        report = write(
            space,
            out,
            format="page",
            index=index,
            media=cast("Media", media),
            vectors=cast("Vectors", vectors),
            progress=progress,
        )
    if json:
        console.print_json(report.to_dict())
        return
    table = console.make_table("part", "size")
    for cells in report.cells():
        table.add_row(*cells)
    console.print_table(table)
    console.list_failures(report.missing)
    place = console.verbatim(report.folder)
    console.stdout().print(
        f"{place}: {console.counted(report.n_items, 'item')}; serve it: python -m http.server -d {place}",
        soft_wrap=True,
    )


def _items(folder: Path) -> Iterator[object]:
    """The files of a folder as items of the modality that their content shows."""
    from multimodal.core.errors import InvalidInput, MediaError
    from multimodal.core.items import as_item

    if not folder.is_dir():
        raise InvalidInput(f"--sample must be a folder of files, got {str(folder)!r}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(MediaError):
            yield as_item(path)
