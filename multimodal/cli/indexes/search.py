"""`multimodal search`: search an index with text, images, audio and video."""

from __future__ import annotations

import json as jsonlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.indexes.query import AWAY, KINDS, parse_query
from multimodal.core.errors import IndexStateError
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.index import Hits, Index

CONDITION = re.compile(r"(?P<key>[^=<>]+)(?P<sign><=|>=|<|>|=)(?P<value>.*)", re.DOTALL)
DEFAULT_SPACE = "starter"


def _given(metavar: str, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


@options.with_runtime()
def search(
    index: Annotated[
        Path, typer.Argument(metavar="INDEX", help="An index made by multimodal index.", show_default=False)
    ],
    query: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Text query.")] = None,
    image: Annotated[list[str] | None, _given("FILE", "Image query; may be repeated.")] = None,
    audio: Annotated[list[str] | None, _given("FILE", "Audio query; may be repeated.")] = None,
    video: Annotated[list[str] | None, _given("FILE", "Video query; may be repeated.")] = None,
    away: Annotated[
        list[str] | None, _given("TEXT", "Negative query: penalise similarity to this text.", "--not")
    ] = None,
    near: Annotated[list[str] | None, _given("ID", "Find items similar to this item of the index.")] = None,
    text: Annotated[
        str | None,
        _given("WORDS", 'Keyword search in texts, captions and file names; "in quotes" for a phrase.'),
    ] = None,
    weight: Annotated[
        list[str] | None,
        _given(
            "KIND=NUMBER",
            f"Weight of a part of the query: {', '.join(KINDS)}. \\[default: 1, and {AWAY} for not]",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Number of hits.")] = 10,
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only this modality; may be repeated.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Filter by metadata; also <, <=, >, >=; may be repeated."),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="Skip the first N hits.")] = 0,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Keep only the best of near-duplicates.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Exhaustive search, also where it takes longer.")
    ] = False,
    group: Annotated[
        bool, typer.Option("--group", help="Keep only the best segment of a video, recording or long text.")
    ] = False,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Keep only the best hit per value of KEY.", show_default=False),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            help="Minimum calibrated relevance probability.",
            show_default=False,
        ),
    ] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Rank by cosine similarity across modalities.")
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model of the index, if its recorded name cannot be loaded.",
            show_default=False,
        ),
    ] = None,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Search images, audio, video and text with a text, an image, audio, a video, or several of them.

    \b
    Examples:
      [cyan]multimodal search memories.lance "a sad cat" -k 5 --modality image[/]
      [cyan]multimodal search memories.lance --audio whistle.wav[/]
      [cyan]multimodal search memories.lance "a beach" --image photo.jpg --not people --weight image=0.5[/]
      [cyan]multimodal search memories.lance --near photos/beach.jpg --where place=Rome --where "year>=2020"[/]
      [cyan]multimodal search memories.lance "a sad song" --text "rain" --offset 10[/]

    With --text beside a query, vector and keyword results are fused: hits of both rank first.
    """
    from multimodal.index import Index

    request = parse_query(query, {"image": image, "audio": audio, "video": video}, away, near, text, weight)
    conditions = conditions_of(where)
    request.check()
    if not Index.exists(index):
        problem = "the path holds no index" if index.exists() else "the folder does not exist"
        raise IndexStateError(
            f"no index at {str(index)!r}: {problem}; create one with: multimodal index FOLDER --index {index}"
        )
    if query is not None and Path(query).is_file():
        console.note(f"{query!r} is searched as words; for the file give --image, --audio or --video {query}")
    with console.working("opening the index", quiet=json):
        opened = Index.open(index, _space(index, space, load_options))
    began = time.perf_counter()
    with console.working("searching", quiet=json):
        hits = opened.search(
            request.query, k, similar_to=request.near or None, text=request.text, modality=modality or None,
            where=conditions or None, offset=offset, deduplicate=distinct, exact=exact, calibrated=not uncalibrated,
            min_probability=min_probability, group_by=group_by or group,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    if json:
        about = {"index": str(index), "query": request.to_dict(), "method": hits.method, "note": hits.note}
        answer = {"offset": offset, "hits": [hit.to_dict() for hit in hits], "seconds": round(seconds, 4)}
        console.print_json(about | answer)
    else:
        if hits and hits.note:
            console.note(hits.note)
        _show(hits, offset, min_probability)


def open_or_create(path: Path, space: str | None, how: dict[str, Any]) -> Index:
    """The index at a path, created if it does not exist. space: a name. how: options of `load`."""
    from multimodal.index import Index

    if Index.exists(path):
        return Index.open(path, _space(path, space, how))
    from multimodal.core.catalog import load

    # Another process may create it meanwhile: the job then waits for that writer.
    return Index.create(path, load(space or DEFAULT_SPACE, **how), exist_ok=True)


def _space(index: Path, name: str | None, how: dict[str, Any]) -> Space | str | None:
    """The space to open an index with. Without options, a name or None, which the index resolves itself."""
    if not how:
        return name
    from multimodal.core.catalog import load
    from multimodal.index.storage.table import ItemTable

    if name:
        return load(name, **how)
    about = ItemTable.open(index.expanduser().absolute()).index_metadata
    return load(about.address, **(about.options | how))


def metadata_of(pairs: list[str] | None) -> dict[str, Any]:
    """Parses `KEY=VALUE` arguments. Raises a usage error (exit code 2) for any other form."""
    metadata: dict[str, Any] = {}
    for pair in pairs or ():
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--metadata")
        metadata[key.strip()] = _value(value)
    return metadata


def conditions_of(pairs: list[str] | None) -> dict[str, Any]:
    """Parses conditions such as `year>=2020` for Index.search; conditions on the same key are combined."""
    conditions: dict[str, Any] = {}
    for pair in pairs or ():
        match = CONDITION.fullmatch(pair)
        if match is None:
            raise typer.BadParameter(
                f"{pair!r} is not KEY=VALUE, KEY<VALUE or the like", param_hint="--where"
            )
        key, sign, value = match["key"].strip(), match["sign"], _value(match["value"])
        if sign != "=" and isinstance(conditions.get(key, {}), dict):
            conditions.setdefault(key, {})[sign] = value
        elif key not in conditions:
            conditions[key] = value
        else:
            raise typer.BadParameter(f"{key!r} is given twice, once with =", param_hint="--where")
    return conditions


def _value(text: str) -> str | int | float | bool | None:
    """A number, true, false or null as JSON has them; anything else is text."""
    try:
        value = jsonlib.loads(text)
    except ValueError:
        return text.strip()
    return value if value is None or isinstance(value, str | int | float | bool) else text.strip()


def _show(hits: Hits, offset: int, least: float | None) -> None:
    if not hits:
        left = f" beyond the first {offset:,}" if offset else ""
        lacking = "with these words" if hits.method == "text" else "of that kind"
        lacking = lacking if least is None else f"as likely as {least:g}"
        console.note(f"no results: the index has no items {lacking}{left}")
        return
    extra = {
        "words": [f"{hit.text_score:.1f}" if hit.text_score else "" for hit in hits]
        * (hits.method == "hybrid"),
        "probability": ["" if hit.probability is None else f"{hit.probability:.0%}" for hit in hits],
    }
    extra = {name: column for name, column in extra.items() if any(column)}
    table = console.make_table(
        "", "score", *extra, "modality", "item", right=("score", *extra), unbroken=("item",)
    )
    most = max(hit.score for hit in hits) if hits.method == "text" else 1.0  # BM25 has no upper end
    for row, hit in enumerate(hits):
        place = " · ".join(filter(None, [console.verbatim(_relative(hit.uri or hit.id)), hit.location]))
        what = f"{console.verbatim(hit.snippet)}\n[dim]{place}[/]" if hit.text else place
        bar = f"[green]{console.bar(hit.score / most)}[/]"
        more = [column[row] for column in extra.values()]
        table.add_row(bar, f"{hit.score:.3f}", *more, str(hit.modality), what)
    console.print_table(table)


def _relative(uri: str) -> str:
    """A path below the working directory, shorter."""
    path = Path(uri)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else uri
