"""`multimodal doctor`: self-test of a model, or a check of the installation."""

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
    """Test a model on synthetic inputs, or, without a name, check this installation.

    \b
    Examples:
      [cyan]multimodal doctor[/]              packages, device, cache, formats, extras
      [cyan]multimodal doctor starter[/]      determinism, batch invariance, collapse, speed
      [cyan]multimodal doctor openclip/ViT-B-32:laion2b_s34b_b79k --precision bfloat16 --json[/]

    ✓ passed, ✗ failed (exit code 1), – optional and missing. Each failure comes with its cure.
    """
    if name is None:
        _installation(json)
    else:
        _model(name, load_options, json)


def _installation(json: bool) -> None:
    with console.working("checking the installation", quiet=json):
        findings = list(environment.findings())
    ok = all(finding.ok is not False for finding in findings)
    if json:
        console.print_json({"ok": ok, "findings": [finding.to_dict() for finding in findings]})
    else:
        _table(
            ("component", "found"),
            [(finding.ok, [finding.name, finding.found], finding.cure) for finding in findings],
        )
    if not ok:
        raise typer.Exit(console.FAILED)


def _model(name: str, load_options: dict[str, Any], json: bool) -> None:
    from multimodal.core.catalog import load

    began = time.perf_counter()
    with console.working(f"loading {name}", quiet=json):
        space = load(name, **load_options)
    seconds = time.perf_counter() - began
    with console.working(f"testing {name}", quiet=json):
        report = space.self_test()
    if json:
        runtime = {
            "runtime_info": space.runtime_info,
            "revisions": space.revisions,
            "load_seconds": round(seconds, 4),
        }
        console.print_json(report.to_dict() | runtime)
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
        (check.ok, [check.name, check.about, shown(check.measured), check.allowed], check.cure)
        for check in report.checks
    ]
    _table(("check", "says", "measured", "allowed"), rows)
    per_item = ", ".join(
        f"{modality} {1000 * seconds_each:.1f} ms" for modality, seconds_each in report.seconds.items()
    )
    console.stdout().print(f"loaded in {seconds:.1f} s; time per item: {per_item or '–'}", soft_wrap=True)
    if report.failed:
        console.fail(f"{report.space}: {len(report.failed)} of {len(report.checks)} checks do not hold")


def _table(columns: Sequence[str], rows: Sequence[tuple[bool | None, list[str], str]]) -> None:
    """Rows of (passed, cells, cure); a cure is printed below its finding."""
    table = console.make_table("", *columns)
    for ok, (first, *rest), cure in rows:
        cells = [console.verbatim(cell) for cell in rest]
        if cure:
            cells[0] += f"\n[dim]{console.verbatim(cure)}[/]"
        table.add_row(MARKS[ok], f"[bold]{console.verbatim(first)}[/]", *cells)
    console.print_table(table)
