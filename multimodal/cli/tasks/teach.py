"""`multimodal teach`: a classifier from a few examples of each label."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.wording import in_cli_terms

LABELS_SHOWN = 40


@options.with_runtime()
def teach(
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="EXAMPLES",
            help="A folder with one folder per label, or a CSV file with the columns label and path (or text).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the classifier is written.")
    ],
    reject: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of errors to accept, as 0.1: inputs are then rejected where no single label is that certain. "
            "Takes four examples of each label.",
        ),
    ] = None,
    space: console.SpaceName = "starter",
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Teach a classifier from a few examples of each label, without training.

    \b
    Examples:
      [cyan]multimodal teach photos/ -o birds.clf[/]          photos/heron/1.jpg, photos/wren/1.jpg, …
      [cyan]multimodal classify new.jpg --with birds.clf[/]
      [cyan]multimodal teach labels.csv -o mine.clf --reject 0.1[/]
    """
    console.check_output(output, "--output")
    from multimodal.adapt.fewshot.api import few_shot
    from multimodal.core.catalog import load
    from multimodal.core.errors import MediaWarning

    with console.working(f"loading {space}", quiet=json):
        loaded = load(space, **load_options)
    with console.working("encoding examples", quiet=json), warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)  # the files are listed below
        classifier = few_shot(loaded, examples, reject=reject)
    classifier.save(output)
    report = classifier.report
    failures = [(example.name, in_cli_terms(example.reason)) for example in report.skipped]
    if json:
        console.print_json({"classifier": str(output), "space": space} | report.to_dict())
    else:
        _show(report, output)
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED)


def _show(report: Any, output: Path) -> None:
    table = console.make_table("label", "examples", right=("examples",))
    for label, count in list(report.counts.items())[:LABELS_SHOWN]:
        table.add_row(console.verbatim(label), f"{count:,}")
    console.print_table(table)
    if len(report.counts) > LABELS_SHOWN:
        console.stdout().print(f"… {len(report.counts):,} labels in all")
    if report.accuracy is not None:
        low, high = report.interval
        console.stdout().print(
            f"accuracy, each example judged by the others: {report.accuracy:.1%} (95 %: {low:.1%}–{high:.1%})"
        )
    else:
        console.stdout().print("accuracy unknown: that takes two examples of a label")
    if report.coverage is not None:
        console.stdout().print(
            f"coverage of the candidates: {report.coverage:.1%}, {report.set_size:.2f} on average"
        )
    for example in report.doubtful:
        console.note(
            f"{example.name} is labelled {example.label!r}, and the other examples say {example.suggested!r} "
            f"({example.probability:.0%}); is the label right?"
        )
    for remark in report.notes:
        console.note(remark)
    console.stdout().print(f"[green]{console.verbatim(str(output))}[/]", soft_wrap=True)
