"""`multimodal evaluate`: figures with intervals, and paired comparisons of several models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options

if TYPE_CHECKING:
    from multimodal.evaluation import Comparison, Evaluation

FEWEST_ARGUMENTS = 2  # a model and the data
ON_SPACES = ("classification", "retrieval")


@options.with_runtime()
def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="One or more models, then the data: a folder, .csv, .tsv, .jsonl or .tar.",
            show_default=False,
        ),
    ],
    task: Annotated[
        str,
        typer.Option(help="classification, retrieval, captioning, transcription or generation."),
    ] = "classification",
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The unit generalised to, such as the speaker.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="A column of another name, as image=photo; may be repeated."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="The classes; by default those of the data.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(metavar='"a photo of a {}"', help="Prompt template; may be repeated.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of retrieval: the column that asks.")
    ] = None,
    gallery: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of retrieval: the column that is searched.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="The space that scores captions or generated images.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep vectors here; a repeated command continues.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a report (.html) or the result (.json)."),
    ] = None,
    mteb: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help='A benchmark, as "MIEB(lite)", or tasks of MTEB, separated by commas.'
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    *,
    load_options: dict[str, Any],
    cluster: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Evaluate models on labelled or paired data, with 95 % intervals.

    \b
    Examples:
      [cyan]multimodal evaluate starter photos/ --task classification[/]
      [cyan]multimodal evaluate starter ./child pairs.csv --task retrieval --group speaker[/]
      [cyan]multimodal evaluate starter clips.csv --task transcription -o report.html[/]
      [cyan]multimodal evaluate starter --mteb CIFAR10ZeroShot -o results/[/]

    A folder has a sub-folder for each class. Tables have columns named text, image, audio or video, and label, id (rows
    of one id are right answers of each other) and group. Several models are compared in pairs, item by item.
    """
    from multimodal.evaluation import compare

    if mteb is not None and cluster:
        raise typer.BadParameter("--mteb runs on this machine only; leave one out", param_hint="--engine ray")
    if mteb is not None:
        console.refuse_options(
            "with --mteb", group=group, column=column, labels=labels, template=template, query=query,
            gallery=gallery, judge=judge, cache=cache,
        )  # fmt: skip
        _run_mteb(names, mteb, output or Path("results"), load_options, as_json=json)
        return
    if len(names) < FEWEST_ARGUMENTS:
        raise typer.BadParameter("name a model and the data", param_hint="MODEL... DATA")
    if task not in ON_SPACES and "engine" in load_options:
        raise typer.BadParameter(f"models for {task} run by torch; leave it out", param_hint="--engine")
    if task not in (*ON_SPACES, "captioning") and "decode" in load_options:
        raise typer.BadParameter(f"models for {task} decode exactly; leave it out", param_hint="--decode")
    _check_output(output, len(names) - 1)
    call = {
        "group": group,
        "columns": _columns(column),
        "labels": None if labels is None else [label.strip() for label in labels.split(",")],
        "templates": template,
        "query": query,
        "gallery": gallery,
        "judge": judge,
        "cache": cache,
        "seed": seed,
    }
    call |= cluster
    results = _evaluated(names[:-1], names[-1], task, load_options, call, quiet=json)
    pairs = [compare(first, second) for first, second in pairwise(results)]
    if output is not None:
        _save(output, results, pairs)
    if json:
        console.print_json(
            {
                "results": [_without_items(result) for result in results],
                "comparisons": [pair.to_dict() for pair in pairs],
            }
        )
        return
    for result in results:
        _show(result)
    for pair in pairs:
        console.stdout().print(console.verbatim(f"{pair.first} → {pair.second}: {pair}"), soft_wrap=True)


