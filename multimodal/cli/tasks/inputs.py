"""What `classify` and `embed` share: files and texts as inputs, batches, and the files that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console
from multimodal.core.errors import MediaError, MissingExtra, UnsupportedModality
from multimodal.core.items import Item, as_item

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
    """(what to call it, the value) of each input; a Path is media, a str is words."""
    found: list[tuple[str, Path | str]] = [(name, Path(name)) for name in files or ()]
    found += [(words, words) for words in texts or ()]
    if not found:
        raise typer.BadParameter("nothing given: name files, or texts with --text", param_hint="FILE")
    return found


def run_batches(
    inputs: Sequence[tuple[str, Path | str]],
    work: Callable[[list[Item]], Sequence[Any]],
    done: Callable[[int], None],
) -> tuple[list[tuple[str, Item, Any]], list[tuple[str, str]]]:
    """`work` on all inputs, in batches; a batch with a bad file in it is done one by one.

    Returns the good (name, item, result) and the bad (name, reason). What is not the fault of a file is raised.
    """
    good: list[tuple[str, Item, Any]] = []
    bad: list[tuple[str, str]] = []
    for start in range(0, len(inputs), BATCH):
        part: list[tuple[str, Item]] = []
        for name, value in inputs[start : start + BATCH]:
            try:
                part.append((name, as_item(value)))
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
    return [{"input": name, "reason": reason} for name, reason in failures]


def finish(n_good: int, failures: Sequence[tuple[str, str]]) -> None:
    """Lists what failed; ends with exit code 3 if some did, 1 if all did."""
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if n_good else console.FAILED)
