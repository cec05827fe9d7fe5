"""What holds for every model that makes things: which classes of diffusers are understood, where a decoder goes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.pipelines.generation.backends import signature
from multimodal.pipelines.generation.options import (
    GenerationOptions,
    GenerationOutput,
    GenerationRequest,
    StepProgress,
)
from multimodal.pipelines.generation.pipeline import GenerationPipeline
from tests.pipelines.generation.generation_models import SIDE, Checkpoints, by_hand, checkpoints, upstream
from tests.pipelines.generation.test_generation_parity import an_image, ours, pixels

__all__ = ["checkpoints"]  # a fixture


def diffusers_class(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        return getattr(diffusers, name)


def call_signature(name: str) -> signature.CallSignature:
    """Of a class alone: the model itself is not looked at."""
    return signature.call_signature(object.__new__(diffusers_class(name)))


@pytest.mark.parametrize(
    ("name", "option", "parameter"),
    [
        ("QwenImagePipeline", "guidance", "true_cfg_scale"),
        ("StableCascadeCombinedPipeline", "guidance", "prior_guidance_scale"),
        ("FluxPipeline", "guidance", "guidance_scale"),
        ("FluxPipeline", "negative", None),  # without a second pass it would do nothing
        ("LatentConsistencyModelPipeline", "negative", None),
        ("StableAudio3Pipeline", "seconds", "duration"),
        ("AudioLDM2Pipeline", "seconds", "audio_length_in_s"),
        ("StableDiffusionPipeline", "strength", None),
        ("StableDiffusionImg2ImgPipeline", "strength", "strength"),
    ],
)
def test_options_go_where_each_class_has_them(name: str, option: str, parameter: str | None) -> None:
    assert call_signature(name).names.get(option) == parameter


def test_every_class_that_draws_words_is_taken() -> None:
    diffusers_class("AutoPipelineForText2Image")
    from diffusers.pipelines import auto_pipeline

    known = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    refused = []
    for cls in known.values():
        try:
            signature.check_use("it", cls)
        except CheckpointError as error:
            refused.append(str(error))
            continue
        call = signature.call_signature(object.__new__(cls))
        assert signature.output_modality(call) is Modality.IMAGE and not signature.needs_image(call)
        assert {"guidance", "width", "height"} <= call.names.keys(), cls
    assert len(known) - len(refused) > 30
    assert all("generates videos" in message or "masked" in message for message in refused)
    for cls in auto_pipeline.AUTO_TEXT2AUDIO_PIPELINES_MAPPING.values():
        call = signature.call_signature(object.__new__(cls))
        assert signature.output_modality(call) is Modality.AUDIO and {"steps", "seconds"} <= call.names.keys()


def test_a_decoder_with_its_prior_redraws_an_image_at_its_own_size(checkpoints: Checkpoints) -> None:
    from diffusers import AutoPipelineForImage2Image

    draw = ours(checkpoints("kandinsky"), prior=str(checkpoints("kandinsky_prior")))
    inner: Any = draw.backend
    redraw = AutoPipelineForImage2Image.from_pipe(inner.pipe)
    redraw.set_progress_bar_config(disable=True)
    start = an_image(66, 34)
    sized = start.resize((64, 32), PIL.Image.Resampling.LANCZOS)
    how = {"strength": 0.5, "num_inference_steps": 4, "width": 64, "height": 32}
    expected = by_hand(redraw, 3, prompt="a cat", image=sized, **how)
    made = draw("a cat", image=start, seed=3, steps=4, strength=0.5)
    assert np.array_equal(pixels(made), expected)


def test_errors_of_diffusers_become_invalid_input(checkpoints: Checkpoints) -> None:
    rain = ours(checkpoints("stable_audio"))
    with pytest.raises(ValueError) as theirs:
        by_hand(upstream(checkpoints("stable_audio")), 1, prompt="rain", audio_end_in_s=1e6)
    with pytest.raises(InvalidInput) as caught:
        rain("rain", seconds=1e6)
    assert str(caught.value) == f"{rain.name!r} rejects its arguments: {' '.join(str(theirs.value).split())}"
    draw = ours(checkpoints("stable_diffusion"))

    def fails(done: int, total: int) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        draw("a cat", steps=1, width=SIDE, height=SIDE, progress=fails)


def test_two_threads_do_not_spoil_each_other(checkpoints: Checkpoints) -> None:
    draw = ours(checkpoints("stable_diffusion"))
    how: dict[str, Any] = {"steps": 2, "width": SIDE, "height": SIDE}
    expected = {seed: pixels(draw("a cat", seed=seed, **how)) for seed in range(4)}
    results: dict[int, Any] = {}

    def work(seed: int) -> None:
        results[seed] = pixels(draw("a cat", seed=seed, **how))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    off = {seed: int(np.abs(results[seed].astype(int) - expected[seed]).max()) for seed in expected}
    assert set(off.values()) == {0}, off


class ColourBackend:
    """A minimal decoder on a shared space: the first three components of a vector are the colour of the image."""

    name, model_class, output_modality = "colours", "ColourBackend", Modality.IMAGE
    supported_options = frozenset({"prompt", "vector"})

    def __init__(self, space: Space) -> None:
        self.space: Space | None = space
        self.dim: int | None = space.dim

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        if options.specified():
            raise InvalidInput(f"it takes no {', '.join(sorted(options.specified()))}")

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        assert self.space is not None
        made = []
        for place, request in enumerate(requests):
            vector = self.space.encode(request.prompt) if request.vector is None else request.vector
            colour = tuple(int(255 * value) for value in vector[:3])
            made.append(GenerationOutput(image=PIL.Image.new("RGB", (8, 8), colour)))
            progress(place + 1, len(requests))
        return made

    def to(self, device: Any) -> None:
        """Nothing to move."""


def test_a_decoder_on_a_space_is_a_backend(clip: Space) -> None:
    """It generates from prompts and from vectors of any modality, without space=."""
    draw = GenerationPipeline(ColourBackend(clip))
    red = PIL.Image.new("RGB", (8, 8), (255, 0, 0))
    made = [
        draw("red", seed=1), draw(red, seed=1), draw(mm.Text("red"), seed=1), draw(vector=np.eye(3)[0], seed=1)
    ]  # fmt: skip
    assert all(np.array_equal(pixels(item), np.asarray(red)) for item in made)
    assert (made[0].prompt, made[1].prompt) == ("red", None)
    assert made[0].to_dict() | {"version": ""} == {
        "prompt": "red", "model": "colours", "seed": 1, "steps": None, "guidance": None, "negative": None,
        "strength": None, "flagged": None, "made_by": "ColourBackend", "version": "", "width": 8, "height": 8,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=r"^it takes no steps$"):
        draw("red", steps=3)
