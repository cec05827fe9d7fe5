"""Generation: images and audio from text, from an image, or from a vector of any modality.

The names that `from_pretrained` accepts:

| Name | Model |
|--|--|
| `"starter"`, a `Space` of its encoders | the decoder that ships with the package, on the vectors of the space |
| `"diffusers/<owner>/<name>"` | a pipeline of diffusers. Images: Stable Diffusion 1.x, 2.x, XL and 3, Flux, PixArt,
Sana, Kandinsky, Qwen-Image, …; audio: AudioLDM 2, Stable Audio |
| `"diffusers/./folder"`, `"./folder"` | the same, as save_pretrained() of diffusers wrote it |
| `"hf/facebook/musicgen-small"` | MusicGen, a model of transformers; also "hf/./folder" |

Models of diffusers that take vectors take CLIP image embeddings of the CLIP that they were trained with (Stable unCLIP:
OpenAI's ViT-L/14 or LAION's ViT-H/14; Kandinsky 2.2: LAION's ViT-bigG/14; IP-Adapter: LAION's ViT-H/14). `space=` is
that CLIP, or a space joined to it, so that an image can be generated from an audio.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Precision, Runtime
from multimodal.core.catalog import load, parse_model_name
from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput
from multimodal.core.pipeline import Pipeline
from multimodal.core.progress import UpdateBar, check_progress, progress_bar
from multimodal.core.space import Space
from multimodal.pipelines.generation.inputs import batches, build_requests, example_vector, interpolate
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
    """Generates images or audio.

    >>> draw = GenerationPipeline.from_pretrained("starter")             # doctest: +SKIP
    >>> draw("a blue heart", seed=3).save("heart.png")                   # doctest: +SKIP

    Attributes:
        backend: The model that generates. For diffusers, `backend.pipe` is diffusers' own pipeline (LoRA, schedulers).
    """

    task = "generation"

    def __init__(self, backend: GenerationBackend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.backend.name

    @classmethod
    def from_pretrained(  # type: ignore[override]  # each task has options of its own
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
    ) -> Self:
        """Loads a generation model.

        Code of a checkpoint is never run, and its safety checker stays in place.

        Args:
            model: "starter", "diffusers/<owner>/<name>", "hf/facebook/musicgen-small", a folder, or a `Space`.
            device: As torch names devices; "auto" is the accelerator if there is one.
            precision: The number format of the weights, see `Runtime`.
            offline: Makes no network requests.
            revision: A branch, tag or commit on the Hub.
            variant: Of the weight files, such as "fp16": half the download. `precision` applies all the same.
            prior: "diffusers/<owner>/<name>" of the prior that turns text into the vectors that a decoder takes.
                Default: the prior named in the decoder's model card (Kandinsky 2.2, Stable Cascade).
            ip_adapter: "h94/IP-Adapter:models/ip-adapter_sd15.safetensors" or "./file.safetensors": the adapter through
                which Stable Diffusion takes vectors.
            vector_length: The mean norm of the vectors that the model was trained with, where the checkpoint does not
                store it. Unit vectors are scaled to it.
            offload: Keeps only the part that is running in the memory of the accelerator.
            decoder: For a space: the folder that recipes/starter/generator/draw.py wrote for it. Default: the
                starter's.

        Returns:
            The pipeline, ready to call.

        Raises:
            UnknownModel: No model of that name.
            CheckpointError: The checkpoint is damaged, or its model generates neither images nor audio.
            SpaceMismatch: The decoder was not trained for the space.
            DownloadError: The download failed.
            MissingExtra: A package is not installed.
            InvalidInput: An option that the kind of model does not support.
        """
        load_options = LoadOptions(variant, prior, ip_adapter, vector_length, offload)
        if isinstance(model, Space) or decoder is not None:
            space = model if isinstance(model, Space) else load(model, device=device, precision=precision)
            return cls(space_backend(space, load_options, None if decoder is None else Path(decoder)))
        family, rest, _ = parse_model_name(model)
        name = f"{family}/{rest}" if family and rest else family or rest
        return cls(resolve_backend(name, Runtime(device, precision), revision, offline, load_options))

    def to(self, device: str) -> Self:
        """Moves the model to a device, in place.

        Args:
            device: As torch names it; "auto" is the accelerator, if any.

        Returns:
            The pipeline itself.
        """
        self.backend.to(Runtime(device).torch_device)
        return self

    def __call__(
        self,
        inputs: Any = None,
        *,
        image: Any = None,
        vector: Any = None,
        examples: Sequence[Any] = (),
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
        progress: bool | StepProgress | None = None,
    ) -> Any:
        """Generates an image or audio for one input, or for a list of them.

        Inputs, images and vectors pair up one by one; a single one goes with all of the others.

        Args:
            inputs: A prompt. Or an item (`Image`, `Audio`, `Video`, `Text`, a `Path`) whose vector in `space` is drawn
                from. A str is a prompt, never a path.
            image: An image to start from: anything that `Image` takes. Its width and height are kept, rounded down to
                what the model supports.
            vector: (dim,), or (n, dim) for several: a vector of the model's space, see the top of this module.
            examples: Items whose mean vector in `space` accompanies every prompt, for models that take both (with an
                IP-Adapter: images of a style or a subject).
            space: The space that encodes `examples`, and `inputs` which are no prompts. Default: the space of the
                model.
            seed: One seed, or a list with one per input. The same seed gives the same output, whatever else is in the
                call (with `batch_size=1`); for diffusers, that of `torch.Generator("cpu").manual_seed(seed)`. Further
                outputs use the seeds that follow. Default: random; the result tells it.
            n: The number of outputs per input.
            negative: A prompt for what to avoid.
            steps: The number of denoising steps. Default, here and below: as the model was published.
            guidance: The scale of classifier-free guidance.
            strength: With `image`: how much of it may change, above 0 to 1.
            width: In pixels.
            height: In pixels.
            seconds: The duration of audio.
            truncate: Truncates a prompt that is too long instead of refusing it.
            batch_size: Outputs per batch. More than one is faster on a GPU and changes the last digits.
            progress: True for a progress bar, or a function to call with the steps done and the steps in all of the
                current batch; a two-stage model counts each stage. An exception raised in it cancels the call, and the
                pipeline can be used again.

        Returns:
            A `Generation`; a list of them for a list of inputs, in order; with `n` above 1 a list per input.

        Raises:
            InvalidInput: An invalid option, one that the model does not support, or a prompt that is too long.
            SpaceMismatch: Vectors of another space.
            MediaError: A file that cannot be decoded.
            EncoderError: Out of memory; the message says what to lower.
        """
        check_progress(progress)
        options = GenerationOptions(negative, steps, guidance, strength, width, height, seconds, truncate)
        whole_number(n, "n", of=" of outputs")
        whole_number(batch_size, "batch_size", of=" of outputs per batch")
        if len(examples):
            vector, space = example_vector(self.backend, examples, vector, space), None
        requests, is_single = build_requests(
            self.backend, inputs, image=image, vector=vector, space=space, seed=seed, n=n
        )
        self.backend.check(requests, options)
        if progress is True:
            with progress_bar("generating", len(requests)) as update:
                results = self._generate_all(requests, options, batch_size, _ItemProgress(update))
        else:
            report = progress if callable(progress) else _no_progress
            results = self._generate_all(requests, options, batch_size, report)
        starts = range(0, len(results), n)
        groups = [results[start : start + n] if n > 1 else results[start] for start in starts]
        return groups[0] if is_single else groups

    def _generate_all(
        self,
        requests: Sequence[GenerationRequest],
        options: GenerationOptions,
        batch_size: int,
        progress: StepProgress,
    ) -> list[Generation]:
        results: list[Generation] = []
        for batch in batches(requests, batch_size):
            if isinstance(progress, _ItemProgress):
                progress.batch = (len(results), len(batch))
            results += self._generate_batch(batch, options, progress)
        return results

    def interpolate(
        self,
        first: Any,
        last: Any,
        *,
        n: int = 5,
        space: Space | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> list[Generation]:
        """Generates from the vectors on the great circle between two inputs (as in unCLIP, Ramesh et al. 2022).

        Args:
            first: A prompt, an item, or a vector (dim,) of the space.
            last: Likewise.
            n: The number of outputs, both ends included, at equal angles.
            space: The space that encodes `first` and `last`. Default: the space of the model.
            seed: One seed for all outputs, so that only the vector changes.
            **options: Further options of a call.

        Returns:
            `n` results from `first` to `last`.

        Raises:
            InvalidInput: A model that takes no vectors, `n` below 2, or opposite vectors.
        """
        rows = interpolation_vectors(self.backend, first, last, n, space)
        requests, _ = build_requests(
            self.backend, None, image=None, vector=rows[0], space=None, seed=seed, n=1
        )
        return list(self(vector=rows, seed=[requests[0].seed] * n, **options))

    def between(self, first: Any, last: Any, **options: Any) -> list[Generation]:
        """Deprecated: use `interpolate`.

        Args:
            first: See `interpolate`.
            last: See `interpolate`.
            **options: See `interpolate`.

        Returns:
            See `interpolate`.
        """
        warnings.warn(
            "GenerationPipeline.between is deprecated and will be removed in 0.3.0: use "
            "GenerationPipeline.interpolate",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.interpolate(first, last, **options)

    def _generate_batch(
        self, batch: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> Iterator[Generation]:
        outputs = self.backend.generate(batch, options, progress)
        for request, output in zip(batch, outputs, strict=True):
            yield Generation(
                model=self.name, prompt=request.prompt, seed=request.seed, image=output.image, samples=output.samples,
                rate_hz=output.rate_hz, steps=output.steps, guidance=output.guidance, negative=options.negative,
                strength=output.strength, flagged=output.flagged, made_by=self.backend.model_class,
                version=version("multimodal"),
            )  # fmt: skip


def interpolation_vectors(
    backend: GenerationBackend, first: Any, last: Any, n: int, space: Space | None = None
) -> NDArray[np.float32]:
    """The vectors (n, dim) that `GenerationPipeline.interpolate` generates from."""
    whole_number(n, "n", of=" of outputs")
    source = space or backend.space
    if "vector" not in backend.supported_options or source is None:
        raise InvalidInput(
            f"{backend.name!r} has no space to interpolate in: take 'starter', or a checkpoint that takes CLIP's "
            "vectors, with space= that CLIP"
        )
    return interpolate(source, first, last, n)


def _no_progress(done: int, total: int) -> None:
    """Reports nothing."""


class _ItemProgress:
    """Moves a bar of outputs by the share of the steps of the current batch that are done.

    batch: the number of outputs before the current batch, and in it.
    """

    def __init__(self, update: UpdateBar) -> None:
        self.update = update
        self.batch = (0, 1)

    def __call__(self, done: int, total: int) -> None:
        before, size = self.batch
        self.update(before + size * min(done / max(total, 1), 1.0))
