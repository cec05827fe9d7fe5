"""`multimodal search`: find things with words, a picture, a sound or a video."""

from __future__ import annotations

import json as jsonlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.core.errors import IndexStateError
from multimodal.core.types import Audio, Image, Item, Modality, Text, Video

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.index import Hit, Index

CONDITION = re.compile(r"(?P<key>[^=<>]+)(?P<sign><=|>=|<|>|=)(?P<value>.*)", re.DOTALL)
DEFAULT_SPACE = "starter"


def search(
    index: Annotated[
        Path, typer.Argument(metavar="INDEX", help="What multimodal index made.", show_default=False)
    ],
    query: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="What to find, in words.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="Find what is like this picture.", show_default=False)
    ] = None,
    audio: Annotated[
        str | None, typer.Option(metavar="FILE", help="Find what is like this sound.", show_default=False)
    ] = None,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="Find what is like this video.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many to find.")] = 10,
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only things of this kind; may be repeated.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Only things with this metadata; also <, <=, >, >=; may be repeated."
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model of the index, if its name is not found.", show_default=False
        ),
    ] = None,
    device: options.Device = options.DEFAULT.device,
    precision: options.Precision = options.DEFAULT.precision,
    decode: options.Decode = options.DEFAULT.decode,
    offline: options.Offline = False,
    json: console.AsJson = False,
) -> None:
    """Find pictures, sounds, videos and texts with words, a picture, a sound or a video.

    \b
    Examples:
      [cyan]multimodal search memories.lance "a sad cat" -k 5 --modality image[/]
      [cyan]multimodal search memories.lance --audio whistle.wav[/]
      [cyan]multimodal search memories.lance --image x.png --where place=Rome --where "year>=2020"[/]
    """
    from multimodal.index import Index

    item = query_item(query, image, audio, video)
    conditions = _conditions(where)
    _ = (
        item.load(n_frames=1) if isinstance(item, Video) else item.load()
    )  # a bad query is told before a model is loaded
    if not Index.exists(index):
        found = "what is there is no index" if index.exists() else "there is no such folder"
        raise IndexStateError(
            f"no index at {str(index)!r}: {found}; make one with: multimodal index FOLDER --index {index}"
        )
    if query is not None and Path(query).is_file():
        console.note(f"{query!r} is searched as words; for the file give --image, --audio or --video {query}")
    with console.working("opening the index", quiet=json):
        opened = Index.open(index, _space(index, space, options.asked(device, precision, decode, offline)))
    began = time.perf_counter()
    hits = opened.search(item, k, modality=modality or None, where=conditions or None)
    seconds = time.perf_counter() - began
    if json:
        asked = {"modality": str(item.modality), "text": query, "uri": item.uri}
        found_rows = [hit.to_dict() for hit in hits]
        console.print_json(
            {"index": str(index), "query": asked, "hits": found_rows, "seconds": round(seconds, 4)}
        )
    else:
        _show(hits)


def query_item(text: str | None, image: str | None, audio: str | None, video: str | None = None) -> Item:
    """The one query that was given. Raises a usage error (exit code 2) for none, or more than one."""
    given: list[Item] = []
    if text is not None:
        given.append(Text(text))
    if image is not None:
        given.append(Image(Path(image).expanduser()))
    if audio is not None:
        given.append(Audio(Path(audio).expanduser()))
    if video is not None:
        given.append(Video(Path(video).expanduser()))
    if len(given) != 1:
        raise typer.BadParameter(
            f"give one query: words, --image, --audio or --video FILE (got {len(given)})", param_hint="WORDS"
        )
    return given[0]


def open_or_create(path: Path, space: str | None, how: dict[str, Any]) -> Index:
    """The index at a path, made if it is not there. space: a name; how: options of `load`."""
    from multimodal.index import Index

    if Index.exists(path):
        return Index.open(path, _space(path, space, how))
    from multimodal.core.catalog import load

    return Index.create(path, load(space or DEFAULT_SPACE, **how))


def _space(index: Path, name: str | None, how: dict[str, Any]) -> Space | str | None:
    """The space to open an index with, told how to run; the index itself finds it if nothing is said about that."""
    if not how:
        return name
    from multimodal.core.catalog import load
    from multimodal.index.store import Store

    return load(name or Store.open(index.expanduser().absolute()).about.address, **how)


def metadata_of(pairs: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` and the like as a dict. Raises a usage error (exit code 2) for what is none."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--metadata")
        found[key.strip()] = _value(value)
    return found


def _conditions(pairs: list[str] | None) -> dict[str, Any]:
    """`year>=2020` and the like, as Index.search takes them; several of one key hold together."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        match = CONDITION.fullmatch(pair)
        if match is None:
            raise typer.BadParameter(
                f"{pair!r} is not KEY=VALUE, KEY<VALUE or the like", param_hint="--where"
            )
        key, sign, value = match["key"].strip(), match["sign"], _value(match["value"])
        if sign != "=" and isinstance(found.get(key, {}), dict):
            found.setdefault(key, {})[sign] = value
        elif key not in found:
            found[key] = value
        else:
            raise typer.BadParameter(f"{key!r} is asked for twice, once with =", param_hint="--where")
    return found


def _value(text: str) -> str | int | float | bool | None:
    """A number, true, false or null as JSON has them; anything else is text."""
    try:
        value = jsonlib.loads(text)
    except ValueError:
        return text.strip()
    return value if value is None or isinstance(value, str | int | float | bool) else text.strip()


def _show(hits: list[Hit]) -> None:
    if not hits:
        console.note("nothing found: the index holds nothing of that kind")
        return
    table = console.make_table("", "score", "kind", "what", right=("score",))
    for hit in hits:
        place = console.verbatim(_relative(hit.uri or hit.id))
        what = f"{console.verbatim(hit.snippet)}\n[dim]{place}[/]" if hit.text else place
        table.add_row(f"[green]{console.bar(hit.score)}[/]", f"{hit.score:.3f}", str(hit.modality), what)
    console.stdout().print(table)


def _relative(uri: str) -> str:
    """A path below the working directory, shorter."""
    path = Path(uri)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else uri
