"""`multimodal transcribe`: speech in audio and video as text, subtitles or JSON."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options, remote
from multimodal.cli.tasks import on_cluster
from multimodal.core.errors import MediaError, MediaNotFound, MissingExtra, UnsupportedModality
from multimodal.core.limits import limits
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.client.remote import Client
    from multimodal.pipelines.transcription.pipeline import Transcription, TranscriptionPipeline

FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # of one file; the command continues
FORMATS = ("txt", "srt", "vtt", "json")
FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RATE_HZ, SAMPLE_BYTES = 192_000, 4  # upper bounds for audio files

Done = Callable[[float, float | None], None]


@options.with_runtime("device", "precision", "offline", "adapter")
def transcribe(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Audio and video files, and folders with them.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file for one input (talk.srt), or a folder.",
            show_default=False,
        ),
    ] = None,
    srt: Annotated[bool, typer.Option("--srt", help="Subtitles as SubRip.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Subtitles as WebVTT.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Word timestamps; needs --json.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="starter, hf/openai/whisper-small, faster-whisper/turbo, ./folder, … "
            "\\[default: starter, or that of the server]",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Spoken language: english, en, …; detected if left out.", show_default=False
        ),
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Translate to English.")] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Text that precedes the audio, such as names to spell.", show_default=False
        ),
    ] = None,
    vad: Annotated[bool, typer.Option("--vad", help="Detect speech first and skip the rest.")] = False,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback", help="Decode again at higher temperatures where the text repeats or is improbable."
        ),
    ] = False,
    beams: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Width of the beam search; more is slower.", show_default=False
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", min=1, metavar="N", help="Windows per batch; more is faster on a GPU."),
    ] = 1,
    max_hours: Annotated[
        float, typer.Option("--max-hours", min=0.001, metavar="HOURS", help="Reject longer files.")
    ] = 24.0,
    *,
    load_options: dict[str, Any],
    cluster: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Transcription of speech in audio and video.

    \b
    Examples:
      [cyan]multimodal transcribe talk.mp3 --model hf/openai/whisper-small --srt -o talk.srt[/]
      [cyan]multimodal transcribe recordings/ --model faster-whisper/turbo -o texts/[/]
      [cyan]multimodal transcribe talk.mp3 --language de --translate --model hf/openai/whisper-small[/]

    Without [cyan]-o[/] the text goes to stdout. In a folder, other files are skipped.
    """
    kind = _kind(srt, vtt, json, output)
    if words and kind != "json":
        raise typer.BadParameter("word timestamps need JSON: add --json", param_hint="--words")
    inputs = _inputs(paths)
    places = _places(inputs, output, kind)
    given = {"language": language, "prompt": prompt, "beams": beams}
    call_options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    call_options |= {"batch_size": batch_size} if batch_size > 1 else {}
    connected = remote.client(
        load_options,
        timeout=remote.TASK_TIMEOUT_S,
        vad=vad,
        fallback=fallback,
        beams=beams,
        batch_size=batch_size - 1,
    )
    longest_s = max_hours * 3600
    most: dict[str, Any] = {"max_seconds": longest_s, "max_bytes": int(longest_s * RATE_HZ * SAMPLE_BYTES)}
    named = model or (remote.DEFAULT_SPACE if connected is None else "the server")
    if connected is not None:
        writer: Any = _remote_writer(
            connected, {"words": words, "translate": translate} | remote.task_model(model)
        )
    else:
        call_options |= {"timestamps": "word" if words else "segment", "vad": vad}
        call_options |= {"task": "translate"} if translate else {}
        call_options |= {"temperature": FALLBACK} if fallback else {}
        if cluster:
            files = [path for path, _ in inputs]
            writer = on_cluster.writer(named, load_options, call_options, most, files, cluster, quiet=json)
        else:
            writer = _load(named, load_options, quiet=json)
    good: list[tuple[Path, Transcription]] = []
    failures: list[tuple[str, str]] = []
    with limits(**most):
        for number, (path, _) in enumerate(inputs):
            try:
                with _bar(f"{path.name} ({number + 1} of {len(inputs)})", quiet=json) as done:
                    good.append((path, writer(path, progress=done, **call_options)))
            except FILE_ERRORS as error:
                failures.append((str(path), console.reason(error)))
                continue
            if places is not None:
                _write(places[number], _rendered(good[-1][1], kind))
    _print_results(
        good, failures, kind, named, dict(zip((path for path, _ in inputs), places or (), strict=False)), json
    )
    if failures:
        console.list_failures(failures)
        raise typer.Exit(console.SOME_FAILED if good else console.FAILED)


def _load(model: str, load_options: dict[str, Any], *, quiet: bool) -> TranscriptionPipeline:
    from multimodal.core.pipeline import pipeline

    with console.working(f"loading {model}", quiet=quiet):
        loaded: TranscriptionPipeline = pipeline("transcription", model=model, **load_options)
    return loaded


