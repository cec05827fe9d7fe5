"""`multimodal classify` and `multimodal embed`: what a space makes of files and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.core.errors import MediaError, MissingExtra, UnsupportedModality
from multimodal.core.items import Item, as_item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 32
VALUES_SHOWN = 4
FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # the fault of one file, not of the command

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Pictures, sounds or videos, told by their content."),
]
Texts = Annotated[
    list[str] | None, typer.Option("--text", metavar="WORDS", help="Words as input; may be repeated.")
]


def classify(
    labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,…", help="The labels to choose from, with commas between.", show_default=False
        ),
    ],
    files: Files = None,
    text: Texts = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"a photo of a {}"',
            help="Wording around each label; repeat it to average several. imagenet stands for the 80 of CLIP.",
        ),
    ] = None,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Score each label on its own: several may be right, or none."),
    ] = False,
    space: console.SpaceName = "starter",
    device: options.Device = options.DEFAULT.device,
    precision: options.Precision = options.DEFAULT.precision,
    decode: options.Decode = options.DEFAULT.decode,
    engine: options.Engine = options.DEFAULT.engine,
    offline: options.Offline = False,
    json: console.AsJson = False,
) -> None:
    """Sort pictures, sounds, videos or words into labels of your own, without training.

    \b
    Examples:
      [cyan]multimodal classify photo.jpg --labels cat,dog[/]
      [cyan]multimodal classify *.jpg --labels "red car,blue car" --template "a picture of a {}"[/]
      [cyan]multimodal classify clip.wav --labels guitar,piano,drum --json[/]
    """
    from multimodal.core.catalog import load
    from multimodal.core.pipeline import pipeline

    names = [label.strip() for label in labels.split(",") if label.strip()]
    inputs = _inputs(files, text)
    with console.working(f"loading {space}", quiet=json):
        loaded = load(space, **options.asked(device, precision, decode, offline, engine))
        judge = pipeline("zero-shot-classification", model=loaded)
    how: dict[str, Any] = {"labels": names, "multi_label": multi_label}
    if template:
        how["templates"] = template
    with console.progress("classifying", len(inputs), quiet=json) as done:
        good, failures = _each(inputs, lambda items: judge(items, **how), done)
    if json:
        rows = [{"input": name, "labels": [found.to_dict() for found in result]} for name, _, result in good]
        console.print_json({"space": space, "results": rows, "failed": _failed(failures)})
    else:
        _show_labels([(name, result) for name, _, result in good])
    _finish(len(good), failures)


def embed(
    files: Files = None,
    text: Texts = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.npy", help="Save float32 (n, dim) for numpy.load."),
    ] = None,
    space: console.SpaceName = "starter",
    device: options.Device = options.DEFAULT.device,
    precision: options.Precision = options.DEFAULT.precision,
    decode: options.Decode = options.DEFAULT.decode,
    engine: options.Engine = options.DEFAULT.engine,
    offline: options.Offline = False,
    json: console.AsJson = False,
) -> None:
    """Turn pictures, sounds, videos and words into unit vectors of one shared space.

    \b
    Examples:
      [cyan]multimodal embed photo.jpg talk.wav --text "a red apple" -o vectors.npy[/]
      [cyan]multimodal embed --text "a red apple" --json | jq '.results[0].vector | length'[/]

    Rows are in the order files, then words. With [cyan]-o[/] the JSON leaves the vectors out.
    """
    from multimodal.core.catalog import load

    inputs = _inputs(files, text)
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"the folder {output.absolute().parent} does not exist", param_hint="--output"
        )
    with console.working(f"loading {space}", quiet=json):
        loaded = load(space, **options.asked(device, precision, decode, offline, engine))
    with console.progress("encoding", len(inputs), quiet=json) as done:
        good, failures = _each(inputs, lambda items: list(loaded.encode(list(items), batch_size=BATCH)), done)
    if output is not None and good:
        _save(output, [vector for _, _, vector in good])
    if json:
        rows = [
            {"input": name, "modality": str(item.modality)} | ({} if output else {"vector": vector.tolist()})
            for name, item, vector in good
        ]
        about = {"space": loaded.name, "fingerprint": loaded.fingerprint, "dim": loaded.dim}
        saved = {"output": str(output) if output and good else None}
        console.print_json(about | saved | {"results": rows, "failed": _failed(failures)})
    else:
        _show_vectors(good, loaded.dim, output)
    _finish(len(good), failures)


def _inputs(files: Sequence[str] | None, texts: Sequence[str] | None) -> list[tuple[str, Path | str]]:
    """(what to call it, the value) of each input; a Path is media, a str is words."""
    found: list[tuple[str, Path | str]] = [(name, Path(name)) for name in files or ()]
    found += [(words, words) for words in texts or ()]
    if not found:
        raise typer.BadParameter("nothing given: name files, or words with --text", param_hint="FILE")
    return found


def _each(
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
                bad.append((name, str(error)))
        try:
            results = work([item for _, item in part]) if part else []
            good += [(name, item, result) for (name, item), result in zip(part, results, strict=True)]
        except FILE_ERRORS:
            for name, item in part:
                try:
                    good.append((name, item, work([item])[0]))
                except FILE_ERRORS as error:
                    bad.append((name, str(error)))
        done(len(inputs[start : start + BATCH]))
    return good, bad


def _failed(failures: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"input": name, "reason": reason} for name, reason in failures]


def _finish(n_good: int, failures: Sequence[tuple[str, str]]) -> None:
    """Lists what failed; ends with exit code 3 if some did, 1 if all did."""
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if n_good else console.FAILED)


def _show_labels(results: Sequence[tuple[str, Any]]) -> None:
    for name, found in results:
        console.stdout().print(f"[bold]{console.verbatim(name)}[/]", soft_wrap=True)
        table = console.make_table("", "label", "probability", right=("probability",))
        for guess in found:
            table.add_row(
                f"[green]{console.bar(guess.score)}[/]", console.verbatim(guess.label), f"{guess.score:.1%}"
            )
        console.stdout().print(table)


def _show_vectors(good: Sequence[tuple[str, Item, Any]], dim: int, output: Path | None) -> None:
    if output is not None and good:
        place = console.verbatim(str(output))
        console.stdout().print(f"{place}: {len(good):,} vectors of {dim}, float32", soft_wrap=True)
        return
    table = console.make_table("input", "modality", f"vector of {dim}")
    for name, item, vector in good:
        values = "  ".join(f"{value:+.3f}" for value in vector[:VALUES_SHOWN])
        table.add_row(console.verbatim(name), str(item.modality), f"{values}  …")
    if good:
        console.stdout().print(table)
        console.note("to keep the vectors, add -o vectors.npy or --json")


def _save(output: Path, vectors: Sequence[NDArray[np.float32]]) -> None:
    import numpy as np

    with output.open("wb") as file:  # an open file, or numpy would add .npy to another name
        np.save(file, np.stack(vectors))
