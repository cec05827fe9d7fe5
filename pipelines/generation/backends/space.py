"""Image generation from vectors of a shared space, of any modality, with a generator trained for that space.

A generator belongs to the encoders whose vectors it was trained on; their fingerprints are stored beside its weights
(`draw.json`). `recipes/starter/generator/train_draw.py` writes the folder. Outputs are reproducible: the image of a
seed does not depend on the rest of its batch.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CorruptSpace, EncoderError, InvalidInput, MissingExtra, SpaceMismatch
from multimodal.core.items import Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
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
    from numpy.typing import NDArray

DESCRIPTION = "draw.json"
FORMAT = 1
REPAIR = "train one with 'python -m recipes.starter.generator.draw', or copy the folder again"
STRENGTH = 0.7  # default for image-to-image, slightly below that of Stable Diffusion
MOST_STEPS = 1000
TAKES = frozenset({"prompt", "vector", "image", "negative", "steps", "guidance", "strength"})


class SpaceGenerationBackend:
    """A space and the pipeline trained on its vectors. `pipe` is a DiffusionPipeline, loaded at first use."""

    output_modality = Modality.IMAGE
    model_class = "SpacePicturePipeline"
    supported_options = TAKES

    def __init__(self, space: Space, folder: Path) -> None:
        """folder: a diffusers pipeline folder with draw.json.

        Raises MissingExtra without diffusers, CorruptSpace if the folder is missing or damaged, SpaceMismatch if it
        belongs to another space.
        """
        self.space: Space | None = space
        self.dim: int | None = space.dim
        self.name, self.folder, self._space = space.name, folder, space
        if importlib.util.find_spec("diffusers") is None:
            raise MissingExtra("generating images", package="diffusers", extra="diffusion")
        self._check_made_for(_read(folder))
        self._device: torch.device | None = None
        self._busy = threading.Lock()  # the scheduler holds state

    @functools.cached_property
    def pipe(self) -> Any:
        """The loaded pipeline. Raises CorruptSpace for missing or mismatched weights."""
        import torch

        with warnings.catch_warnings():  # importing diffusers raises deprecation warnings
            warnings.simplefilter("ignore")
            from multimodal.pipelines.generation.backends.space_pipeline import load_parts
        from multimodal.pipelines.generation.backends.diffusers_load import captured_logs

        runtime = next(iter(self._space.encoders.values())).runtime
        try:
            with captured_logs():
                pipe = load_parts(self.folder)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CorruptSpace(f"no generator can be read from {self.folder} ({error}); {REPAIR}") from error
        if pipe.dim != self.dim:
            raise CorruptSpace(
                f"the generator in {self.folder} takes vectors of dimension {pipe.dim}, and its space has dimension "
                f"{self.dim}; {REPAIR}"
            )
        pipe.set_progress_bar_config(disable=True)
        torch.nn.Module.to(pipe.transformer, runtime.cast)  # ModelMixin.to warns without cause
        return pipe.to(self._device or runtime.torch_device)

    def to(self, device: torch.device) -> None:
        """Moves the generator; the space's encoders stay where they were loaded."""
        self._device = device
        self.pipe.to(device)

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        """See GenerationBackend."""
        refused = sorted(options.specified() - TAKES)
        if refused:
            raise InvalidInput(
                f"{self.name!r} generates images of 64 x 64 pixels and takes no {', '.join(refused)}; it takes "
                f"{', '.join(sorted(TAKES))}"
            )
        if options.steps is not None and options.steps > MOST_STEPS:
            raise InvalidInput(
                f"steps must be at most {MOST_STEPS:,} for {self.name!r}, got {options.steps:,}"
            )
        if options.negative is not None and options.guidance is not None and options.guidance <= 1:
            raise InvalidInput(
                f"negative has no effect with guidance={options.guidance}: give a guidance above 1, or leave it out"
            )
        if options.strength is not None and any(request.image is None for request in requests):
            raise InvalidInput(f"{self.name!r} takes no strength without image=: leave it out")
        for request in requests:
            if request.vector is not None:
                unit_rows(request.vector, self._space.dim)

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        """See GenerationBackend. An image without a prompt is regenerated from its own vector."""
        import torch

        from multimodal.pipelines.generation.backends import space_pipeline as pipes

        steps = options.steps or pipes.STEPS
        guidance = pipes.GUIDANCE if options.guidance is None else float(options.guidance)
        starts_from_image = requests[0].image is not None
        strength = (options.strength or STRENGTH) if starts_from_image else None
        vectors = torch.from_numpy(self._vectors(requests))
        negative = None if options.negative is None else self._space.encode([Text(options.negative)])[0]
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
        with self._busy, explain_out_of_memory(self, len(requests)):
            images = self.pipe(
                vectors, generators, steps=steps, guidance=guidance, strength=strength or 1.0,
                images=torch.stack([_square(request.image) for request in requests]) if starts_from_image else None,
                negative=None if negative is None else torch.from_numpy(negative), on_step=progress,
            )  # fmt: skip
        if not torch.isfinite(images).all():
            raise EncoderError(
                f"{self.name!r} produced non-finite values: give precision='float32' to from_pretrained"
            )
        return [
            GenerationOutput(image=_to_pil(pixels), steps=steps, guidance=guidance, strength=strength)
            for pixels in images
        ]

    def _vectors(self, requests: Sequence[GenerationRequest]) -> NDArray[Any]:
        """(n, dim) unit rows: the vector of each request, else that of its prompt, else that of its image."""
        import numpy as np

        rows = np.empty((len(requests), self._space.dim), dtype=np.float32)
        items: dict[int, Item] = {}
        for place, request in enumerate(requests):
            if request.vector is not None:
                rows[place] = unit_rows(request.vector, self._space.dim)[0]
            elif request.prompt is not None:
                items[place] = Text(request.prompt)
            elif request.image is not None:
                items[place] = Image(request.image)
        if items:
            rows[list(items)] = self._space.encode(list(items.values()))
        return rows

    def _check_made_for(self, about: dict[str, Any]) -> None:
        mismatched = [
            str(modality)
            for modality, encoder in self._space.encoders.items()
            if about["encoders"].get(str(modality)) not in encoder.decoder_fingerprints
        ]
        if mismatched:
            raise SpaceMismatch(
                f"the generator in {self.folder} was not trained for the {' and '.join(mismatched)} encoder of "
                f"{self._space.name!r}, so it would misread its vectors; use the starter ('starter'), a diffusers "
                "model ('diffusers/…'), or train a generator with recipes/starter/generator/draw.py"
            )


def _read(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptSpace(f"no generator can be read from {folder} ({error}); {REPAIR}") from error
    if not isinstance(about, dict) or not {"format", "encoders"} <= set(about):
        raise CorruptSpace(f"{folder / DESCRIPTION} does not describe a generator; {REPAIR}")
    if about["format"] > FORMAT:
        raise CorruptSpace(
            f"{folder / DESCRIPTION} has format {about['format']}, this version reads up to {FORMAT}: upgrade "
            "multimodal"
        )
    return about


def _square(image: PIL.Image.Image | None) -> torch.Tensor:
    """An RGB image as input of the generator: (3, 64, 64) in [0, 1], padded to a square as for the starter."""
    import numpy as np

    from multimodal.encoders.starter.preprocessing import resize_to_square

    return resize_to_square(np.asarray(image)).float() / 255


def _to_pil(image: torch.Tensor) -> PIL.Image.Image:
    import PIL.Image

    pixels = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return PIL.Image.fromarray(pixels)
