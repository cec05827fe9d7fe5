"""`multimodal delete`: delete items of an index."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.indexes.query import item_id
from multimodal.cli.indexes.search import conditions_of
from multimodal.core.modality import Modality
from multimodal.core.remote.path import AnyPath

if TYPE_CHECKING:
    from multimodal.index.results import Rows

ROWS_SHOWN = 10


def delete(
    index: options.IndexArgument,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]",
            help="Ids of items or documents; for files, their paths.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Filter by metadata, as in search; may be repeated."),
    ] = None,
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only this modality; may be repeated.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once if another process is writing to the index.")
    ] = False,
    *,
    json: console.AsJson = False,
) -> None:
    """Delete items from an index. The files themselves are not touched.

    \b
    Examples:
      [cyan]multimodal delete memories.lance photos/blurred.jpg[/]
      [cyan]multimodal delete memories.lance --where album=Rome --where "year<2010" --dry-run[/]
      [cyan]multimodal delete memories.lance --where album=Rome --yes --json[/]

    What is deleted must meet all conditions. In a terminal, confirmation is asked for first. Indexing the folder again
    brings its files back.
    """
    from multimodal.index.administration import IndexAdministration

    conditions = conditions_of(where)
    if not ids and not conditions and not modality:
        raise typer.BadParameter(
            "name items by ID, or select them with --where or --modality", param_hint="ID..."
        )
    selection: dict[str, Any] = {
        "ids": [item_id(given) for given in ids] if ids else None,
        "where": conditions or None,
        "modality": modality or None,
    }
    opened = IndexAdministration.without_space(index)
    rows = opened.rows(**selection)
    n = len(rows)
    if dry_run:
        _report(index, rows, n, len(opened), json)
        return
    if n and not yes and not json and _is_interactive():
        _show_rows(rows, n)
        typer.confirm(f"delete {n:,} of {len(opened):,} items?", abort=True, err=True)
    deleted = opened.delete(**selection, wait=0 if no_wait else None) if n else 0
    if json:
        console.print_json({"index": str(index), "deleted": deleted, "total": len(opened), "dry_run": False})
        return
    place = console.verbatim(str(index))
    console.stdout().print(f"{deleted:,} deleted; {place} now holds {len(opened):,}", soft_wrap=True)
    if not deleted:
        console.note("no item matched")


def _report(index: AnyPath, rows: Rows, n: int, total: int, json: bool) -> None:
    """What a dry run shows."""
    if json:
        ids = [row["id"] for row in rows]
        console.print_json(
            {"index": str(index), "deleted": 0, "total": total, "dry_run": True, "would_delete": ids}
        )
        return
    _show_rows(rows, n)
    console.stdout().print(f"{n:,} of {total:,} items would be deleted; nothing was written", soft_wrap=True)


def _show_rows(rows: Rows, n: int) -> None:
    if not n:
        return
    table = console.make_table("modality", "item", unbroken=("item",))
    for row in itertools.islice(rows, ROWS_SHOWN):
        table.add_row(row["modality"], console.verbatim(row["uri"] or row["id"]))
    if n > ROWS_SHOWN:
        table.add_row("…", f"and {n - ROWS_SHOWN:,} more")
    console.print_table(table)


def _is_interactive() -> bool:
    return sys.stdin.isatty()
