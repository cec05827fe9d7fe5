"""Captions and transcripts by workers on a Ray cluster; the model is loaded by the workers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.cli import options
from multimodal.core.errors import ClusterError, MediaError, MissingExtra, UnsupportedModality
from multimodal.core.items import Item
from multimodal.core.limits import limits

if TYPE_CHECKING:
    from multimodal.pipelines.captioning.pipeline import Caption
    from multimodal.pipelines.transcription.pipeline import Transcription

FILE_ERRORS = (MediaError, MissingExtra, UnsupportedModality)  # of one file; the command continues
Named = tuple[str, Item]
Captions = tuple[list[tuple[str, "Caption"]], list[tuple[str, str]]]
CaptionInputs = Callable[
    [Any, Sequence[Named], dict[str, Any], list[tuple[str, str]]], list[tuple[str, "Caption"]]
]


class Captioner:
    """Captions named items in a worker. caption: a function of the pipeline, the items, the options of the call and the
    failures, to which it appends; it returns the captions with their names."""

    def __init__(
        self, caption: CaptionInputs, model: str, load_options: dict[str, Any], call_options: dict[str, Any]
    ) -> None:
        from multimodal.core.pipeline import pipeline

        self.caption, self.call_options = caption, call_options
        self.pipeline = pipeline("captioning", model=model, **load_options)

    def __call__(self, inputs: Sequence[Named]) -> list[Captions]:
        failures: list[tuple[str, str]] = []
        captions = self.caption(self.pipeline, inputs, self.call_options, failures)  # in batches
        return [
            (captions, failures),
            *([([], [])] * (len(inputs) - 1)),
        ]  # in order, so the first has them all


def captions(
    build: Callable[[], Captioner],
    inputs: Sequence[Named],
    failures: list[tuple[str, str]],
    cluster: dict[str, Any],
    *,
    unit_size: int,
    quiet: bool,
) -> list[tuple[str, Caption]]:
    """The captions of named items, in their order; failures are appended."""
    outcomes = options.on_cluster(build, inputs, cluster, unit_size=unit_size, what="captioning", quiet=quiet)
    good: list[tuple[str, Caption]] = []
    for (name, _), outcome in zip(inputs, outcomes, strict=True):
        if isinstance(outcome, ClusterError):
            failures.append((name, str(outcome)))
        else:
            good += outcome[0]
            failures += outcome[1]
    return good


class Writer:
    """Transcribes files in a worker."""

    def __init__(
        self, model: str, load_options: dict[str, Any], call_options: dict[str, Any], most: dict[str, Any]
    ) -> None:
        from multimodal.core.pipeline import pipeline

        self.pipeline = pipeline("transcription", model=model, **load_options)
        self.call_options, self.most = call_options, most

    def __call__(self, paths: Sequence[Path]) -> list[Transcription | Exception]:
        with limits(**self.most):
            return [self._transcribe(path) for path in paths]

    def _transcribe(self, path: Path) -> Transcription | Exception:
        try:
            written: Transcription = self.pipeline(path, **self.call_options)
            return written
        except FILE_ERRORS as error:
            return error


def writer(
    model: str,
    load_options: dict[str, Any],
    call_options: dict[str, Any],
    most: dict[str, Any],
    paths: Sequence[Path],
    cluster: dict[str, Any],
    *,
    quiet: bool,
) -> Callable[..., Transcription]:
    """The transcripts of files, called like a pipeline. most: the limits on a file."""
    build = partial(Writer, model, load_options, call_options, most)
    files = [path.absolute() for path in paths]  # a worker may have another working directory
    outcomes = options.on_cluster(build, files, cluster, unit_size=1, what="transcribing", quiet=quiet)
    by_path = dict(zip(paths, outcomes, strict=True))

    def write(path: Path, **_: Any) -> Transcription:
        outcome = by_path[path]
        if isinstance(outcome, ClusterError):
            raise MediaError(f"{path}: {outcome}")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return write
