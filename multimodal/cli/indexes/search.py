"""`multimodal search`: search an index with text, images, audio and video."""

from __future__ import annotations

import json as jsonlib
import os
import re
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, interrupt, options, remote
from multimodal.cli.indexes.query import AWAY, KINDS, parse_query
from multimodal.cli.wording import in_cli_terms
from multimodal.core.errors import IndexStateError
from multimodal.core.modality import Modality
from multimodal.core.remote.path import AnyPath

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.index import Hits, Index

CONDITION = re.compile(r"(?P<key>[^=<>]+)(?P<sign><=|>=|<|>|=)(?P<value>.*)", re.DOTALL)
UNKNOWN_OPERATOR = re.compile(r"[^<>=!~]+(?P<sign>!=|==|=~|<>|=<|=>|!~|~=)")
DEFAULT_SPACE = "starter"
MIN_TEXT_WIDTH, OTHER_COLUMNS_WIDTH = 40, 28  # in characters; the other columns are the bar and the modality


def _given(metavar: str, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


@options.with_runtime()
def search(
    index: options.IndexArgument,
    query: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Text query.")] = None,
    image: Annotated[list[str] | None, _given("FILE", "Image query; may be repeated.")] = None,
    audio: Annotated[list[str] | None, _given("FILE", "Audio query; may be repeated.")] = None,
    video: Annotated[list[str] | None, _given("FILE", "Video query; may be repeated.")] = None,
    away: Annotated[
        list[str] | None, _given("TEXT", "Negative query: penalise similarity to this text.", "--not")
    ] = None,
    similar_to: Annotated[
        list[str] | None, _given("ID", "Find items similar to this item of the index; may be repeated.")
    ] = None,
    near: Annotated[list[str] | None, typer.Option("--near", hidden=True)] = None,
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
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Keep only the best of near-duplicates.")
    ] = False,
    distinct: Annotated[bool, typer.Option("--distinct", hidden=True)] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Exhaustive search, also where it takes longer.")
    ] = False,
    group_by_document: Annotated[
        bool,
        typer.Option(
            "--group-by-document", help="Keep only the best segment of a video, recording or long text."
        ),
    ] = False,
    group: Annotated[bool, typer.Option("--group", hidden=True)] = False,
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
    rerank: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Order the first hits by a cross-encoder, as st/cross-encoder/ms-marco-MiniLM-L6-v2.",
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
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write the hits to a page with thumbnails and players."),
    ] = None,
    open_page: Annotated[
        bool,
        typer.Option("--open", help="Show the hits in a browser, on a page with thumbnails and players."),
    ] = False,
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
      [cyan]multimodal search memories.lance --similar-to photos/beach.jpg --where place=Rome --where "year>=2020"[/]
      [cyan]multimodal search memories.lance "a sad song" --text "rain" --offset 10[/]
      [cyan]multimodal search memories.lance "a sad cat" --open[/]

    With --text beside a query, vector and keyword results are fused: hits of both rank first.
    """
    request = parse_query(
        query,
        {"image": image, "audio": audio, "video": video},
        away,
        [*(similar_to or ()), *(near or ())],
        text,
        weight,
    )
    conditions = conditions_of(where)
    console.check_output(html, "--html")
    connected = remote.client(load_options)
    if connected is None:  # a server checks what it is sent
        request.check()
        require_index(index)
    if query is not None and Path(query).is_file():
        console.note(f"{query!r} is searched as words; for the file give --image, --audio or --video {query}")
    with console.working("opening the index", quiet=json):
        opened: Any = (
            open_existing(index, space, load_options)
            if connected is None
            else remote.index_of(connected, index, space)
        )
    began = time.perf_counter()
    with console.working("searching", quiet=json):
        hits = opened.search(
            request.query,
            k,
            similar_to=request.similar_to or None,
            text=request.text,
            modality=modality or None,
            where=conditions or None,
            offset=offset,
            deduplicate=deduplicate or distinct,
            exact=exact,
            calibrated=not uncalibrated,
            min_probability=min_probability,
            group_by=group_by or group_by_document or group,
            rerank=rerank,
        )
    seconds = time.perf_counter() - began
    if json:
        about = {"index": str(index), "query": request.to_dict(), "method": hits.method, "note": hits.note}
        answer = {"offset": offset, "hits": [hit.to_dict() for hit in hits], "seconds": round(seconds, 4)}
        console.print_json(about | answer)
    else:
        if hits and hits.note:
            console.note(hits.note)
        _show(hits, offset, min_probability)
    if html is not None or open_page:
        _write_page(hits, html, query or request.text or "", open_page=open_page)


def require_index(path: AnyPath) -> None:
    """Raises IndexStateError if there is no index at a path."""
    from multimodal.index import Index

    if not Index.exists(path):
        is_missing = isinstance(path, Path) and not path.exists()
        problem = "the folder does not exist" if is_missing else "the path holds no index"
        raise IndexStateError(
            f"no index at {str(path)!r}: {problem}; create one with: multimodal index FOLDER --index {path}"
        )


def open_existing(path: AnyPath, space: str | None, how: dict[str, Any]) -> Index:
    """The index at a path. space: a name, or None. how: options of `load`. Raises IndexStateError."""
    from multimodal.index import Index

    require_index(path)
    if interrupt.owns_process():
        from multimodal.index.storage.deferred import import_without

        # LanceDB imports this, and it would import pandas, which takes a fifth of a search
        import_without("pyarrow.dataset", "pandas")
        # Its models would look for plugins of pydantic in every package that is installed
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    return Index.open(path, _space(path, space, how))


def open_or_create(
    path: AnyPath, space: str | None, how: dict[str, Any], vectors: str | None = None
) -> Index:
    """The index at a path, created if it does not exist.

    space: a name. how: options of `load`. vectors: how a new index stores them; None for the default.
    """
    from multimodal.index import Index
    from multimodal.index.opening import check_vectors

    if Index.exists(path):
        opened = Index.open(path, _space(path, space, how))
        check_vectors(opened._table, vectors)
        return opened
    from multimodal.core.catalog import load

    # Another process may create it meanwhile: the job then waits for that writer.
    return Index.create(path, load(space or DEFAULT_SPACE, **how), exist_ok=True, vectors=vectors)


def _space(index: AnyPath, name: str | None, how: dict[str, Any]) -> Space | str | None:
    """The space to open an index with. Without options, a name or None, which the index resolves itself."""
    if not how:
        return name
    from multimodal.core.catalog import load
    from multimodal.index.opening import index_folder
    from multimodal.index.storage.table import ItemTable

    if name:
        return load(name, **how)
    about = ItemTable.open(index_folder(index)).index_metadata
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
        if unknown := UNKNOWN_OPERATOR.match(pair):
            raise typer.BadParameter(
                f"{pair!r} has the operator {unknown['sign']}; there are =, <, <=, > and >=",
                param_hint="--where",
            )
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
        reason = in_cli_terms(hits.note) or f"the index has no items {lacking}{left}"
        console.note(f"no results: {reason}")
        return
    columns = _number_columns(hits)
    table = console.make_table("", *columns, "modality", "item", right=tuple(columns),
                               unbroken=("", *columns, "modality", "item"))  # fmt: skip
    numbers_width = sum(max(map(len, [title, *column])) + 3 for title, column in columns.items())
    text_width = max(MIN_TEXT_WIDTH, console.stdout().width - numbers_width - OTHER_COLUMNS_WIDTH)
    for row, (hit, share) in enumerate(zip(hits, hits.shares(), strict=True)):
        place = " · ".join(
            filter(None, [console.verbatim(console.short_path(hit.uri or hit.id)), hit.location])
        )
        what = place
        if hit.text:
            snippet = textwrap.fill(hit.snippet, text_width)
            what = f"{console.verbatim(snippet)}\n[dim]{place}[/]"
        numbers = [column[row] for column in columns.values()]
        table.add_row(f"[green]{console.bar(share)}[/]", *numbers, str(hit.document_modality), what)
    console.print_table(table)


def _number_columns(hits: Hits) -> dict[str, list[str]]:
    """The numbers of all hits by title; first the one that orders them."""
    columns = {
        "fused_score": ["" if hit.fused_score is None else f"{hit.fused_score:.4f}" for hit in hits],
        "probability": ["" if hit.probability is None else f"{hit.probability:.0%}" for hit in hits],
        "score": [f"{hit.score:.3f}" for hit in hits],
        "words": [f"{hit.text_score:.1f}" if hit.text_score else "" for hit in hits]
        * (hits.method == "hybrid"),
    }
    first = hits.ordered_by
    ordered = {first: columns.pop(first)} | columns
    titles = {"fused_score": "fused"}
    return {titles.get(name, name): column for name, column in ordered.items() if any(column)}


def _write_page(hits: Hits, path: Path | None, title: str, *, open_page: bool) -> None:
    """Writes the page of the hits, to a temporary file without a path, and opens it in a browser if requested."""
    import tempfile
    import webbrowser

    from multimodal.index.html import hits_page

    if path is None:
        descriptor, name = tempfile.mkstemp(prefix="multimodal-search-", suffix=".html")
        os.close(descriptor)
        path = Path(name)
    path.write_text(hits_page(hits, title), encoding="utf-8")
    if not open_page or not webbrowser.open(path.absolute().as_uri()):
        console.note(f"page with the hits: {path}")
