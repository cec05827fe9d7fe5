"""`multimodal caption`: what is in pictures, sounds and videos, in words."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options
from multimodal.core.errors import MediaError, MediaUnsupported, MissingExtra, UnsupportedModality
from multimodal.core.items import Item, as_item

if TYPE_CHECKING:
    from multimodal.pipelines.captioning.pipeline import Caption

BATCH = 8
FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # the fault of one file, not of the command

Named = tuple[str, Item]


@options.with_runtime("device", "precision", "decode", "offline")
def caption(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER]...", help="Pictures, sounds or videos, or folders with them at any depth."
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="WORDS", help="Words as input; may be repeated.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar='"what is it?"', help="A question, or the beginning of the caption."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="starter, ./folder, or a model that writes: hf/owner/name, openclip/coca_…"
        ),
    ] = "starter",
    beams: Annotated[int | None, typer.Option(help="How wide to search; the model's own by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Write at most so many tokens.")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw the words at random.")] = False,
    seed: Annotated[int | None, typer.Option(help="With --sample: draw the same words again.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.jsonl", help="Save one JSON object a line."),
    ] = None,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Say what is in pictures, sounds, videos or words.

    \b
    Examples:
      [cyan]multimodal caption photo.jpg clip.wav[/]
      [cyan]multimodal caption ~/Pictures -o captions.jsonl[/]
      [cyan]multimodal caption chart.png --model hf/owner/name --prompt "What does it show?"[/]

    A caption that --max-tokens cut off ends with […].
    """
    from multimodal.core.pipeline import pipeline

    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"the folder {output.absolute().parent} does not exist", param_hint="--output"
        )
    inputs, failures, skipped = _inputs(files or [], text or [])
    asked: dict[str, Any] = {"prompt": prompt, "beams": beams, "max_tokens": max_tokens}
    asked |= {"sample": sample, "seed": seed, "batch_size": BATCH}
    with console.working(f"loading {model}", quiet=json):
        tell = pipeline("captioning", model=model, **load_options)
    good: list[tuple[str, Caption]] = []
    with console.progress("captioning", len(inputs), quiet=json) as done:
        for start in range(0, len(inputs), BATCH):
            part = inputs[start : start + BATCH]
            good += _told(tell, part, asked, failures)
            done(len(part))
    rows = [{"input": name} | found.to_dict() for name, found in good]
    if output is not None and rows:
        _save(output, rows)
    if json:
        failed = [{"input": name, "reason": reason} for name, reason in failures]
        console.print_json({"model": model, "results": rows, "failed": failed, "skipped": skipped})
    else:
        _show(good, output, skipped)
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if good else console.FAILED)


def _inputs(files: Sequence[str], texts: Sequence[str]) -> tuple[list[Named], list[tuple[str, str]], int]:
    """The items with their names, the failures, and how many files of folders are no media.

    A file that is named must be media; of a folder, what is none is passed over.
    """
    from multimodal.index.ingest.sources.folders import files_in

    if not files and not texts:
        raise typer.BadParameter("nothing given: name files, or texts with --text", param_hint="FILE")
    found: list[Named] = []
    bad: list[tuple[str, str]] = []
    skipped = 0
    for name in files:
        inside = Path(name).expanduser().is_dir()
        for path in files_in(name) if inside else [Path(name)]:
            try:
                found.append((str(path), as_item(path)))
            except MediaUnsupported as error:
                if inside:
                    skipped += 1
                else:
                    bad.append((str(path), console.reason(error)))
            except FILE_ERRORS as error:
                bad.append((str(path), console.reason(error)))
    found += [(words, as_item(words)) for words in texts]
    return found, bad, skipped


def _told(
    tell: Any, part: Sequence[Named], asked: dict[str, Any], failures: list[tuple[str, str]]
) -> list[tuple[str, Caption]]:
    """The captions of a batch; one with a bad file in it is done one by one, and the bad ones join the failures."""
    try:
        found = tell([item for _, item in part], **asked)
        return [(name, one) for (name, _), one in zip(part, found, strict=True)]
    except FILE_ERRORS as error:
        if len(part) == 1:
            failures.append((part[0][0], console.reason(error)))
            return []
    return [good for one in part for good in _told(tell, [one], asked, failures)]


def _save(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """All or nothing: an interrupted run leaves what was there."""
    scratch = output.with_name(f".{output.name}.part")
    try:
        lines = [jsons.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        scratch.write_text("".join(lines), encoding="utf-8")
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)


def _show(good: Sequence[tuple[str, Caption]], output: Path | None, skipped: int) -> None:
    if output is not None and good:
        place = console.verbatim(str(output))
        console.stdout().print(f"{place}: {len(good):,} captions", soft_wrap=True)
    elif good:
        table = console.make_table("input", "caption", "score", right=("score",))
        for name, found in good:
            words = found.text if found.complete else f"{found.text} […]"
            table.add_row(console.verbatim(name), console.verbatim(words), f"{found.score:.2f}")
        console.stdout().print(table)
    if skipped:
        console.note(
            f"{skipped:,} files in the folders are no pictures, sounds or videos, and were passed over"
        )
