"""Generation: pictures and sounds out of words, out of a picture, or out of a vector of anything.

    "diffusers/<owner>/<name>"        a pipeline of diffusers: Stable Diffusion 1.x, 2.x, XL, 3, Flux, PixArt, Sana,
                                      Kandinsky, Qwen-Image, … for pictures; AudioLDM 2, Stable Audio for sounds
    "diffusers/./folder", "./folder"  the same, as save_pretrained() of diffusers wrote it
    "hf/facebook/musicgen-small"      MusicGen, a model of transformers; also "hf/./folder"

The first word is the library, as in `load` it is the family. Vectors must be CLIP's of pictures, of the CLIP that the
checkpoint was trained with (Stable unCLIP: OpenAI's ViT-L/14 or LAION's ViT-H/14, Kandinsky 2.2: LAION's ViT-bigG/14,
IP-Adapter: LAION's ViT-H/14): `space=` is that CLIP, or one joined to it, so that a sound draws what it sounds like.

"starter", and a Space of the same encoders, draw with the generator that ships: of words, of another picture, of a
spoken name, or of what lies between two of them (`between`). `decoder=` is another, which
recipes/starter/generator/draw.py made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Precision, Runtime
from multimodal.core.catalog import FOLDER_PREFIXES, load
from multimodal.core.errors import InvalidInput
from multimodal.core.media.inputs import check_count
from multimodal.core.pipeline import Pipeline
from multimodal.core.space import Space
from multimodal.pipelines.generation.inputs import batches, build_requests, interpolate
from multimodal.pipelines.generation.options import (
    GenerationBackend,
    GenerationOptions,
    GenerationRequest,
    StepProgress,
)
from multimodal.pipelines.generation.resolve import LoadOptions, resolve_backend, space_backend
from multimodal.pipelines.generation.result import Generation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Generation", "GenerationPipeline"]


class GenerationPipeline(Pipeline):
    """`draw("a blue heart", seed=3).image`, `.save("heart.png")`. Make one with `from_pretrained`."""

    task = "generation"

    def __init__(self, backend: GenerationBackend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """Of the model."""
        return self.backend.name

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | Space = "starter",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        offline: bool = False,
        revision: str | None = None,
        variant: str | None = None,
        prior: str | None = None,
        ip_adapter: str | None = None,
        vector_length: float | None = None,
        offload: bool = False,
        decoder: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """The pipeline on a model; for the names see the top of this module.

        device, precision: see `core.runtime.Runtime`. offline: take nothing from the network. revision: a branch, tag
        or commit of the hub. variant: of the weights, as "fp16": half to fetch; they are used in `precision` all the
        same. prior: "diffusers/…" that turns words into the vectors a decoder draws from; if left out, as the
        decoder's card says (Kandinsky 2.2, Stable Cascade). ip_adapter:
        "h94/IP-Adapter:models/ip-adapter_sd15.safetensors" or "./file.safetensors", by which Stable Diffusion takes
        vectors. vector_length: how long those are that it was trained with, where the checkpoint does not tell;
        vectors of length one are scaled to it. offload: keep in the accelerator's memory only the part that runs.
        decoder: a folder that recipes/starter/generator/draw.py wrote for the space `model`, a Space or the
        name of one; the
        starter's ships. The safety checker stays as it was shipped. Code of a checkpoint is never run.
        Raises UnknownModel, DownloadError, CheckpointError for a model that makes neither pictures nor sounds,
        InvalidInput, MissingExtra, SpaceMismatch for a space that the decoder was not trained for.
        """
        if options:
            raise InvalidInput(
                f"from_pretrained of a GenerationPipeline takes no {', '.join(sorted(options))}"
            )
        load_options = LoadOptions(variant, prior, ip_adapter, vector_length, offload)
        if isinstance(model, Space) or decoder is not None:
            space = model if isinstance(model, Space) else load(model, device=device, precision=precision)
            return cls(space_backend(space, load_options, None if decoder is None else Path(decoder)))
        name = os.fspath(model)
        if isinstance(model, os.PathLike) and not name.startswith(FOLDER_PREFIXES):
            name = f"./{name}"
        return cls(resolve_backend(name, Runtime(device, precision), revision, offline, load_options))

    def to(self, device: str) -> Self:
        """Moves the model to a device, as torch names it ("auto": the accelerator), and returns the pipeline."""
        self.backend.to(Runtime(device).torch_device)
        return self

    def __call__(
        self,
        inputs: Any = None,
        *,
        image: Any = None,
        vector: Any = None,
        space: Space | None = None,
        seed: int | Sequence[int] | None = None,
        n: int = 1,
        negative: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        strength: float | None = None,
        width: int | None = None,
        height: int | None = None,
        seconds: float | None = None,
        truncate: bool = False,
        batch_size: int = 1,
        progress: StepProgress | None = None,
    ) -> Any:
        """Makes one thing -> Generation; a list in gives a list out, in order; with n above 1 a list for each.

        inputs: words (a str). Or an item (Image, Audio, Video, Text, a Path) whose vector in `space` is drawn from.
        image: what to begin with, anything that Image takes; `strength`, above 0 to 1, says how much of it may change.
        Width and height are its own, rounded down to what the model can do. vector: (dim,), or (n, dim) for several, of
        CLIP for pictures; see the top of this module. Inputs, images and vectors pair up; one alone goes with all.
        seed: the thing with it is the same whenever and beside whatever it is made (with batch_size 1), and the one of
        diffusers with `torch.Generator("cpu").manual_seed(seed)`. By chance if left out: the result says which. The
        n things of all inputs count on from it; or a list with one for each input.
        negative: what is not wanted. steps, guidance, width, height, seconds (of a sound): as the model was published
        if left out. truncate: let the model read only the beginning of a prompt that is too long, rather than refuse
        it. batch_size: things made at a time; more than one is quicker on a GPU, and changes the last digits.
        progress: called with the steps done and the steps in all of what is being made; a model of two stages counts
        each anew. To cancel, raise anything in it: that comes out of here, and the pipeline can be used again.
        Raises InvalidInput for nonsense, an option the model does not take, or a prompt longer than it reads;
        SpaceMismatch for vectors of another space; MediaError for a picture that is none; EncoderError, saying what to
        lower, if the memory does not suffice.
        """
        options = GenerationOptions(negative, steps, guidance, strength, width, height, seconds, truncate)
        check_count(n, "n", of=" of things to make")
        check_count(batch_size, "batch_size", of=" of things made at a time")
        requests, alone = build_requests(
            self.backend, inputs, image=image, vector=vector, space=space, seed=seed, n=n
        )
        self.backend.check(requests, options)
        made = [
            one
            for batch in batches(requests, batch_size)
            for one in self._made(batch, options, progress or _unseen)
        ]
        groups = [made[start : start + n] if n > 1 else made[start] for start in range(0, len(made), n)]
        return groups[0] if alone else groups

    def between(
        self,
        first: Any,
        last: Any,
        *,
        n: int = 5,
        space: Space | None = None,
        seed: int | None = None,
        **how: Any,
    ) -> list[Generation]:
        """n things, from what `first` is to what `last` is, in even steps along the sphere of their space.

        first, last: words (a str), any item, or vectors (dim,) of the space. All have one seed, so that only what is
        drawn changes. how: the other options of a call. (Spherical interpolation as in unCLIP, Ramesh et al. 2022.)
        Raises InvalidInput for a model that draws from no vectors, fewer than 2 things, or opposite vectors.
        """
        rows = interpolation_vectors(self.backend, first, last, n, space)
        start = build_requests(self.backend, None, image=None, vector=rows[0], space=None, seed=seed, n=1)[0][
            0
        ].seed
        return list(self(vector=rows, seed=[start] * n, **how))

    def _made(
        self, batch: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> Iterator[Generation]:
        for request, one in zip(batch, self.backend.generate(batch, options, progress), strict=True):
            yield Generation(
                model=self.name, prompt=request.prompt, seed=request.seed, image=one.image, samples=one.samples,
                rate_hz=one.rate_hz, steps=one.steps, guidance=one.guidance, negative=options.negative,
                strength=one.strength, flagged=one.flagged, made_by=self.backend.what, version=version("multimodal"),
            )  # fmt: skip


def interpolation_vectors(
    backend: GenerationBackend, first: Any, last: Any, n: int, space: Space | None = None
) -> NDArray[np.float32]:
    """(n, dim): what `GenerationPipeline.between` draws from, and raises."""
    check_count(n, "n", of=" of things to make")
    where = space or backend.space
    if "vector" not in backend.supported_options or where is None:
        raise InvalidInput(
            f"{backend.name!r} has no space in which something lies between two things: take 'starter', or a "
            "checkpoint that draws from CLIP's vectors, with space= that CLIP"
        )
    return interpolate(where, first, last, n)


def _unseen(done: int, total: int) -> None:
    """StepProgress that nobody asked for."""
