"""`multimodal classify`: zero-shot classification of files and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.cli.tasks import inputs


@options.with_runtime()
def classify(
    labels: Annotated[
        str,
        typer.Option(metavar="A,B,…", help="Candidate labels, separated by commas.", show_default=False),
    ],
    files: inputs.Files = None,
    text: inputs.Texts = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"a photo of a {}"',
            help="Prompt template; repeat it to average several. imagenet is the set of 80 that CLIP uses.",
        ),
    ] = None,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Score each label independently: several may apply, or none."),
    ] = False,
    space: console.SpaceName = "starter",
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Zero-shot classification of images, audio, video and text with labels of your own.

    \b
    Examples:
      [cyan]multimodal classify photo.jpg --labels cat,dog[/]
      [cyan]multimodal classify *.jpg --labels "red car,blue car" --template "a picture of a {}"[/]
      [cyan]multimodal classify clip.wav --labels guitar,piano,drum --json[/]
    """
    from multimodal.core.catalog import load
    from multimodal.core.pipeline import pipeline

    names = [label.strip() for label in labels.split(",") if label.strip()]
    given = inputs.read_inputs(files, text)
    with console.working(f"loading {space}", quiet=json):
        loaded = load(space, **load_options)
        classifier = pipeline("zero-shot-classification", model=loaded)
    call_options: dict[str, Any] = {"labels": names, "multi_label": multi_label}
    if template:
        call_options["templates"] = template
    with console.progress("classifying", len(given), quiet=json) as done:
        good, failures = inputs.run_batches(given, lambda items: classifier(items, **call_options), done)
    if json:
        rows = [{"input": name, "labels": [guess.to_dict() for guess in result]} for name, _, result in good]
        console.print_json({"space": space, "results": rows, "failed": inputs.failed_rows(failures)})
    else:
        _show_labels([(name, result) for name, _, result in good])
    inputs.finish(len(good), failures)


def _show_labels(results: Sequence[tuple[str, Any]]) -> None:
    for name, ranked in results:
        console.stdout().print(f"[bold]{console.verbatim(name)}[/]", soft_wrap=True)
        table = console.make_table("", "label", "probability", right=("probability",))
        for guess in ranked:
            table.add_row(
                f"[green]{console.bar(guess.score)}[/]", console.verbatim(guess.label), f"{guess.score:.1%}"
            )
        console.stdout().print(table)