def _evaluated(
    models: Sequence[str],
    data: str,
    task: str,
    load_options: dict[str, Any],
    call: dict[str, Any],
    *,
    quiet: bool,
) -> list[Evaluation]:
    """Evaluates the models one after the other on data that is read once."""
    import dataclasses

    from multimodal.core.catalog import load
    from multimodal.core.pipeline import pipeline
    from multimodal.evaluation import evaluate as run
    from multimodal.evaluation.data import read_table

    table = read_table(data, columns=call.pop("columns"), group=call.pop("group"))
    total = sum(len(row.items) for row in table.rows)
    results = []
    for name in models:
        with console.working(f"loading {name}", quiet=quiet):
            if task in ON_SPACES:
                model: Any = load(name, **load_options)
            else:
                model = pipeline(task, model=name, **load_options) if load_options else name
        with console.progress(f"evaluating {name}", total, quiet=quiet) as done:
            result = run(model, table, task, progress=done, **call)
        results.append(dataclasses.replace(result, model=name))
    return results


def _run_mteb(
    models: Sequence[str], names: str, folder: Path, load_options: dict[str, Any], *, as_json: bool
) -> None:
    """Runs tasks of MTEB; the results lie in `folder` in its layout."""
    from multimodal.evaluation.mteb import evaluate_mteb

    tasks = [name.strip() for name in names.split(",")]
    chosen = tasks[0] if len(tasks) == 1 else tasks
    scores = {
        model: evaluate_mteb(model, chosen, output=folder, progress=not as_json, **load_options)
        for model in models
    }
    if as_json:
        console.print_json({"output": str(folder), "results": scores})
        return
    table = console.make_table("task", *models, right=tuple(models))
    for task in dict.fromkeys(task for results in scores.values() for task in results):
        cells = [scores[model].get(task) for model in models]
        table.add_row(task, *("not run" if cell is None else f"{cell['main_score']:.4f}" for cell in cells))
    console.print_table(table)


def _columns(pairs: Sequence[str] | None) -> dict[str, str]:
    columns = {}
    for pair in pairs or ():
        role, equals, name = pair.partition("=")
        if not (role and equals and name):
            raise typer.BadParameter(f"{pair!r} is not ROLE=NAME, as image=photo", param_hint="--column")
        columns[role] = name
    return columns


def _check_output(output: Path | None, n_models: int) -> None:
    """Refuses a report that could not be written, before anything is evaluated."""
    console.check_output(output, "--output", (".html", ".htm", ".json"))
    if output is not None and output.suffix.lower() == ".json" and n_models > 1:
        raise typer.BadParameter(
            f"a .json file holds the result of one model, got {n_models}: write .html", param_hint="--output"
        )


def _save(output: Path, results: Sequence[Evaluation], pairs: Sequence[Comparison]) -> None:
    if output.suffix.lower() in (".html", ".htm"):
        from multimodal.evaluation.page import evaluation_page

        output.write_text(evaluation_page(results, pairs), encoding="utf-8")
    else:
        results[0].save(output)


def _without_items(result: Evaluation) -> dict[str, Any]:
    """The result as JSON; what was answered is only listed where it was wrong."""
    values = result.to_dict()
    del values["values"], values["items"]
    return values | {"worst": [result.items[row].to_dict() for row in result.worst()]}


def _show(result: Evaluation) -> None:
    gallery = result.headline.gallery
    title = f"{result.task} of {result.model} on {result.data}: {console.counted(len(result.items), 'item')}"
    title += "" if gallery is None else f", {console.counted(gallery, 'candidate')}"
    console.stdout().print(f"[bold]{console.verbatim(title)}[/]", soft_wrap=True)
    table = console.make_table("figure", "value", "95 % interval", right=("value",))
    for name, figure in result.figures.items():
        interval = "none" if figure.low is None else f"{figure.low:.4f} – {figure.high:.4f}"
        table.add_row(name, f"{figure.value:.4f}", interval)
    console.print_table(table)
    for reason, count in result.excluded.items():
        console.note(f"{console.counted(count, 'row')} excluded: {reason}")
    for note in result.notes:
        console.note(note)
