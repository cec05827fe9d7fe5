"""Pictures and sounds made by pipelines of diffusers: the same numbers as upstream gives for the same seed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

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

UNIT = 1e-3  # a vector this near to length one was scaled to it


class DiffusersBackend:
    """`pipe` is diffusers' own pipeline, for whatever this does not offer (LoRA, other schedulers)."""

    space: Space | None = None  # its vectors come from outside

    def __init__(self, name: str, pipe: Any, vector_length: float | None = None) -> None:
        self.name, self.pipe, self.model_class = name, pipe, type(pipe).__name__
        self.call = signature.call_signature(pipe)
        self.output_modality = signature.output_modality(self.call)
        self.rate_hz = signature.sampling_rate(pipe) if self.output_modality is Modality.AUDIO else None
        if self.output_modality is Modality.AUDIO and self.rate_hz is None:
            raise CheckpointError(
                f"{name!r} is a {self.model_class}, none of whose parts tells the rate of its samples; take "
                "another model"
            )
        self.by_vector: signature.CallSignature | None = None
        self.kind: signature.VectorKind | None = None
        self.dim: int | None = None
        if (found := signature.vector_signature(self.call)) is not None:
            self.by_vector, self.kind, self.dim = found
        self.length = vector_length if vector_length is not None else signature.vector_norm(pipe)
        self._busy = threading.Lock()  # schedulers keep where they are: two at a time would spoil each other

    @functools.cached_property
    def by_image(self) -> signature.CallSignature | None:
        return (
            signature.image_to_image_signature(self.call) if self.output_modality is Modality.IMAGE else None
        )

    @property
    def supported_options(self) -> frozenset[str]:
        """ "prompt", "vector", "image" and the options of any of them."""
        routes = {"vector": self.by_vector, "image": self.by_image}
        words = {"prompt"} if self.call.has("prompt") else set()
        options = set(self.call.names).union(*(one.names for one in routes.values() if one is not None))
        return frozenset(
            words | {key for key, one in routes.items() if one is not None} | options | {"truncate"}
        )

    def to(self, device: torch.device) -> None:
        self.pipe.to(device)

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
        given = self._arguments(call, requests, options)
        dice = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
        pipes = {id(one): one for one in (self.pipe, call.pipe, *_inner(call.pipe))}.values()
        with (
            self._busy,
            explain_out_of_memory(self, len(requests)),
            value_errors_as_invalid_input(self.name, progress) as counted,
            report_progress(pipes, counted),
            captured_logs(),
            overflow_as_error(self.name),
        ):
            output = call.pipe(**given, generator=dice if len(dice) > 1 else dice[0])
        told = {key: self._used(call, key, options) for key in ("steps", "guidance", "strength")}
        if requests[0].image is None:
            told["strength"] = None
        return (
            self._pictures(output, told)
            if self.output_modality is Modality.IMAGE
            else self._sounds(output, told)
        )

    def _route(self, request: GenerationRequest) -> signature.CallSignature:
        """The call for a request. Raises InvalidInput if there is none."""
        if request.vector is not None:
            if self.by_vector is None:
                raise InvalidInput(
                    f"{self.name!r} is a {self.model_class}, which takes no vectors: give words, or a checkpoint "
                    "made for "
                    "CLIP's vectors of pictures (Stable unCLIP, Kandinsky 2.2), or ip_adapter=… to from_pretrained"
                )
            return self.by_vector
        if request.image is not None:
            if self.by_image is None:
                raise InvalidInput(
                    f"{self.name!r} is a {self.model_class}, which begins with no picture: leave image out"
                )
            return self.by_image
        if signature.needs_vector(self.call):
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which draws from vectors alone: give vector=…, or to "
                "from_pretrained "
                "prior='diffusers/<the checkpoint that turns words into its vectors>'"
            )
        if signature.needs_image(self.call):
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which makes nothing of words alone: give image=…"
                + (" or vector=…" if self.by_vector is not None else "")
            )
        return self.call

    def _check_options(
        self, call: signature.CallSignature, request: GenerationRequest, options: GenerationOptions
    ) -> None:
        takes = set(call.names) | {"truncate"}
        if request.image is not None and self._resizes(call):
            takes |= {"width", "height"}
        refused = sorted(options.specified() - takes)
        if refused:
            raise InvalidInput(
                f"{self.name!r} is a {type(call.pipe).__name__}, which takes no {', '.join(refused)}"
                f"{'' if request.image or 'strength' not in refused else ' without image='}; it takes "
                f"{', '.join(sorted(takes))}"
            )
        most = getattr(
            getattr(getattr(call.pipe, "scheduler", None), "config", None), "num_train_timesteps", None
        )
        if options.steps is not None and most is not None and options.steps > most:
            raise InvalidInput(f"steps must be at most {most:,} for {self.name!r}, got {options.steps:,}")
        if options.negative is not None and options.guidance is not None and options.guidance <= 1:
            raise InvalidInput(
                f"negative does nothing with guidance={options.guidance}: give a guidance above 1, or leave it out"
            )
        grid = signature.size_multiple(call.pipe) if self.output_modality is Modality.IMAGE else 1
        for name in ("width", "height"):
            value = getattr(options, name)
            if value is not None and value % grid:
                near = [one for one in (value // grid * grid, (value // grid + 1) * grid) if one]
                raise InvalidInput(
                    f"{name} must be a multiple of {grid} for {self.name!r}, got {value}: take "
                    f"{' or '.join(map(str, near))}"
                )
        steps, strength = self._used(call, "steps", options), self._used(call, "strength", options)
        if request.image is not None and steps and strength and int(steps * strength) < 1:
            raise InvalidInput(
                f"of {steps} steps a strength of {strength} leaves none: give at least {-int(-1 // strength)} steps"
            )

    def _check_prompt(
        self, call: signature.CallSignature, request: GenerationRequest, options: GenerationOptions
    ) -> None:
        if request.prompt is None and call.has("prompt") and request.vector is None and call is not self.call:
            raise InvalidInput(f"{self.name!r} needs words for what to make of the picture: give a prompt")
        if request.prompt is not None and not call.has("prompt"):
            raise InvalidInput(f"{self.name!r} takes either words or a vector, not both: leave one out")
        for what, text in (("prompt", request.prompt), ("negative prompt", options.negative)):
            if text is None or options.truncate:
                continue
            with (
                self._busy
            ):  # a tokenizer keeps how it pads and cuts, and another thread may be drawing with it
                check_length(self.name, what, text, self.call if self.call.has("prompt") else call)

    def _check_vector(self, vector: Any) -> None:
        import numpy as np

        if vector.shape != (self.dim,):
            raise SpaceMismatch(
                f"{self.name!r} takes vectors of {self.dim} numbers, of the CLIP it was trained with, got "
                f"{vector.shape[-1]}: encode with that CLIP"
            )
        if self.length is None and abs(float(np.linalg.norm(vector)) - 1) < UNIT:
            raise InvalidInput(
                f"a vector of length 1 given, and {self.name!r} was trained with CLIP's own, which are longer, and "
                "does "
                "not say how long: give vector_length=… to from_pretrained (the mean length of image_embeds of its "
                "CLIP)"
            )

    def _arguments(
        self, call: signature.CallSignature, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> dict[str, Any]:
        """What to call the pipeline with, but for the generator."""
        alone = len(requests) == 1

        def each(values: list[Any]) -> Any:
            return values[0] if alone else values

        found: dict[str, Any] = {
            call.names[key]: getattr(options, key) for key in options.specified() & call.names.keys()
        }
        if options.negative is not None:
            found[call.names["negative"]] = each([options.negative] * len(requests))
        if call.has("prompt"):
            found["prompt"] = each([request.prompt or "" for request in requests])
        if requests[0].vector is not None:
            found |= self._vectors(call, [request.vector for request in requests], options)
        elif requests[0].image is not None:
            pictures = [
                self._sized(call, request.image, options) for request in requests if request.image is not None
            ]
            found["image"] = each(pictures)
            if self._resizes(call) and "width" in call.names and "height" in call.names:
                found |= {"width": pictures[0].width, "height": pictures[0].height}
        return found

    def _resizes(self, call: signature.CallSignature) -> bool:
        """Whether a picture gives the size of what is made of it: not where it is only looked at."""
        return call is not self.call

    def _sized(
        self, call: signature.CallSignature, image: PIL.Image.Image, options: GenerationOptions
    ) -> PIL.Image.Image:
        """A picture at the size asked for, else its own rounded down to what the model can do."""
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
        """CLIP's vectors of pictures (n, dim) as the pipeline takes them, those of length one at their usual length."""
        import torch

        rows = torch.from_numpy(_scaled(vectors, self.length)).to(call.pipe.device, call.pipe.unet.dtype)
        if self.kind == "unclip":
            return {"image_embeds": rows}
        if self.kind == "kandinsky":
            prior = getattr(self.pipe, "prior_pipe", None)
            nothing = (
                torch.zeros_like(rows)
                if prior is None
                else prior.get_zero_embed(len(rows), rows.device).to(rows)
            )
            return {"image_embeds": rows, "negative_image_embeds": nothing}
        rows = rows[:, None]  # (n, 1, dim): one picture for each
        guided = (self._used(call, "guidance", options) or 0) > 1
        return {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(rows), rows]) if guided else rows]}

    def _used(self, call: signature.CallSignature, name: str, options: GenerationOptions) -> Any:
        given = getattr(options, name)
        return call.default(name) if given is None else given

    def _pictures(self, output: Any, told: dict[str, Any]) -> list[GenerationOutput]:
        flags = getattr(output, "nsfw_content_detected", None)
        if flags is None:
            flags = getattr(output, "nsfw_detected", None)
        return [
            GenerationOutput(
                image=image.convert("RGB"), flagged=None if flags is None else bool(flags[place]), **told
            )
            for place, image in enumerate(output.images)
        ]

    def _sounds(self, output: Any, told: dict[str, Any]) -> list[GenerationOutput]:
        import numpy as np
        import torch

        made = []
        for one in output.audios:
            samples = one.detach().float().cpu().numpy() if isinstance(one, torch.Tensor) else np.asarray(one)
            if not np.isfinite(samples).all():
                raise overflow_error(self.name)
            rows = samples.astype(np.float32)
            rows = rows.T if rows.ndim == 2 else rows  # upstream gives (channels, n)
            made.append(
                GenerationOutput(
                    samples=rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows,
                    rate_hz=self.rate_hz,
                    **told,
                )
            )
        return made


def _scaled(vectors: Sequence[Any], length: float | None) -> Any:
    """(n, dim) float32; rows of length one at `length`, others as they are: those were not scaled to a space."""
    import numpy as np

    rows = np.stack(vectors).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(np.abs(norms - 1) < UNIT, rows * (length or 1.0), rows).astype(np.float32)


def _inner(pipe: Any) -> Iterable[Any]:
    """The pipelines that a joined one runs one after the other."""
    return [one for name in ("prior_pipe", "decoder_pipe") if (one := getattr(pipe, name, None)) is not None]
