"""`multimodal demo`: words, pictures and spoken words of a small gallery find each other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodal.cli import console
from multimodal.cli.demo.generative import make
from multimodal.cli.demo.result import PLURALS, Answer, Demo, Question, Verdict, name_of, near
from multimodal.core.errors import MultimodalError
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.index import Index

HITS = 5
INDEX_NAME, REPORT_NAME = "gallery.lance", "report.html"
WIDTHS = (20, 23, 23, 23)  # the columns of all tables stand under each other, within 100 characters

QUESTIONS = (
    Question("Words find pictures", "a dog", Modality.IMAGE),
    Question("Words find pictures", "a purple car", Modality.IMAGE),
    Question("Words find pictures", "something to eat", Modality.IMAGE),
    Question("A spoken word finds pictures", Path("sounds/guitar.flac"), Modality.IMAGE),
    Question("A spoken word finds pictures", Path("sounds/rocket.flac"), Modality.IMAGE),
    Question("A picture finds spoken words", Path("pictures/cat-at-home.jpg"), Modality.AUDIO),
    Question("A picture finds spoken words", Path("pictures/rainbow.jpg"), Modality.AUDIO),
    Question("A picture finds pictures like it", Path("pictures/dog-on-meadow.jpg"), Modality.IMAGE),
    Question("A picture finds pictures like it", Path("pictures/tropical-fish.webp"), Modality.IMAGE),
    Question("Words find everything at once", "birthday party", None),
    Question("Words find everything at once", "a day in the snow", None),
)
CHOICES = (
    ("A picture sorted into labels", Path("pictures/bicycle-in-town.jpg"),
     ("bicycle", "automobile", "horse", "airplane", "sailboat", "rocket")),
    ("A spoken word sorted into labels", Path("sounds/penguin.flac"),
     ("penguin", "owl", "elephant", "fish", "butterfly", "horse")),
)  # fmt: skip


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Where the index and the report are written."),
    ] = Path("demo"),
    space: console.SpaceName = "starter",
    json: console.AsJson = False,
) -> None:
    """Index a small gallery, search it with words, pictures and speech, and draw and caption. Offline, in seconds.

    \b
    Examples:
      [cyan]multimodal demo[/]                     tables here, pictures and sound in demo/report.html
      [cyan]multimodal demo --output /tmp/show[/]
      [cyan]multimodal demo --json | jq '.answers[].hits[0].uri'[/]
    """
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
        shown = build_demo(loaded, gallery, output, progress=done)
    report = output / REPORT_NAME
    report.write_text(page(shown), encoding="utf-8")
    total = time.perf_counter() - began
    if json:
        seconds = {"loading_seconds": round(loading, 4), "seconds": round(total, 4)}
        console.print_json(shown.to_dict() | seconds | {"report": str(report)})
    else:
        _print_tables(shown, loading, total)
        out = console.stdout()
        place = console.verbatim(str(report.resolve()))
        out.print(f"\nSee the pictures and hear the voices: [bold]{place}[/]", soft_wrap=True)


def build_demo(
    space: Space, gallery: Path, output: Path, *, progress: Callable[[int], None] | None = None
) -> Demo:
    """Indexes `gallery` into `output`, anew, and asks every question that `space` can take.

    Raises MultimodalError if the gallery is missing, and what the index raises.
    """
    from multimodal.cli.models.info import space_facts
    from multimodal.index import Index

    if not gallery.is_dir():
        raise MultimodalError(f"the gallery is missing from {gallery}; reinstall multimodal")
    output.mkdir(parents=True, exist_ok=True)
    path = output / INDEX_NAME
    if path.is_dir() and not path.is_symlink():  # the last demo's
        shutil.rmtree(path)
    began = time.perf_counter()
    index = Index.create(path, space)
    for room in sorted(folder for folder in gallery.iterdir() if folder.is_dir()):
        index.add(room, progress=None if progress is None else lambda state: progress(state.step))
    indexing = time.perf_counter() - began
    counts: dict[Modality, int] = {}
    for row in index.rows():
        modality = Modality(row["modality"])
        counts[modality] = counts.get(modality, 0) + 1
    return Demo(
        facts=space_facts(space),
        gallery=gallery,
        index=path,
        counts=counts,
        indexing_seconds=indexing,
        answers=tuple(_answers(space, index, gallery)),
        verdicts=tuple(_verdicts(space, gallery)),
        makings=tuple(make(space, gallery)),
    )


def _answers(space: Space, index: Index, gallery: Path) -> list[Answer]:
    found = []
    for question in QUESTIONS:
        query, option = _query(question.query, gallery)
        wanted = question.wanted
        if query.modality not in space.modalities or (wanted is not None and wanted not in space.modalities):
            continue
        began = time.perf_counter()
        hits = index.search(query, k=HITS + 1, modality=wanted)
        seconds = time.perf_counter() - began
        others = [hit for hit in hits if query.uri is None or hit.uri != query.uri]  # not the query itself
        found.append(Answer(question, query, option, tuple(others[:HITS]), seconds))
    return found


def _verdicts(space: Space, gallery: Path) -> list[Verdict]:
    from multimodal.pipelines.classification.pipeline import ZeroShotClassificationPipeline

    judge = ZeroShotClassificationPipeline(space)
    found = []
    for title, path, labels in CHOICES:
        query, _ = _query(path, gallery)
        if not {query.modality, Modality.TEXT} <= set(space.modalities):
            continue
        began = time.perf_counter()
        result = judge(query, labels=list(labels))
        pairs = tuple((one.label, float(one.score)) for one in result)
        found.append(Verdict(title, query, pairs, time.perf_counter() - began))
    return found


def _query(given: str | Path, gallery: Path) -> tuple[Item, str]:
    """The item, and the words that `multimodal search` takes for it."""
    if isinstance(given, str):
        return Text(given), f'"{given}"'
    path = (gallery / given).resolve()
    if path.parent.name == "sounds":
        return Audio(path), f"--audio {near(path)}"
    return Image(path), f"--image {near(path)}"


def _print_tables(demo: Demo, loading: float, total: float) -> None:
    out = console.stdout()
    held = ", ".join(f"{n} {PLURALS.get(modality, modality)}" for modality, n in demo.counts.items())
    out.print(
        f"[bold]{demo.facts['name']}[/] loaded in {loading:.1f} s; {held} indexed in {demo.indexing_seconds:.1f} s; "
        f"all done in {total:.1f} s"
    )
    for title in dict.fromkeys(answer.question.title for answer in demo.answers):
        table = console.make_table("query", "nearest", "second", "third", title=f"\n{title}", widths=WIDTHS)
        for answer in demo.answers:
            if answer.question.title == title:
                cells = [
                    f"[dim]{hit.score:.2f}[/] {_short(name_of(hit, demo.gallery))}" for hit in answer.hits[:3]
                ]
                table.add_row(f"[bold]{_short(name_of(answer.query, demo.gallery))}[/]", *cells)
        out.print(table)
    for verdict in demo.verdicts:
        out.print(f"\n[bold]{verdict.title}[/]: {_short(name_of(verdict.query, demo.gallery))}")
        for label, score in verdict.labels[:3]:
            out.print(f"  {score:>4.0%} [green]{console.bar(score)}[/] {label}")
    for title in dict.fromkeys(making.title for making in demo.makings):
        out.print(f"\n[bold]{title}[/]")
        for making in demo.makings:
            if making.title == title:
                asked = _short(name_of(making.query, demo.gallery))
                made = "a picture, in the report" if making.said is None else console.verbatim(making.said)
                out.print(f"  {asked} [dim]({making.query.modality})[/] → {made}")


def _short(name: str) -> str:
    return console.verbatim(name if name.startswith("“") else Path(name).stem)
