"""Captioning: a text that describes an image, an audio, a video, a text or a vector.

The names that `from_pretrained` accepts:

| Name | Model |
|--|--|
| `"starter"`, a saved space with its encoders | a decoder on the vectors of the space: one model for every modality |
| `"hf/<owner>/<name>"`, `"hf/./folder"` | image captioners, vision-language and audio-language models of transformers |
| `"openclip/coca_ViT-B-32:…"` | CoCa of open_clip |
| `"starter-omni"` | the starter's network for scenes, charts and speech; the prompt chooses the task |

Nothing is truncated silently: an input that does not fit the model is refused, and a caption that `max_tokens` cut has
`complete=False`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.catalog import load, parse_model_name
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import as_item
from multimodal.core.media.inputs import vector_array
from multimodal.core.paths import assets
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.progress import count_progress
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.captioning.options import (
    Caption,
    CaptioningBackend,
    check_examples,
    check_options,
    explain_out_of_memory,
    make_caption,
    optional_count,
)

if TYPE_CHECKING:
    import torch

__all__ = ["Caption", "CaptioningPipeline"]

DEFAULT_BATCH_SIZE = 8


class CaptioningPipeline(Pipeline):
    """Captions inputs of any modality that the model takes.

    >>> caption = CaptioningPipeline.from_pretrained("starter")      # doctest: +SKIP
    >>> caption(Image("fruit.png")).text                             # doctest: +SKIP
    'strawberry'

    Attributes:
        backend: The model that captions.
    """

    task = "captioning"

    def __init__(self, backend: CaptioningBackend) -> None:
        if not isinstance(backend, CaptioningBackend):
            raise InvalidInput(
                f"CaptioningPipeline takes a captioning backend, got {type(backend).__name__}: make it with "
                "CaptioningPipeline.from_pretrained('starter'), or another model by name"
            )
        self.backend = backend

    @classmethod
    def from_pretrained(  # type: ignore[override]  # each task has options of its own
        cls,
        model: str | os.PathLike[str] | Space = "starter",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        decode: Decode = "exact",
        offline: bool = False,
        revision: str | None = None,
        decoder: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Loads a captioning model.

        Args:
            model: A name, the folder of a saved space, or a `Space`.
            device: As torch names devices; "auto" is the accelerator if there is one.
            precision: The number format of the weights, see `Runtime`.
            decode: How images are decoded for a space, see `Runtime`.
            offline: Makes no network requests.
            revision: A branch, tag or commit on the Hub.
            decoder: For a space: the folder with the captioning decoder that was trained for it. Default: the
                starter's.

        Returns:
            The pipeline, ready to call.

        Raises:
            UnknownModel: No model of that name.
            CheckpointError: The checkpoint is damaged, or its model writes no captions.
            SpaceMismatch: The decoder was not trained for the space.
            DownloadError: The download failed.
            MissingExtra: A package is not installed.
            InvalidInput: An option that the kind of model does not support.
        """
        runtime = Runtime(device, precision, decode)
        family, rest, _ = parse_model_name(model) if isinstance(model, str) else ("", "", None)
        if family in LOADERS:
            if decoder is not None:
                raise InvalidInput(
                    f"decoder= belongs to a space, and {model!r} has a decoder of its own; leave it out"
                )
            return cls(LOADERS[family](rest, runtime, offline, revision))
        if revision is not None:
            raise InvalidInput(
                f"revision={revision!r} is for a model on the Hub, which {model!r} is not; leave it out"
            )
        return cls(_space_backend(model, runtime, offline, decoder))

    def __call__(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        examples: Iterable[tuple[Any, str]] = (),
        max_tokens: int | None = None,
        beams: int | None = None,
        sample: bool = False,
        temperature: float = 1.0,
        top_p: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        progress: bool | Callable[[int], object] | None = None,
    ) -> Any:
        """Captions one input, or a list of them.

        Args:
            inputs: Anything that `as_item` takes, a vector (dim,) of the space, or a list of these; or vectors
                (n, dim). A str is text, never a path: give a `Path` or `Image("x.png")` for a file.
            prompt: A question; for a model without a chat template the beginning of the caption.
            examples: (item, caption) pairs of images or audio, shown before the input, for the model to follow. For
                models with a chat template, where each costs as many tokens as an input, and for the starter, which
                takes over words of the captions of similar examples.
            max_tokens: The most tokens to write; `Caption.complete` says whether they sufficed.
            beams: The beam width; 1 is greedy decoding. Default: the model's own.
            sample: Samples the tokens instead of searching for the most probable.
            temperature: Of the sampling; above 0.
            top_p: The probability mass that is sampled from. Default: the model's own.
            seed: Of the sampling. The same inputs in the same batches give the same captions.
            batch_size: Inputs per batch, 8 by default.
            progress: True for a progress bar, or a function to call with the number of inputs just captioned.

        Returns:
            A `Caption`, or a list of them in the order of the inputs.

        Raises:
            InvalidInput: An invalid option, or one that the model does not support.
            UnsupportedModality: A modality that the model does not take.
            MediaError: A file that cannot be decoded, or silence.
            EncoderError: Out of memory; the message says what to lower.
        """
        options = check_options(prompt, max_tokens, beams, sample, temperature, top_p, seed)
        options = dataclasses.replace(options, examples=check_examples(examples, self.backend))
        if prompt is not None and not self.backend.prompts:
            raise InvalidInput(
                f"{self.backend.name!r} takes no prompt, it only describes its input; models that answer questions "
                "are 'hf/…' vision-language models"
            )
        size = optional_count(batch_size, "batch_size") or DEFAULT_BATCH_SIZE
        values, is_single = self._prepare(inputs)
        captions: list[Caption] = []
        with count_progress(progress, "captioning", len(values)) as report:
            for start in range(0, len(values), size):
                batch = values[start : start + size]
                with explain_out_of_memory(self.backend, len(batch)):
                    outputs = self.backend.generate(batch, options)
                captions += [
                    make_caption(output, value) for output, value in zip(outputs, batch, strict=True)
                ]
                report(len(batch))
        return captions[0] if is_single else captions

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.backend.device

    def to(self, device: str) -> Self:
        """Moves the model to a device, in place.

        Args:
            device: As torch names it; "auto" is the accelerator, if any.

        Returns:
            The pipeline itself.
        """
        self.backend.to(Runtime(device).torch_device)
        return self

    def _prepare(self, inputs: Any) -> tuple[list[Any], bool]:
        """(items and unit vectors (dim,), whether a single input was given)."""
        inputs = vector_array(inputs)
        if _is_vector(inputs) and inputs.ndim == 2:
            return list(unit_rows(inputs, self._dim())), False
        values, is_single = one_or_many(inputs)
        return [self._prepare_one(value) for value in values], is_single

    def _prepare_one(self, value: Any) -> Any:
        value = vector_array(value)
        if _is_vector(value) and value.ndim == 1:
            return unit_rows(value, self._dim())[0]
        item = as_item(value)
        if item.modality not in self.backend.modalities:
            cure = "; a str is text: give a Path, or Image(…), for a file" if isinstance(value, str) else ""
            raise UnsupportedModality(
                f"{item.modality} given to {self.backend.name!r}, which captions "
                f"{' and '.join(self.backend.modalities)}{cure}"
            )
        return item

    def _dim(self) -> int:
        if self.backend.dim is None:
            raise InvalidInput(
                f"a vector given to {self.backend.name!r}, which captions "
                f"{' and '.join(self.backend.modalities)} themselves; vectors are captioned by 'starter'"
            )
        return self.backend.dim


