"""`multimodal demo`: indexes a small gallery, searches across modalities, and writes a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodal.cli import console
from multimodal.cli.demo.data import CONFIDENT, PLURALS, display_name, is_confident

if TYPE_CHECKING:
    from multimodal.cli.demo.data import Demo, QueryResult
    from multimodal.index import Hit

REPORT_NAME = "report.html"
WIDTHS = (20, 23, 23, 23)  # the same columns in all tables, within 100 characters


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the index and the report."),
    ] = Path("demo"),
    space: console.SpaceName = "starter",
    json: console.AsJson = False,
) -> None:
    """Index a small gallery; search, classify, caption, transcribe and generate. Offline, in seconds.

    \b
    Examples:
      [cyan]multimodal demo[/]                     tables here, media in demo/report.html
      [cyan]multimodal demo --output /tmp/show[/]
      [cyan]multimodal demo --json | jq '.queries[].hits[0].uri'[/]
    """
    from multimodal.cli.demo.build import build_demo
    from multimodal.cli.demo.page import page
    from multimodal.core.catalog import load
    from multimodal.core.paths import assets

    gallery = assets() / "gallery"
    began = time.perf_counter()
    with console.working(f"loading {space}", quiet=json):
        loaded = load(space)
    loading = time.perf_counter() - began
    n_files = sum(1 for path in gallery.rglob("*") if path.is_file())
    with console.progress("indexing the gallery", n_files, quiet=json) as done:
        result = build_demo(loaded, gallery, output, progress=done)
    report = output / REPORT_NAME
    report.write_text(page(result), encoding="utf-8")
    total = time.perf_counter() - began
    if json:
        seconds = {"loading_seconds": round(loading, 4), "seconds": round(total, 4)}
        console.print_json(result.to_dict() | seconds | {"report": str(report)})
    else:
        _print_tables(result, loading, total)
        path = console.verbatim(str(report.resolve()))
        console.stdout().print(f"\nReport with images and sound: [bold]{path}[/]", soft_wrap=True)


def _print_tables(demo: Demo, loading: float, total: float) -> None:
    out = console.stdout()
    counts = ", ".join(f"{n} {PLURALS.get(modality, modality)}" for modality, n in demo.counts.items())
    out.print(
        f"[bold]{demo.facts['name']}[/] loaded in {loading:.1f} s; {counts} indexed in "
        f"{demo.indexing_seconds:.1f} s; total {total:.1f} s"
    )
    for title in dict.fromkeys(result.query.title for result in demo.queries):
        table = console.make_table("query", "first", "second", "third", title=f"\n{title}", widths=WIDTHS)
        for result in demo.queries:
            if result.query.title == title:
                table.add_row(*_cells(result, demo.gallery))
        out.print(table)
    if any(is_confident(hit) for result in demo.queries for hit in result.hits):
        out.print(
            f"[dim]cosine, or probability if mixed · [/][green]✓[/][dim] calibrated probability ≥ {CONFIDENT}[/]"
        )
    for classification in demo.classifications:
        name = _short(display_name(classification.item, demo.gallery))
        out.print(f"\n[bold]{classification.title}[/]: {name}")
        for label, score in classification.labels[:3]:
            out.print(f"  {score:>4.0%} [green]{console.bar(score)}[/] {label}")
    for title in dict.fromkeys(generated.title for generated in demo.generated):
        out.print(f"\n[bold]{title}[/]")
        for generated in demo.generated:
            if generated.title == title:
                name = _short(display_name(generated.item, demo.gallery))
                text = generated.text
                made = "an image, in the report" if text is None else console.verbatim(text)
                out.print(f"  {name} [dim]({generated.item.modality})[/] → {made}")


def _cells(result: QueryResult, gallery: Path) -> list[str]:
    query = f"[bold]{_short(display_name(result.item, gallery))}[/]"
    from multimodal.index.results import Hits

    mixed = Hits(result.hits).ordered_by == "probability"
    return [query, *(_cell(hit, gallery, mixed=mixed) for hit in result.hits[:3])]


def _cell(hit: Hit, gallery: Path, *, mixed: bool) -> str:
    number = f"{hit.probability:4.0%}" if mixed and hit.probability is not None else f"{hit.score:.2f}"
    mark = "[green]✓[/]" if is_confident(hit) else " "
    return f"{mark}[dim]{number}[/] {_short(display_name(hit, gallery))}"


def _short(name: str) -> str:
    return console.verbatim(name if name.startswith("“") else Path(name).stem)
