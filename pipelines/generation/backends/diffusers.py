"""Image and audio generation with diffusers pipelines. For one seed, the output is identical to upstream's."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.errors import CheckpointError, InvalidInput, SpaceMismatch
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.pipelines.generation.backends import signature
from multimodal.pipelines.generation.backends.diffusers_load import captured_logs
from multimodal.pipelines.generation.backends.diffusers_progress import (
    overflow_as_error,
    overflow_error,
    report_progress,
    value_errors_as_invalid_input,
)
from multimodal.pipelines.generation.backends.prompt_length import check_length
from multimodal.pipelines.generation.options import (
    GenerationOptions,
    GenerationOutput,
    GenerationRequest,
    StepProgress,
    explain_out_of_memory,
)

if TYPE_CHECKING:
    import PIL.Image
    import torch

UNIT = 1e-3  # a vector whose norm differs from 1 by less than this counts as normalised


class DiffusersBackend:
    """`pipe` is the diffusers pipeline itself, for features that are not exposed here (LoRA, other schedulers)."""

    space: Space | None = None  # vectors come from a space that the caller names

    def __init__(self, name: str, pipe: Any, vector_length: float | None = None) -> None:
        self.name, self.pipe, self.model_class = name, pipe, type(pipe).__name__
        self.call = signature.call_signature(pipe)
        self.output_modality = signature.output_modality(self.call)
        self.rate_hz = signature.sampling_rate(pipe) if self.output_modality is Modality.AUDIO else None
        if self.output_modality is Modality.AUDIO and self.rate_hz is None:
            raise CheckpointError(
                f"{name!r} is a {self.model_class}, and none of its components states a sampling rate; use "
                "another model"
            )
        self.by_vector: signature.CallSignature | None = None
        self.kind: signature.VectorKind | None = None
        self.dim: int | None = None
        if (vector_call := signature.vector_signature(self.call)) is not None:
            self.by_vector, self.kind, self.dim = vector_call
        self.length = vector_length if vector_length is not None else signature.vector_norm(pipe)
        self._busy = threading.Lock()  # schedulers hold state, so calls may not overlap

    @functools.cached_property
    def by_image(self) -> signature.CallSignature | None:
        return (
            signature.image_to_image_signature(self.call) if self.output_modality is Modality.IMAGE else None
        )

    @property
    def supported_options(self) -> frozenset[str]:
        """The accepted inputs ("prompt", "vector", "image") and the options of all of them."""
        routes = {"vector": self.by_vector, "image": self.by_image}
        inputs = {"prompt"} if self.call.has("prompt") else set()
        options = set(self.call.names).union(*(route.names for route in routes.values() if route is not None))
        return frozenset(
            inputs | {key for key, route in routes.items() if route is not None} | options | {"truncate"}
        )

    def to(self, device: torch.device) -> None:
        self.pipe.to(device)

    @property
    def decoder_network(self) -> Any:
        """See `TrainableBackend`. Raises InvalidInput for other pipelines than Stable Diffusion and Flux."""
        return getattr(self.pipe, self._training[0])

    @property
    def _training(self) -> tuple[str, Any]:
        """The part of the pipeline that trains, and its loss."""
        from multimodal.pipelines.generation.backends.training import TRAINABLE

        if self.model_class not in TRAINABLE:
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}; training is supported for {' and '.join(TRAINABLE)}, and PEFT "
                "and diffusers train others on `backend.pipe`"
            )
        return TRAINABLE[self.model_class]

    def with_network(self, net: Any) -> Self:
        """See `TrainableBackend`."""
        other = copy.copy(self)
        other.pipe = copy.copy(self.pipe)
        setattr(other.pipe, self._training[0], net)
        other._busy = threading.Lock()
        return other

    def pair_losses(self, pairs: Sequence[tuple[Any, Any]], seed: int) -> torch.Tensor:
        """See `TrainableBackend`."""
        losses: torch.Tensor = self._training[1](self.pipe, pairs, seed)
        return losses

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        """See GenerationBackend."""
        for request in requests:
            call = self._route(request)
            self._check_options(call, request, options)
            self._check_prompt(call, request, options)
            if request.vector is not None:
                self._check_vector(request.vector)

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        """See GenerationBackend."""
        import torch

        call = self._route(requests[0])
        arguments = self._arguments(call, requests, options)
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
        pipes = {id(pipe): pipe for pipe in (self.pipe, call.pipe, *_inner(call.pipe))}.values()
        with (
            self._busy,
            explain_out_of_memory(self, len(requests)),
            value_errors_as_invalid_input(self.name, progress) as counted,
            report_progress(pipes, counted),
            captured_logs(),
            overflow_as_error(self.name),
        ):
            output = call.pipe(**arguments, generator=generators if len(generators) > 1 else generators[0])
        used_options = {key: self._used(call, key, options) for key in ("steps", "guidance", "strength")}
        if requests[0].image is None:
            used_options["strength"] = None
        return (
            self._image_outputs(output, used_options)
            if self.output_modality is Modality.IMAGE
            else self._audio_outputs(output, used_options)
        )

    def _route(self, request: GenerationRequest) -> signature.CallSignature:
        """The call for a request. Raises InvalidInput if there is none."""
        if request.vector is not None:
            if self.by_vector is None:
                raise InvalidInput(
                    f"{self.name!r} is a {self.model_class}, which takes no vectors: give a prompt, use a checkpoint "
                    "made for CLIP image vectors (Stable unCLIP, Kandinsky 2.2), or give ip_adapter=… to "
                    "from_pretrained"
                )
            return self.by_vector
        if request.image is not None:
            if self.by_image is None:
                raise InvalidInput(
                    f"{self.name!r} is a {self.model_class}, which cannot start from an image: leave image out"
                )
            return self.by_image
        if signature.needs_vector(self.call):
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which generates from vectors only: give vector=…, or give "
                "from_pretrained prior='diffusers/<the checkpoint that maps text to its vectors>'"
            )
        if signature.needs_image(self.call):
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which cannot generate from a prompt alone: give image=…"
                + (" or vector=…" if self.by_vector is not None else "")
            )
        return self.call

    def _check_options(
        self, call: signature.CallSignature, request: GenerationRequest, options: GenerationOptions
    ) -> None:
        accepted = set(call.names) | {"truncate"}
        if request.image is not None and self._resizes(call):
            accepted |= {"width", "height"}
        refused = sorted(options.specified() - accepted)
        if refused:
            raise InvalidInput(
                f"{self.name!r} is a {type(call.pipe).__name__}, which takes no {', '.join(refused)}"
                f"{'' if request.image or 'strength' not in refused else ' without image='}; it takes "
                f"{', '.join(sorted(accepted))}"
            )
        most = getattr(
            getattr(getattr(call.pipe, "scheduler", None), "config", None), "num_train_timesteps", None
        )
        if options.steps is not None and most is not None and options.steps > most:
            raise InvalidInput(f"steps must be at most {most:,} for {self.name!r}, got {options.steps:,}")
        if options.negative is not None and options.guidance is not None and options.guidance <= 1:
            raise InvalidInput(
                f"negative has no effect with guidance={options.guidance}: give a guidance above 1, or leave it out"
            )
        grid = signature.size_multiple(call.pipe) if self.output_modality is Modality.IMAGE else 1
        for name in ("width", "height"):
            value = getattr(options, name)
            if value is not None and value % grid:
                nearest = [size for size in (value // grid * grid, (value // grid + 1) * grid) if size]
                raise InvalidInput(
                    f"{name} must be a multiple of {grid} for {self.name!r}, got {value}: take "
                    f"{' or '.join(map(str, nearest))}"
                )
        steps, strength = self._used(call, "steps", options), self._used(call, "strength", options)
        if request.image is not None and steps and strength and int(steps * strength) < 1:
            raise InvalidInput(
                f"strength {strength} leaves none of {steps} steps: give at least {-int(-1 // strength)} steps"
            )

    def _check_prompt(
        self, call: signature.CallSignature, request: GenerationRequest, options: GenerationOptions
    ) -> None:
        if request.prompt is None and call.has("prompt") and request.vector is None and call is not self.call:
            raise InvalidInput(f"{self.name!r} needs a prompt beside the image: give a prompt")
        if request.prompt is not None and not call.has("prompt"):
            raise InvalidInput(f"{self.name!r} takes either a prompt or a vector, not both: leave one out")
        for what, text in (("prompt", request.prompt), ("negative prompt", options.negative)):
            if text is None or options.truncate:
                continue
            with self._busy:  # tokenizers hold padding state, and another thread may be generating
                check_length(self.name, what, text, self.call if self.call.has("prompt") else call)

    def _check_vector(self, vector: Any) -> None:
        import numpy as np

        if vector.shape != (self.dim,):
            raise SpaceMismatch(
                f"{self.name!r} takes vectors of dimension {self.dim}, from the CLIP model it was trained with, got "
                f"{vector.shape[-1]}: encode with that model"
            )
        if self.length is None and abs(float(np.linalg.norm(vector)) - 1) < UNIT:
            raise InvalidInput(
                f"got a vector of norm 1, but {self.name!r} was trained with unnormalised CLIP vectors and does not "
                "state their norm: give vector_length=… to from_pretrained (the mean norm of image_embeds of its CLIP)"
            )

    def _arguments(
        self, call: signature.CallSignature, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> dict[str, Any]:
        """The keyword arguments of the pipeline call, without the generator."""
        alone = len(requests) == 1

        def each(values: list[Any]) -> Any:
            return values[0] if alone else values

        arguments: dict[str, Any] = {
            call.names[key]: getattr(options, key) for key in options.specified() & call.names.keys()
        }
        if options.negative is not None:
            arguments[call.names["negative"]] = each([options.negative] * len(requests))
        if call.has("prompt"):
            arguments["prompt"] = each([request.prompt or "" for request in requests])
        if requests[0].vector is not None:
            arguments |= self._vectors(call, [request.vector for request in requests], options)
        elif requests[0].image is not None:
            images = [
                self._sized(call, request.image, options) for request in requests if request.image is not None
            ]
            arguments["image"] = each(images)
            if self._resizes(call) and "width" in call.names and "height" in call.names:
                arguments |= {"width": images[0].width, "height": images[0].height}
        return arguments

    def _resizes(self, call: signature.CallSignature) -> bool:
        """Whether the output takes the size of the input image; not for pipelines that only condition on the image."""
        return call is not self.call

    def _sized(
        self, call: signature.CallSignature, image: PIL.Image.Image, options: GenerationOptions
    ) -> PIL.Image.Image:
        """The image at the requested size, by default its own size rounded down to a multiple the model supports."""
        from PIL.Image import Resampling

        if not self._resizes(call):
            return image
        grid = signature.size_multiple(call.pipe)
        width = options.width or max(image.width // grid, 1) * grid
        height = options.height or max(image.height // grid, 1) * grid
        size = (width, height)
        return image if size == image.size else image.resize(size, Resampling.LANCZOS)

    def _vectors(
        self, call: signature.CallSignature, vectors: Sequence[Any], options: GenerationOptions
    ) -> dict[str, Any]:
        """CLIP image vectors (n, dim) as arguments of the pipeline; unit vectors are scaled to the training norm."""
        import torch

        rows = torch.from_numpy(_scaled(vectors, self.length)).to(call.pipe.device, call.pipe.unet.dtype)
        if self.kind == "unclip":
            return {"image_embeds": rows}
        if self.kind == "kandinsky":
            prior = getattr(self.pipe, "prior_pipe", None)
            unconditional = (
                torch.zeros_like(rows)
                if prior is None
                else prior.get_zero_embed(len(rows), rows.device).to(rows)
            )
            return {"image_embeds": rows, "negative_image_embeds": unconditional}
        rows = rows[:, None]  # (n, 1, dim): one image per sample
        guided = (self._used(call, "guidance", options) or 0) > 1
        return {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(rows), rows]) if guided else rows]}

    def _used(self, call: signature.CallSignature, name: str, options: GenerationOptions) -> Any:
        given = getattr(options, name)
        return call.default(name) if given is None else given

    def _image_outputs(self, output: Any, used_options: dict[str, Any]) -> list[GenerationOutput]:
        flags = getattr(output, "nsfw_content_detected", None)
        if flags is None:
            flags = getattr(output, "nsfw_detected", None)
        return [
            GenerationOutput(
                image=image.convert("RGB"),
                flagged=None if flags is None else bool(flags[place]),
                **used_options,
            )
            for place, image in enumerate(output.images)
        ]

    def _audio_outputs(self, output: Any, used_options: dict[str, Any]) -> list[GenerationOutput]:
        import numpy as np
        import torch

        outputs = []
        for audio in output.audios:
            samples = (
                audio.detach().float().cpu().numpy() if isinstance(audio, torch.Tensor) else np.asarray(audio)
            )
            if not np.isfinite(samples).all():
                raise overflow_error(self.name)
            rows = samples.astype(np.float32)
            rows = rows.T if rows.ndim == 2 else rows  # upstream gives (channels, n)
            outputs.append(
                GenerationOutput(
                    samples=rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows,
                    rate_hz=self.rate_hz,
                    **used_options,
                )
            )
        return outputs


def _scaled(vectors: Sequence[Any], length: float | None) -> Any:
    """(n, dim) float32: unit rows scaled to `length`, other rows unchanged, since they were not normalised."""
    import numpy as np

    rows = np.stack(vectors).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(np.abs(norms - 1) < UNIT, rows * (length or 1.0), rows).astype(np.float32)


def _inner(pipe: Any) -> Iterable[Any]:
    """The pipelines that a combined pipeline runs in sequence."""
    return [
        inner for name in ("prior_pipe", "decoder_pipe") if (inner := getattr(pipe, name, None)) is not None
    ]
