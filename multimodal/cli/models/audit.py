"""`multimodal audit`: findings beside their controls, and failures that models share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options

REPORT_SUFFIXES = (".html", ".json")

if TYPE_CHECKING:
    from multimodal.adapt.fewshot.classifier import Classifier
    from multimodal.auditing import AuditReport, FleetReport


@options.with_runtime()
def audit(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="A model; with --fleet two or more.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Your images, audio or labelled rows; by default the gallery."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Compare accuracy, calibration and ranking by it.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What is generalised to, such as the speaker.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another model in use, or the file of a few-shot classifier: do both fail alike? May be repeated.",
        ),
    ] = None,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="On how many items do all of these models fail?")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="More severities and trials, and an attack.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report: .html or .json.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(metavar="warn", help="Exit with 1 if a finding is a warning.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Audit a model: damage, written words, associations, word order, groups, and failures shared with other models.

    \b
    Examples:
      [cyan]multimodal audit starter -o audit.html[/]
      [cyan]multimodal audit starter --against ./child --data people.csv --group gender[/]
      [cyan]multimodal audit --fleet starter ./child ./other[/]

    Without data it tests the gallery of the package. Each finding stands beside a control with a 95 % interval, and the
    report lists what was not tested.
    """
    from multimodal.auditing import audit as run
    from multimodal.auditing import audit_fleet
    from multimodal.core.catalog import load

    if fail_on not in (None, "warn"):
        raise typer.BadParameter(f"{fail_on!r}: the only level is warn", param_hint="--fail-on")
    if not fleet and len(names) > 1:
        raise typer.BadParameter(
            "name one model, the others with --against, or use --fleet", param_hint="MODEL"
        )
    console.check_output(output, "--output", REPORT_SUFFIXES)
    if fleet:
        console.refuse_options(
            "with --fleet", unit=unit, against=against, full=full, output=output, fail_on=fail_on
        )
        if len(set(names)) < len(names):
            raise typer.BadParameter(f"got a model twice: {', '.join(names)}", param_hint="MODEL")
        with console.working("auditing the fleet", quiet=json):
            models = {name: _classifier(name) or load(name, **load_options) for name in names}
            report = audit_fleet(list(models.values()), data, group=group, seed=seed, names=list(models))
        _print_fleet(report, as_json=json)
        return
    with console.working(f"loading {names[0]}", quiet=json):
        model = load(names[0], **load_options)
    with console.progress(f"auditing {names[0]}", None, quiet=json) as done:
        found = run(
            model,
            data,
            group=group,
            unit=unit,
            against=[_classifier(name) or name for name in against or ()],
            full=full,
            seed=seed,
            progress=done,
        )
    if output is not None:
        found.save(output)
    if json:
        console.print_json(found.to_dict())
    else:
        _show(found, output)
    if fail_on and found.warnings:
        raise typer.Exit(console.FAILED)


def _classifier(name: str) -> Classifier | None:
    """The classifier in a file that `multimodal teach` wrote; None for anything else."""
    path = Path(name).expanduser()
    if not path.is_file():  # a space has a name, or is a folder
        return None
    from multimodal.adapt.fewshot.loading import load_classifier

    return load_classifier(path)


def _show(report: AuditReport, output: Path | None) -> None:
    table = console.make_table("", "finding", "value", "95 % interval", "control", right=("value", "control"))
    for finding in report.findings:
        colour = {"warn": "yellow", "fine": "green"}.get(finding.verdict, "dim")
        interval = "none" if finding.low is None else f"{finding.low:.2f} – {finding.high:.2f}"
        table.add_row(
            f"[{colour}]{finding.verdict}[/]",
            console.verbatim(finding.claim),
            f"{finding.measured:.2f}",
            interval,
            f"{finding.control_value:.2f}",
        )
    console.print_table(table)
    for line in (*report.lineage, *(f"related to {name}" for name in report.shared_by)):
        console.stdout().print(console.verbatim(line))
    for what, why in report.untested.items():
        console.note(f"not tested: {what}: {why}")
    n = len(report.warnings)
    where = "" if output is None else f"; report in {output}"
    console.stdout().print(console.verbatim(f"{n} of {len(report.findings)} findings are warnings{where}"))


def _print_fleet(report: FleetReport, *, as_json: bool) -> None:
    if as_json:
        console.print_json(report.to_dict())
        return
    table = console.make_table("model", "fails", right=("fails",))
    for name, share in report.fail.items():
        table.add_row(console.verbatim(name), f"{share:.1%}")
    console.print_table(table)
    pairs = console.make_table(
        "pair", "both fail", "same wrong answer", "known", right=("both fail", "same wrong answer")
    )
    for pair in report.pairs:
        known = report.relations.get(f"{pair.first}, {pair.second}", pair.relation)
        names = console.verbatim(f"{pair.first}, {pair.second}")
        pairs.add_row(names, f"{pair.both:.1%}", f"{pair.same_wrong:.0%}", console.verbatim(known))
    console.print_table(pairs)
    shares = report.all_fail
    expected = shares["independent within strata"] or 0.0
    ratio = "" if report.ratio is None else f", {report.ratio:.1f} times that"
    observed = shares["observed"] or 0.0
    line = (
        f"all fail on {observed:.1%} of {report.n} items; independent models would on {expected:.1%}{ratio}"
    )
    console.stdout().print(console.verbatim(line), soft_wrap=True)
