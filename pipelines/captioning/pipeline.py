"""Captioning: what is in a picture, a sound, a video, a text or a vector, in words.

    caption = multimodal.pipeline("captioning")                 # the starter: any modality, or a vector of its space
    caption(Image("x.png")).text                                # "strawberry"

    ask = multimodal.pipeline("captioning", model="hf/HuggingFaceTB/SmolVLM-256M-Instruct")
    ask(Image("chart.png"), prompt="What does the chart show?").text

What `model` may be:

    "starter", a saved space with its encoders    a decoder on the vectors: what captions a picture captions a clip
    "hf/owner/name", "hf/./folder"                image captioners, vision-language and audio-language models of
                                                  transformers (`_captioning_hf`)
    "openclip/coca_ViT-B-32:…"                    CoCa of open_clip (`_captioning_coca`)

Nothing is cut silently: what does not fit the model is refused, and a caption that `max_tokens` cut says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches, load
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import as_item
from multimodal.core.paths import assets
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.captioning import options as captioning_options
from multimodal.pipelines.captioning.options import Caption, CaptioningBackend

if TYPE_CHECKING:
    import torch

__all__ = ["Caption", "CaptioningPipeline"]

BATCH = 8  # things at once, where the caller does not say


class CaptioningPipeline(Pipeline):
    """`caption(Image("x.png"))` -> Caption. Made by `from_pretrained`; see the top of this module."""

    task = "captioning"

    def __init__(self, backend: CaptioningBackend) -> None:
        if not isinstance(backend, CaptioningBackend):
            raise InvalidInput(
                f"CaptioningPipeline takes a captioner, got {type(backend).__name__}: make it with "
                "CaptioningPipeline.from_pretrained('starter'), or another model by name"
            )
        self.backend = backend

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | Space = "starter",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        decode: Decode = "exact",
        offline: bool = False,
        revision: str | None = None,
        decoder: str | os.PathLike[str] | None = None,
        **unknown: Any,
    ) -> Self:
        """The pipeline on a model: a name, the folder of a saved space, or a Space.

        device, precision: see `core.runtime.Runtime`; decode too, for a space. offline: nothing is fetched. revision: a
        branch, tag or commit of the hub. decoder: of a space, the folder with the captioner trained for it; the
        starter's by default.
        Raises UnknownModel, CheckpointError for a model that does not caption, SpaceMismatch for a space that the
        decoder was not trained for, DownloadError, MissingExtra, InvalidInput.
        """
        if unknown:
            known = ("device", "precision", "decode", "offline", "revision", "decoder")
            hint = close_matches(next(iter(unknown)), known)
            raise InvalidInput(
                f"captioning takes no option {next(iter(unknown))!r}; {hint}options: {', '.join(known)}"
            )
        runtime = Runtime(device, precision, decode)
        family, _, rest = model.partition("/") if isinstance(model, str) else ("", "", "")
        if family in BY_FAMILY and not str(model).startswith(FOLDER_PREFIXES):
            if decoder is not None:
                raise InvalidInput(
                    f"decoder= belongs to a space, and {model!r} writes by itself; leave it out"
                )
            return cls(BY_FAMILY[family](rest, runtime, offline, revision))
        if revision is not None:
            raise InvalidInput(
                f"revision={revision!r} is of a model of the hub, and {model!r} is none; leave it out"
            )
        return cls(_on_space(model, runtime, offline, decoder))

    def __call__(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        max_tokens: int | None = None,
        beams: int | None = None,
        sample: bool = False,
        temperature: float = 1.0,
        top_p: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Any:
        """Captions one thing -> Caption; a list of things, or vectors (n, dim) -> a list of them, in order.

        inputs: anything `as_item` takes, or a vector (dim,) of the space. prompt: a question, or for a model without a
        chat template the beginning of the caption. max_tokens: at most so many; `Caption.complete` tells whether they
        were enough. beams: the width of the search; 1 takes the likeliest token each time.
        sample: draw the tokens, with `temperature`, from the likeliest that make up `top_p` (the model's own by
        default); `seed` gives the same captions again for the same inputs in the same batches. progress:
        called with the number of things just done.
        Raises InvalidInput, UnsupportedModality for what the model does not take, MediaError, and EncoderError, with
        what to lower, if the memory does not suffice.
        """
        asked = captioning_options.check_options(prompt, max_tokens, beams, sample, temperature, top_p, seed)
        if prompt is not None and not self.backend.prompts:
            raise InvalidInput(
                f"{self.backend.name!r} takes no prompt, it only says what a thing is; models that answer questions "
                "are 'hf/…' vision-language models"
            )
        at_once = captioning_options.check_positive(batch_size, "batch_size") or BATCH
        things, alone = self._things(inputs)
        found: list[Caption] = []
        for start in range(0, len(things), at_once):
            part = things[start : start + at_once]
            with captioning_options.explain_out_of_memory(self.backend, len(part)):
                written = self.backend.generate(part, asked)
            found += [
                captioning_options.make_caption(one, thing) for one, thing in zip(written, part, strict=True)
            ]
            if progress is not None:
                progress(len(part))
        return found[0] if alone else found

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backend.device

    def to(self, device: str) -> Self:
        """Moves the model, as torch names devices; "auto" is the accelerator if there is one. Gives itself back."""
        self.backend.to(Runtime(device).torch_device)
        return self

    def _things(self, inputs: Any) -> tuple[list[Any], bool]:
        """Items and unit vectors, and whether one was given alone."""
        if _is_vector(inputs) and inputs.ndim == 2:
            return list(unit_rows(inputs, self._dim())), False
        values, alone = one_or_many(inputs)
        return [self._thing(value) for value in values], alone

    def _thing(self, value: Any) -> Any:
        if _is_vector(value) and value.ndim == 1:
            return unit_rows(value, self._dim())[0]
        item = as_item(value)
        if item.modality not in self.backend.modalities:
            raise UnsupportedModality(
                f"{item.modality} given to {self.backend.name!r}, which captions "
                f"{' and '.join(self.backend.modalities)}"
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

    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _on_space(
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


BY_FAMILY: dict[str, Callable[[str, Runtime, bool, str | None], CaptioningBackend]] = {
    "hf": _hf,
    "openclip": _coca,
}
"""The families whose models write by themselves, not from vectors."""
