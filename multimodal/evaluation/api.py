"""`multimodal.evaluate`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from multimodal.core.catalog import close_matches
from multimodal.core.checks import seed as check_seed
from multimodal.core.checks import whole_number
from multimodal.core.cluster.options import cluster_options
from multimodal.core.errors import InvalidInput
from multimodal.core.progress import count_progress
from multimodal.evaluation.data import read_table
from multimodal.evaluation.encoding import Runner
from multimodal.evaluation.figure import DRAWS, FEW, Figure, Resampling, mean
from multimodal.evaluation.result import HEADLINE, Evaluation, groups_of
from multimodal.evaluation.tasks import captioning, classification, generation, retrieval, transcription
from multimodal.evaluation.tasks.outcome import Options, Outcome, Task, identity, open_pipeline, open_space

OpenModel = Callable[[Any], Any]

TASKS: dict[str, tuple[Task, OpenModel]] = {
    "classification": (classification.run, classification.open_model),
    "retrieval": (retrieval.run, lambda model: open_space(model, "retrieval")),
    "captioning": (captioning.run, lambda model: open_pipeline(model, "captioning")),
    "transcription": (transcription.run, lambda model: open_pipeline(model, "transcription")),
    "generation": (generation.run, lambda model: open_pipeline(model, "generation")),
}


def evaluate(
    model: Any,
    data: Any,
    task: str,
    *,
    group: str | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Iterable[str] | None = None,
    templates: str | Sequence[str] | None = None,
    query: str | None = None,
    gallery: str | None = None,
    judge: Any = None,
    draws: int = DRAWS,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[int], object] | None = None,
    engine: Literal["ray"] | None = None,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluates a model on labelled or paired data.

    Args:
        model: A space, its name or folder, or a pipeline; for classification also any function of a list of items that
            returns labels.
        data: A folder with a sub-folder for each class; a .csv, .tsv or .jsonl file with columns named text, image,
            audio or video, and label, id, group; a .tar shard of WebDataset; a Hugging Face `Dataset`; or dicts.
        task: "classification", "retrieval", "captioning", "transcription" or "generation".
        group: The column of the unit that is generalised to, such as the speaker; groups are resampled, not items.
        columns: {role: column} for columns of other names, as {"image": "photo"}.
        labels: Of classification: the classes, by default those of the data.
        templates: Of zero-shot classification, as for its pipeline.
        query: Of retrieval: the column that asks, by default text. Of classification: the modality that is classified.
        gallery: Of retrieval: the column that is searched.
        judge: Of generation and captioning: the space that scores what was made, by name or as a space.
        draws: Bootstrap samples.
        seed: Of the bootstrap, and of a generator.
        cache: A folder for vectors and answers; the same call continues there after an interruption.
        progress: True for a progress bar, or a function to call with the number of items just processed.
        engine: "ray" processes the items on the machines of a Ray cluster, 128 at a time. Default: in this process.
        address: Of the cluster; see Index.add.
        workers: How many processes; see Index.add.
        gpus_per_worker: See Index.add.
        **options: Passed to the pipeline of the task.

    Returns:
        The figures with 95 % intervals, and the outcome of every item.

    Raises:
        InvalidInput: Data without the columns that the task needs, or an invalid option.
        UnknownModel: No such model.
        UnsupportedModality: The model does not encode a modality of the data.
    """
    if task not in TASKS:
        raise InvalidInput(
            f"no task is called {task!r}; {close_matches(str(task), TASKS)}tasks: {', '.join(TASKS)}"
        )
    cluster = cluster_options(engine, address, workers, gpus_per_worker)
    n_draws, seed = whole_number(draws, "draws", least=1), check_seed(seed)
    run, open_model = TASKS[task]
    if isinstance(labels, str):
        raise InvalidInput(f"labels must be a list of names such as ['cat', 'dog'], got {labels!r}")
    task_options = Options(
        None if labels is None else tuple(labels), templates, query, gallery, judge, seed, options
    )
    table = read_table(data, columns=columns, group=group)
    started = time.perf_counter()
    opened = open_model(model)
    name, fingerprint = identity(opened)
    folder = None if cache is None else Path(cache).expanduser()
    total = sum(len(row.items) for row in table.rows)
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(count_progress(progress, f"evaluating {name}", total))
        if cluster is not None:
            from multimodal.core.cluster.connection import connected

            stack.enter_context(connected(cluster))
        outcome = run(opened, table, task_options, Runner(report, folder, cluster))
    if table.problems:
        outcome.excluded["unreadable"] += len(table.problems)
    figures = _figures(outcome, n_draws, seed)
    ordered = {HEADLINE[task]: figures.pop(HEADLINE[task])} | figures
    return Evaluation(
        task,
        _display_name(model, name),
        fingerprint,
        table.name,
        ordered,
        tuple(outcome.items),
        outcome.values,
        dict(+outcome.excluded),
        tuple(outcome.notes),
        outcome.settings | {"draws": n_draws, "seed": seed},
        time.perf_counter() - started,
    )


def _display_name(model: Any, name: str) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else name


def _figures(outcome: Outcome, draws: int, seed: int) -> dict[str, Figure]:
    """All figures, and notes about their intervals."""
    import numpy as np

    groups = groups_of(outcome.items)
    resampling = Resampling(len(outcome.items), groups, draws=draws, seed=seed)
    figures = {}
    for name in outcome.means:
        values = outcome.values[name]
        is_share = bool(np.isin(values, (0.0, 1.0)).all())
        make = resampling.share if is_share else lambda own, **given: resampling.figure(mean(own), **given)
        figures[name] = make(values, gallery=outcome.gallery)
    for name, statistic in outcome.statistics.items():
        figures[name] = resampling.figure(statistic, gallery=outcome.gallery)
    if resampling.units < 2:
        what = "one group" if groups else "one item"
        outcome.notes.append(f"no interval: there is {what}, and nothing is known of others")
    elif resampling.units < FEW:
        what = "groups" if groups else "items"
        outcome.notes.append(
            f"only {resampling.units} {what}: the intervals are rough, too few to compare models"
        )
    return figures | outcome.figures
