"""`multimodal classify`: classification of files and texts, by labels in words or by a taught classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console, options, remote
from multimodal.cli.tasks import inputs


@options.with_runtime()
def classify(
    files: inputs.Files = None,
    text: inputs.Texts = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Candidate labels, separated by commas.", show_default=False),
    ] = None,
    taught: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE", help="A classifier that [bold]multimodal teach[/] wrote."),
    ] = None,
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
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME",
            help="A model that [bold]multimodal models[/] lists, or ./folder. \\[default: starter, or that of --with]",
        ),
    ] = None,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Classify images, audio, video and text: with labels in words (zero-shot), or with a classifier you taught.

    \b
    Examples:
      [cyan]multimodal classify photo.jpg --labels cat,dog[/]
      [cyan]multimodal classify *.jpg --labels "red car,blue car" --template "a picture of a {}"[/]
      [cyan]multimodal classify clip.wav --labels guitar,piano,drum --json[/]
      [cyan]multimodal classify *.jpg --with birds.clf[/]
    """
    if (labels is None) == (taught is None):
        raise typer.BadParameter("give --labels, or --with and a classifier", param_hint="--labels")
    if taught is not None and (template or multi_label):
        raise typer.BadParameter(
            "a taught classifier has no templates and one label per input", param_hint="--with"
        )
    given = inputs.read_inputs(files, text)
    call_options: dict[str, Any] = {}
    with console.working(f"loading {space or taught or 'starter'}", quiet=json):
        if taught is not None:
            classifier = _load_taught(taught, space, load_options)
        else:
            classifier, call_options = _load_zero_shot(
                str(labels), space, template, multi_label, load_options
            )
    with console.progress("classifying", len(given), quiet=json) as done:
        good, failures = inputs.run_batches(given, lambda items: classifier(items, **call_options), done)
    if json:
        rows = [_row(name, result) for name, _, result in good]
        named = space or ("starter" if taught is None else classifier.space.name)
        console.print_json({"space": named, "results": rows, "failed": inputs.failed_rows(failures)})
    else:
        _show_labels([(name, result) for name, _, result in good])
    inputs.finish(len(good), failures)


def _load_zero_shot(
    labels: str,
    space: str | None,
    template: list[str] | None,
    multi_label: bool,
    load_options: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """(the pipeline, the options of its calls)."""
    from multimodal.core.catalog import load
    from multimodal.core.pipeline import pipeline

    names = [label.strip() for label in labels.split(",") if label.strip()]
    call_options: dict[str, Any] = {"labels": names, "multi_label": multi_label}
    if template:
        call_options["templates"] = template
    connected = remote.client(load_options)
    if connected is not None:
        if space is not None:
            call_options["model"] = remote.space_of(connected, space).name
        return connected.classify, call_options
    loaded = load(space or "starter", **load_options)
    return pipeline("zero-shot-classification", model=loaded), call_options


def _load_taught(path: Path, space: str | None, load_options: dict[str, Any]) -> Any:
    from multimodal.adapt.fewshot.loading import load_classifier
    from multimodal.core.catalog import load

    if space is None:
        return load_classifier(path, **load_options)
    return load_classifier(path, load(space, **load_options))


def _row(name: str, result: Any) -> dict[str, Any]:
    fields = result.to_dict()
    return {"input": name, "labels": fields.pop("scores")} | fields


def _show_labels(results: Sequence[tuple[str, Any]]) -> None:
    for name, ranked in results:
        console.stdout().print(f"[bold]{console.verbatim(name)}[/]", soft_wrap=True)
        table = console.make_table("", "label", "probability", right=("probability",))
        for guess in ranked:
            table.add_row(
                f"[green]{console.bar(guess.score)}[/]", console.verbatim(guess.label), f"{guess.score:.1%}"
            )
        console.print_table(table)
        if near := getattr(ranked, "nearest", ()):
            shown = ", ".join(
                f"{example.name} ({example.label}, {example.similarity:.2f})" for example in near
            )
            console.stdout().print(f"nearest examples: {console.verbatim(shown)}", soft_wrap=True)
        if getattr(ranked, "rejected", False):
            candidates = " or ".join(ranked.candidates) or "none of the labels"
            console.stdout().print(f"[yellow]rejected, {ranked.reason}[/]: {console.verbatim(candidates)}")