def _is_vector(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim < 3


def _space_backend(
    model: str | os.PathLike[str] | Space,
    runtime: Runtime,
    offline: bool,
    decoder: str | os.PathLike[str] | None,
) -> CaptioningBackend:
    from multimodal.pipelines.captioning.backends.space import SpaceCaptioningBackend

    options: dict[str, Any] = {"offline": True} if offline else {}
    options |= {"device": runtime.device, "precision": runtime.precision, "decode": runtime.decode}
    space = model if isinstance(model, Space) else load(model, **options)
    return SpaceCaptioningBackend(
        space, Path(decoder) if decoder is not None else assets() / "starter" / "decoders"
    )


def _hf(rest: str, runtime: Runtime, offline: bool, revision: str | None) -> CaptioningBackend:
    from multimodal.pipelines.captioning.backends.hf_checkpoint import load_backend

    return load_backend(rest, runtime, offline=offline, revision=revision)


def _coca(rest: str, runtime: Runtime, offline: bool, revision: str | None) -> CaptioningBackend:
    from multimodal.pipelines.captioning.backends.coca import load_backend

    return load_backend(rest, runtime, offline=offline, revision=revision)


def _omni(rest: str, runtime: Runtime, offline: bool, revision: str | None) -> CaptioningBackend:
    from multimodal.pipelines.captioning.backends.omni import OmniCaptioningBackend

    if rest or revision is not None:
        raise InvalidInput("there is only one starter-omni, without revisions: write 'starter-omni'")
    return OmniCaptioningBackend.load(runtime)


LOADERS: dict[str, Callable[[str, Runtime, bool, str | None], CaptioningBackend]] = {
    "hf": _hf,
    "openclip": _coca,
    "starter-omni": _omni,
}
"""The loaders of the families whose models caption items directly, without vectors."""