def _remote_writer(connected: Client, given: dict[str, Any]) -> Callable[..., Transcription]:
    """The transcripts of a server, called like a pipeline; the server reports no progress."""

    def write(path: Path, *, progress: Done, **call_options: Any) -> Transcription:
        return connected.transcription(path, **given, **call_options)

    return write


def _kind(srt: bool, vtt: bool, json: bool, output: Path | None) -> str:
    """The output format: by option, or else by the suffix of the output."""
    given = [name for name, wanted in (("srt", srt), ("vtt", vtt), ("json", json)) if wanted]
    if len(given) > 1:
        raise typer.BadParameter(
            f"got {' and '.join('--' + name for name in given)}: give one of them", param_hint="--srt"
        )
    if given:
        return given[0]
    suffix = "" if output is None else output.suffix[1:].lower()
    return suffix if suffix in FORMATS else "txt"


def _inputs(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(file, its path relative to the argument) of each audio and video file."""
    from multimodal.core.media.sniff import sniff
    from multimodal.index import files_in

    inputs: dict[Path, Path] = {}
    for path in (path.expanduser() for path in paths):
        if not path.is_dir():
            inputs.setdefault(path, Path(path.name))
            continue
        root = path.resolve()
        for file in files_in(path):
            with contextlib.suppress(MediaError, MissingExtra):
                if sniff(file) in (Modality.AUDIO, Modality.VIDEO):
                    inputs.setdefault(
                        file, file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
                    )
    if not inputs:
        raise MediaNotFound(
            f"no audio or video in {', '.join(map(str, paths))}; name files, or another folder"
        )
    return list(inputs.items())


def _places(inputs: Sequence[tuple[Path, Path]], output: Path | None, kind: str) -> list[Path] | None:
    """The output file of each input; None for stdout. Existing files are replaced."""
    if output is None:
        if len(inputs) > 1 and kind in ("srt", "vtt"):
            raise typer.BadParameter(
                f"{len(inputs)} subtitle files cannot go to stdout: name a folder",
                param_hint="--output",
            )
        return None
    output = output.expanduser()
    if len(inputs) == 1 and output.suffix[1:].lower() in FORMATS and not output.is_dir():
        console.check_output(output, "--output")
        return [output]
    if not output.is_dir() and (output.exists() or output.suffix[1:].lower() in FORMATS):
        raise typer.BadParameter(
            f"{output} is a file, and there are {len(inputs)} inputs: name a folder", param_hint="--output"
        )
    taken: set[Path] = set()
    places = []
    for _, below in inputs:
        # talk.mp3 and talk.wav in one folder keep their suffixes
        place = output / below.with_suffix(f".{kind}")
        place = place if place not in taken else output / f"{below}.{kind}"
        taken.add(place)
        places.append(place)
    return places


def _rendered(result: Transcription, kind: str) -> str:
    if kind == "json":
        return jsonlib.dumps(result.to_dict(), ensure_ascii=False, indent=2) + "\n"
    if kind == "srt":
        return result.to_srt()
    return result.to_vtt() if kind == "vtt" else f"{result.text}\n"


def _write(place: Path, text: str) -> None:
    """Writes atomically: to a temporary file that is renamed when complete."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(what: str, *, quiet: bool) -> Iterator[Done]:
    """A progress bar on stderr by seconds of audio; only on a terminal."""
    shown_on = console.stderr()
    if quiet or not shown_on.is_terminal:
        yield lambda done_s, total_s: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=shown_on, transient=True) as shown:
        task = shown.add_task(console.verbatim(what), total=None)
        yield lambda done_s, total_s: shown.update(task, completed=done_s, total=total_s)


def _print_results(
    good: Sequence[tuple[Path, Transcription]],
    failures: Sequence[tuple[str, str]],
    kind: str,
    model: str,
    places: dict[Path, Path],
    json: bool,
) -> None:
    if json:
        rows = [
            {"input": str(path)}
            | ({"output": str(places[path])} if path in places else {})
            | {name: value for name, value in result.to_dict().items() if name != "model"}
            for path, result in good
        ]
        failed = [{"input": name, "reason": reason} for name, reason in failures]
        console.print_json({"model": model, "results": rows, "failed": failed})
        return
    for path, result in good:
        if path in places:
            console.stdout().print(f"{console.verbatim(str(places[path]))}", soft_wrap=True)
            continue
        if len(good) + len(failures) > 1:
            console.stdout().print(
                f"[bold]{console.verbatim(console.short_path(str(path)))}[/]", soft_wrap=True
            )
        typer.echo(console.printable(_rendered(result, kind)), nl=False)
        if not result.text:
            console.note(f"{path}: {model} recognised no speech")
