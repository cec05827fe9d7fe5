"""What `classify` and `embed` share: files and texts as inputs, batches, and the files that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console
from multimodal.core.errors import MediaError, MissingExtra, UnsupportedModality
from multimodal.core.items import Item, to_item

BATCH = 32
FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # of one file; the command continues

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Image, audio or video files; the content decides which."),
]
Texts = Annotated[
    list[str] | None, typer.Option("--text", metavar="TEXT", help="A text as input; may be repeated.")
]


def read_inputs(files: Sequence[str] | None, texts: Sequence[str] | None) -> list[tuple[str, Path | str]]:
    """(name, value) of each input: a Path is media, a str is text."""
    inputs: list[tuple[str, Path | str]] = [(name, Path(name)) for name in files or ()]
    inputs += [(text, text) for text in texts or ()]
    if not inputs:
        raise typer.BadParameter("nothing given: name files, or texts with --text", param_hint="FILE")
    return inputs


def run_batches(
    inputs: Sequence[tuple[str, Path | str]],
    work: Callable[[list[Item]], Sequence[Any]],
    done: Callable[[int], None],
) -> tuple[list[tuple[str, Item, Any]], list[tuple[str, str]]]:
    """Runs `work` on all inputs in batches; a batch with an unreadable file is repeated item by item.

    Args:
        inputs: (name, value) of each.
        work: Items to results, of the same length.
        done: Called with the number of inputs just done.

    Returns:
        (name, item, result) of those that succeeded, and (name, reason) of those that failed. An error that is
        not of a file is raised.
    """
    good: list[tuple[str, Item, Any]] = []
    bad: list[tuple[str, str]] = []
    for start in range(0, len(inputs), BATCH):
        part: list[tuple[str, Item]] = []
        for name, value in inputs[start : start + BATCH]:
            try:
                part.append((name, to_item(value)))
            except FILE_ERRORS as error:
                bad.append((name, console.reason(error)))
        try:
            results = work([item for _, item in part]) if part else []
            good += [(name, item, result) for (name, item), result in zip(part, results, strict=True)]
        except FILE_ERRORS:
            for name, item in part:
                try:
                    good.append((name, item, work([item])[0]))
                except FILE_ERRORS as error:
                    bad.append((name, console.reason(error)))
        done(len(inputs[start : start + BATCH]))
    return good, bad


def failed_rows(failures: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The failures as JSON rows."""
    return [{"input": name, "reason": reason} for name, reason in failures]


def finish(n_good: int, failures: Sequence[tuple[str, str]]) -> None:
    """Lists the failures. Exit code 3 if some inputs failed, 1 if all did."""
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if n_good else console.FAILED)
