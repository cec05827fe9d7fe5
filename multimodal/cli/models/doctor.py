"""`multimodal doctor`: does a model do what it must, is everything here that is needed, and what is the cure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.models import environment

if TYPE_CHECKING:
    from multimodal.core.self_test import SelfTestReport

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}


@options.with_runtime()
def doctor(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A model's name or ./folder.", show_default=False)
    ] = None,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Test a model on things drawn for it, or, without a name, this installation.

    \b
    Examples:
      [cyan]multimodal doctor[/]              packages, device, cache, formats, extras
      [cyan]multimodal doctor starter[/]      is it steady, blind to its batch, awake? and how fast
      [cyan]multimodal doctor openclip/ViT-B-32:laion2b_s34b_b79k --precision bfloat16 --json[/]

    ✓ is well, ✗ is not (exit code 1), – may be missing. What is not well comes with its cure.
    """
    if name is None:
        _installation(json)
    else:
        _model(name, load_options, json)


def _installation(json: bool) -> None:
    with console.working("looking around", quiet=json):
        found = list(environment.findings())
    ok = all(one.ok is not False for one in found)
    if json:
        console.print_json({"ok": ok, "findings": [one.to_dict() for one in found]})
    else:
        _table(("what", "found"), [(one.ok, [one.name, one.found], one.cure) for one in found])
    if not ok:
        raise typer.Exit(console.FAILED)


def _model(name: str, how: dict[str, Any], json: bool) -> None:
    from multimodal.core.catalog import load

    began = time.perf_counter()
    with console.working(f"loading {name}", quiet=json):
        space = load(name, **how)
    seconds = time.perf_counter() - began
    with console.working(f"testing {name}", quiet=json):
        report = space.self_test()
    if json:
        how = {
            "runtime_info": space.runtime_info,
            "revisions": space.revisions,
            "load_seconds": round(seconds, 4),
        }
        console.print_json(report.to_dict() | how)
    else:
        _show(report, seconds)
        for modality, runs in space.runtime_info.items():
            console.stdout().print(f"{modality} runs on {console.verbatim(runs)}", soft_wrap=True)
        for repo, commit in space.revisions.items():
            console.stdout().print(f"from {console.verbatim(repo)} at commit {commit}", soft_wrap=True)
    if not report.ok:
        raise typer.Exit(console.FAILED)


def _show(report: SelfTestReport, seconds: float) -> None:
    from multimodal.core.self_test import shown

    rows = [
        (one.ok, [one.name, one.about, shown(one.measured), one.allowed], one.cure) for one in report.checks
    ]
    _table(("check", "says", "measured", "allowed"), rows)
    per_item = ", ".join(f"{modality} {1000 * one:.1f} ms" for modality, one in report.seconds.items())
    console.stdout().print(f"loaded in {seconds:.1f} s; an item takes: {per_item or '–'}", soft_wrap=True)
    if report.failed:
        console.fail(f"{report.space}: {len(report.failed)} of {len(report.checks)} checks do not hold")


def _table(columns: Sequence[str], rows: Sequence[tuple[bool | None, list[str], str]]) -> None:
    """Rows of (is it well, cells, cure); a cure stands below what it is for."""
    table = console.make_table("", *columns)
    for ok, (first, *rest), cure in rows:
        cells = [console.verbatim(cell) for cell in rest]
        if cure:
            cells[0] += f"\n[dim]{console.verbatim(cure)}[/]"
        table.add_row(MARKS[ok], f"[bold]{console.verbatim(first)}[/]", *cells)
    console.stdout().print(table)
