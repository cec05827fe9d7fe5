"""`multimodal caption`: captions of images, audio, video and text."""

from __future__ import annotations

import json as jsons
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options, remote
from multimodal.cli.tasks import on_cluster
from multimodal.core.errors import (
    MediaError,
    MediaNotFound,
    MediaUnsupported,
    MissingExtra,
    UnsupportedModality,
)
from multimodal.core.items import Image, Item, Text, Video, as_item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.client.remote import Client
    from multimodal.pipelines.captioning.pipeline import Caption

BATCH = 8
FRAME_S, MAX_FRAMES = (
    2.0,
    8,
)  # of a video, for a model of images: the seconds between frames, and the most frames
FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # of one file; the command continues

Named = tuple[str, Item]


@options.with_runtime("device", "precision", "decode", "offline", "adapter")
def caption(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER]...", help="Image, audio or video files, or folders with them at any depth."
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="A text as input; may be repeated.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar='"what is it?"', help="A question, or the start of the caption."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="starter, ./folder, or a captioning model: hf/owner/name, openclip/coca_… "
            "\\[default: starter, or that of the server]",
        ),
    ] = None,
    beams: Annotated[
        int | None, typer.Option(help="Width of the beam search; the model's own by default.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum number of tokens.")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Sample the tokens at random.")] = False,
    seed: Annotated[int | None, typer.Option(help="With --sample: seed of the random generator.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.jsonl", help="Write one JSON object per line."),
    ] = None,
    *,
    load_options: dict[str, Any],
    cluster: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Captioning of images, audio, video and text.

    \b
    Examples:
      [cyan]multimodal caption photo.jpg clip.wav[/]
      [cyan]multimodal caption ~/Pictures -o captions.jsonl[/]
      [cyan]multimodal caption chart.png --model hf/owner/name --prompt "What does it show?"[/]

    A caption truncated by --max-tokens ends with […]. A model of images captions frames of a video.
    """
    console.check_output(output, "--output")
    inputs, failures, skipped = _inputs(files or [], text or [])
    call_options: dict[str, Any] = {"prompt": prompt, "beams": beams, "max_tokens": max_tokens}
    call_options |= {"sample": sample, "seed": seed, "batch_size": BATCH}
    connected = remote.client(load_options, timeout=remote.TASK_TIMEOUT_S, beams=beams, text=text)
    captioner: Any = None
    modalities: Collection[Modality] = ()
    if connected is not None:
        captioner = _remote_captioner(connected, model)
        named, modalities = model or connected.models[0], {Modality.IMAGE, Modality.AUDIO}
    else:
        named = model or remote.DEFAULT_SPACE
    good: list[tuple[str, Caption]] = []
    if connected is None and cluster:
        build = partial(on_cluster.Captioner, _caption_whole, named, load_options, call_options)
        good = on_cluster.captions(build, inputs, failures, cluster, unit_size=BATCH, quiet=json)
        inputs = []
    elif connected is None:
        captioner = _load(named, load_options, quiet=json)
        modalities = captioner.backend.modalities
    if inputs and Modality.IMAGE in modalities and Modality.VIDEO not in modalities:
        inputs = _with_frames(inputs, failures)
    with console.progress("captioning", len(inputs), quiet=json or not inputs) as done:
        for start in range(0, len(inputs), BATCH):
            part = inputs[start : start + BATCH]
            good += _caption_batch(captioner, part, call_options, failures)
            done(len(part))
    rows = [{"input": name} | caption.to_dict() for name, caption in good]
    if output is not None and rows:
        _save(output, rows)
    if json:
        failed = [{"input": name, "reason": reason} for name, reason in failures]
        console.print_json({"model": named, "results": rows, "failed": failed, "skipped": skipped})
    else:
        _show(good, output, skipped)
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if good else console.FAILED)


def _load(model: str, load_options: dict[str, Any], *, quiet: bool) -> Any:
    from multimodal.core.pipeline import pipeline

    with console.working(f"loading {model}", quiet=quiet):
        return pipeline("captioning", model=model, **load_options)


def _remote_captioner(connected: Client, model: str | None) -> Callable[..., list[Caption]]:
    """The captions of a server, called like a pipeline."""

    def caption(items: Sequence[Item], *, sample: bool, **given: Any) -> list[Caption]:
        del given["batch_size"], given["beams"]
        sampling = {"temperature": 1.0} if sample else {}
        return [connected.describe(item, **given, **sampling, **remote.task_model(model)) for item in items]

    return caption


def _inputs(files: Sequence[str], texts: Sequence[str]) -> tuple[list[Named], list[tuple[str, str]], int]:
    """The items with their names, the failures, and the number of files skipped in folders.

    A file that is named must be media; in a folder, other files are skipped.
    """
    from multimodal.index.ingest.sources.folders import files_in

    if not files and not texts:
        raise typer.BadParameter("nothing given: name files, or texts with --text", param_hint="FILE")
    inputs: list[Named] = []
    bad: list[tuple[str, str]] = []
    skipped = 0
    for name in files:
        inside = Path(name).expanduser().is_dir()
        for path in files_in(name) if inside else [Path(name)]:
            try:
                inputs.append((str(path), as_item(path)))
            except MediaUnsupported as error:
                if inside:
                    skipped += 1
                else:
                    bad.append((str(path), console.reason(error)))
            except FILE_ERRORS as error:
                bad.append((str(path), console.reason(error)))
    inputs += [(text, Text(text)) for text in texts]
    if not inputs and not bad:
        raise MediaNotFound(f"no images, audio or video in {', '.join(files)}; name files, or another folder")
    return inputs, bad, skipped


def _with_frames(inputs: Sequence[Named], failures: list[tuple[str, str]]) -> list[Named]:
    """The inputs with frames in place of videos, named like "film.mp4#t=4"; failures are appended."""
    named: list[Named] = []
    for name, item in inputs:
        if not isinstance(item, Video):
            named.append((name, item))
            continue
        try:
            clip = item.load(fps=1 / FRAME_S, max_frames=MAX_FRAMES)
        except FILE_ERRORS as error:
            failures.append((name, console.reason(error)))
            continue
        named += [
            (f"{name}#t={time:.4g}", Image(frame, uri=item.uri))
            for frame, time in zip(clip.frames, clip.times_s.tolist(), strict=True)
        ]
    return named


def _caption_batch(
    captioner: Any, part: Sequence[Named], call_options: dict[str, Any], failures: list[tuple[str, str]]
) -> list[tuple[str, Caption]]:
    """The captions of a batch; one with an unreadable file is repeated item by item, and failures are appended."""
    try:
        captions = captioner([item for _, item in part], **call_options)
        return [(name, caption) for (name, _), caption in zip(part, captions, strict=True)]
    except FILE_ERRORS as error:
        if len(part) == 1:
            failures.append((part[0][0], console.reason(error)))
            return []
    return [good for named in part for good in _caption_batch(captioner, [named], call_options, failures)]


def _caption_whole(
    captioner: Any, part: Sequence[Named], call_options: dict[str, Any], failures: list[tuple[str, str]]
) -> list[tuple[str, Caption]]:
    """As _caption_batch, with frames in place of videos for a model of images."""
    modalities = captioner.backend.modalities
    if Modality.IMAGE in modalities and Modality.VIDEO not in modalities:
        part = _with_frames(part, failures)
    return _caption_batch(captioner, part, call_options, failures) if part else []


def _save(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the file atomically: an interrupted run leaves the earlier file."""
    scratch = output.with_name(f".{output.name}.part")
    try:
        lines = [jsons.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        scratch.write_text("".join(lines), encoding="utf-8")
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)


def _show(good: Sequence[tuple[str, Caption]], output: Path | None, skipped: int) -> None:
    if output is not None and good:
        path = console.verbatim(str(output))
        console.stdout().print(f"{path}: {console.counted(len(good), 'caption')}", soft_wrap=True)
    elif good:
        table = console.make_table("input", "caption", "score", right=("score",), unbroken=("input",))
        for name, caption in good:
            text = caption.text if caption.complete else f"{caption.text} […]"
            table.add_row(
                console.verbatim(console.short_path(name)), console.verbatim(text), f"{caption.score:.2f}"
            )
        console.print_table(table)
    if skipped:
        console.note(f"skipped {console.counted(skipped, 'file')} in the folders: no images, audio or video")
