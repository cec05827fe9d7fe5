"""`multimodal calibrate`: fit the probabilities of an index to labelled pairs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.indexes.query import item_id
from multimodal.cli.indexes.search import open_existing
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, Text
from multimodal.core.media.registry import open_as
from multimodal.core.modality import Modality

QUERY_COLUMNS = ("query", "image", "audio", "video")
LABELS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": True}


@options.with_runtime()
def calibrate(
    index: options.IndexArgument,
    labels: Annotated[
        Path | None,
        typer.Argument(
            metavar="[LABELS.csv]",
            help="Pairs: the columns query (a text) or image, audio, video (a file), id, and relevant (1 or 0).",
            show_default=False,
        ),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Return to the built-in calibration.")] = False,
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
    """Fit the probabilities of hits to labelled pairs of a query and an item.

    \b
    Examples:
      [cyan]multimodal calibrate memories.lance labels.csv[/]
      [cyan]multimodal calibrate memories.lance --reset[/]

    An id is that of an item or document; for files, their path. If all pairs of a query are relevant, other items count
    as irrelevant to it; otherwise only labelled items count.
    """
    if (labels is None) != reset:
        raise typer.BadParameter("give either a file of labels or --reset", param_hint="LABELS.csv")
    if labels is None:
        from multimodal.index.administration import IndexAdministration

        removed = IndexAdministration.without_space(index).reset_calibration()
        if json:
            console.print_json({"index": str(index), "removed": removed})
        else:
            console.stdout().print(
                "the built-in calibration applies again" if removed else "there was none to remove"
            )
        return
    pairs = list(read_pairs(labels))
    with console.working("opening the index", quiet=json):
        opened = open_existing(index, space, load_options)
    with console.working("calibrating", quiet=json):
        report = opened.calibrate(pairs)
    if json:
        console.print_json({"index": str(index)} | report.to_dict())
    else:
        console.stdout().print(str(report), soft_wrap=True)


def read_pairs(path: Path) -> Iterator[tuple[Item, str, bool]]:
    """(query, id, relevant) of each line of a CSV file. Raises InvalidInput with the number of an invalid line."""
    try:
        with path.expanduser().open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            if "id" not in names or not set(QUERY_COLUMNS) & set(names):
                raise InvalidInput(
                    f"{path}: the first line must name the columns query (or image, audio, video) and id; got "
                    f"{', '.join(names) or 'an empty file'}"
                )
            for row in reader:
                yield _pair(
                    {name: (value or "").strip() for name, value in row.items() if name},
                    path,
                    reader.line_num,
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"{path}: cannot be read as CSV in UTF-8 ({error}); name a file such as labels.csv"
        ) from error


def _pair(row: dict[str, str], path: Path, line: int) -> tuple[Item, str, bool]:
    given = [(name, row[name]) for name in QUERY_COLUMNS if row.get(name)]
    if len(given) != 1 or not row["id"]:
        raise InvalidInput(
            f"{path}, line {line}: a line has an id and one query, in one of the columns {', '.join(QUERY_COLUMNS)}; "
            f"got {row}"
        )
    relevant = LABELS.get(row.get("relevant", "").lower())
    if relevant is None:
        raise InvalidInput(f"{path}, line {line}: relevant must be 1 or 0, got {row['relevant']!r}")
    name, value = given[0]
    base = path.expanduser().absolute().parent
    query = (
        Text(value, uri=value)
        if name == "query"
        else open_as(base / Path(value).expanduser(), Modality(name))
    )
    file = base / Path(row["id"]).expanduser()
    return query, item_id(str(file)) if file.exists() else row["id"], relevant
