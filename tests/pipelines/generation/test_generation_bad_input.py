"""What cannot be made is refused before anything runs, with what was given, what was expected and the cure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import EncoderError, InvalidInput, MediaNotFound, SpaceMismatch
from multimodal.core.space import Space
from multimodal.pipelines.generation.pipeline import GenerationPipeline
from tests.pipelines.generation.generation_models import CLIP_DIM, SIDE, Checkpoints, checkpoints
from tests.pipelines.generation.test_generation_parity import a_vector, an_image, ours, pixels

__all__ = ["checkpoints"]  # a fixture

SIZE = {"width": SIDE, "height": SIDE}
SD = "NAME is a StableDiffusionPipeline, which takes"
TAKES = "guidance, height, negative, steps, truncate, width"


@pytest.fixture
def draw(checkpoints: Checkpoints) -> GenerationPipeline:
    return ours(checkpoints("stable_diffusion"))


def inside(made: GenerationPipeline) -> Any:
    """The backend, as what it is."""
    return made.backend


def refuses(
    made: GenerationPipeline, text: str, *inputs: Any, kind: type[Exception] = InvalidInput, **how: Any
) -> None:
    """Raises with exactly this text, where NAME is the model's, and before a step is made."""
    steps: list[Any] = []
    with pytest.raises(kind) as caught:
        made(*inputs, progress=lambda *at: steps.append(at), **how)
    assert str(caught.value) == text.replace("NAME", repr(made.name))
    assert steps == []


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"steps": 2.5}, "steps must be a whole number above 0, got 2.5"),
        ({"steps": 1001}, "steps must be at most 1,000 for NAME, got 1,001"),
        ({"guidance": -1.0}, "guidance must be a number from 0 up, got -1.0"),
        ({"guidance": float("nan")}, "guidance must be a number from 0 up, got nan"),
        ({"width": 0}, "width must be a whole number above 0, got 0"),
        ({"width": 99_999}, "width must be at most 16,384 pixels, got 99,999"),
        ({"width": 30}, "width must be a multiple of 8 for NAME, got 30: take 24 or 32"),
        ({"height": 5}, "height must be a multiple of 8 for NAME, got 5: take 8"),
        ({"strength": 0}, "strength must be above 0 and at most 1 (1 keeps nothing of the image), got 0"),
        ({"negative": " "}, "negative must be a prompt for what to avoid, got ' '; leave it out"),
        ({"negative": "rain", "guidance": 1.0},
         "negative has no effect with guidance=1.0: give a guidance above 1, or leave it out"),
        ({"seed": -1}, "seed must be a whole number from 0 to 2^63 - 1, got -1"),
        ({"seed": True}, "seed must be a whole number from 0 to 2^63 - 1, got True"),
        ({"seed": 2**63 - 1, "n": 2}, f"seed must be a whole number from 0 to 2^63 - 1, got {2**63}"),
        ({"seed": [1, 2]}, "2 seeds given for 1 inputs: give one for each, or a single one"),
        ({"n": 0}, "n must be a whole number of outputs of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of outputs per batch of at least 1, got 0"),
        ({"seconds": 0}, "seconds must be a number above 0, got 0"),
        ({"seconds": 3}, f"{SD} no seconds; it takes {TAKES}"),
        ({"strength": 0.5}, f"{SD} no strength without image=; it takes {TAKES}"),
        ({"vector": [0.5] * 16},
         f"{SD} no vectors: give a prompt, use a checkpoint made for CLIP image vectors (Stable unCLIP, Kandinsky "
         "2.2), or give ip_adapter=… to from_pretrained"),
        ({"space": "clip"},
         "space= encodes inputs that are no prompts: write Text('…') to generate from the vector of a text"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(draw: GenerationPipeline, how: dict[str, Any], text: str) -> None:
    refuses(draw, text, "a cat", **how)


def test_inputs_that_are_no_prompt_are_refused(draw: GenerationPipeline, clip: Space) -> None:
    refuses(draw, "the prompt is empty: describe what to generate", "")
    refuses(draw, "the prompt is empty: describe what to generate", " \n")
    refuses(draw, "the prompt (number 1 of the list) is empty: describe what to generate", ["a cat", ""])
    refuses(draw, "the list of inputs is empty; give at least one", [])
    refuses(draw, "nothing to generate from: give a prompt, an image or a vector")
    refuses(draw, "the list of images is empty; give at least one", "a cat", image=[])
    refuses(
        draw, "give either prompts, or items with space=, or vectors: these were mixed", ["a", an_image()]
    )
    refuses(
        draw,
        "an input of image is not a prompt: give a str; to generate from its vector give space=…, the CLIP model that "
        "NAME was trained with; to start from an image give image=…",
        an_image(),
    )
    refuses(
        draw, "space= encodes inputs that are no prompts, and there is no input; leave it out", space=clip
    )
    two = [an_image(), an_image()]
    refuses(
        draw, "3 inputs, 2 images do not pair up: give as many of each, or one for all", ["a"] * 3, image=two
    )
    refuses(draw, "NAME needs a prompt beside the image: give a prompt", image=an_image())
    with pytest.raises(MediaNotFound):
        draw("a cat", image="gone.png")


def test_too_few_steps_for_a_strength_are_refused(draw: GenerationPipeline) -> None:
    text = "strength 0.3 leaves none of 2 steps: give at least 4 steps"
    refuses(draw, text, "a cat", image=an_image(), strength=0.3, steps=2)
    assert draw("a cat", image=an_image(), strength=0.3, steps=4).image is not None


def test_a_prompt_that_is_too_long_is_refused_and_cut_only_if_requested(draw: GenerationPipeline) -> None:
    words = "red " * 40  # 3 letters and 2 marks: CLIP's 77 tokens hold 75 letters
    text = (
        f"the prompt has 122 tokens and NAME reads 77: shorten it, or give truncate=True to use only its "
        f"beginning: {words[:60]!r}…"
    )
    refuses(draw, text, words)
    refuses(draw, text.replace("the prompt", "the negative prompt"), "a cat", negative=words)
    cut = draw(words, truncate=True, seed=1, steps=1, **SIZE)
    assert np.array_equal(pixels(cut), pixels(draw("red " * 25, seed=1, steps=1, **SIZE)))
    assert cut.prompt == words


def test_the_longest_reader_decides(checkpoints: Checkpoints) -> None:
    """Flux shows CLIP a summary and T5 everything."""
    flux = ours(checkpoints("flux"))
    assert flux("red " * 100, seed=1, steps=1, **SIZE).image is not None
    with pytest.raises(InvalidInput, match=r"^the prompt has \d+ tokens and '.*flux' reads 512: shorten it"):
        flux("red " * 300)
    with pytest.raises(InvalidInput, match=r"is a FluxPipeline, which takes no negative; it takes"):
        flux("a cat", negative="rain")


def test_audio_and_images_take_their_own_options(checkpoints: Checkpoints) -> None:
    rain, waltz = ours(checkpoints("stable_audio")), ours(checkpoints("musicgen"))
    refuses(
        rain,
        "NAME is a StableAudioPipeline, which takes no width; it takes guidance, negative, seconds, steps, truncate",
        "rain", width=64,
    )  # fmt: skip
    refuses(
        rain,
        "NAME is a StableAudioPipeline, which cannot start from an image: leave image out",
        "x",
        image=an_image(),
    )
    takes = "it takes a prompt, guidance, seconds, truncate"
    what = "NAME is a MusicgenForConditionalGeneration, which takes no"
    refuses(waltz, f"{what} negative, steps; {takes}", "a waltz", steps=3, negative="drums")
    refuses(waltz, f"{what} image; {takes}", "a waltz", image=an_image())
    refuses(
        waltz,
        "NAME generates at most 40.9 seconds, got 60: ask for less, or generate several pieces",
        "a waltz",
        seconds=60,
    )


def test_vectors_of_another_clip_are_refused(checkpoints: Checkpoints, clip: Space) -> None:
    draw = ours(checkpoints("kandinsky"))
    size = {"width": 64, "height": 64}
    refuses(
        draw,
        f"NAME takes vectors of dimension {CLIP_DIM}, from the CLIP model it was trained with, got 8: encode with "
        "that model",
        vector=np.ones(8), kind=SpaceMismatch,
    )  # fmt: skip
    refuses(
        draw,
        f"the space 'clip-like' has vectors of dimension 3, and NAME takes vectors of dimension {CLIP_DIM}, of the "
        "CLIP model it was trained with: load that model",
        an_image(), space=clip, kind=SpaceMismatch,
    )  # fmt: skip
    refuses(draw, "vector must be finite and not all zeros", vector=np.zeros(16))
    refuses(draw, "vector must be finite and not all zeros", vector=np.full(16, np.nan))
    refuses(
        draw, "vector must be floats of shape (dim,) or (n, dim), got int64 of shape (3,)", vector=[1, 2, 3]
    )
    refuses(
        draw, "NAME takes either a prompt or a vector, not both: leave one out", "a cat", vector=a_vector()
    )
    refuses(
        draw,
        "NAME is a KandinskyV22Pipeline, which generates from vectors only: give vector=…, or give from_pretrained "
        "prior='diffusers/<the checkpoint that maps text to its vectors>'",
        "a cat",
    )
    refuses(
        draw, "width must be a multiple of 4 for NAME, got 30: take 28 or 32", vector=a_vector(), width=30
    )
    unit = a_vector() / np.linalg.norm(a_vector())
    refuses(
        draw,
        "got a vector of norm 1, but NAME was trained with unnormalised CLIP vectors and does not state their norm: "
        "give vector_length=… to from_pretrained (the mean norm of image_embeds of its CLIP)",
        vector=unit,
    )
    scaled = GenerationPipeline.from_pretrained(checkpoints("kandinsky"), vector_length=5.0)
    made = scaled(vector=unit, seed=1, steps=1, **size)
    assert np.array_equal(pixels(made), pixels(draw(vector=unit * 5, seed=1, steps=1, **size)))
    both = scaled(vector=np.stack([unit, unit * 5]), seed=[1, 1], steps=1, **size)
    assert [np.array_equal(pixels(item), pixels(made)) for item in both] == [True, True]


def test_a_checkpoint_that_only_varies_images_says_so(checkpoints: Checkpoints) -> None:
    refuses(
        ours(checkpoints("unclip")),
        "NAME is a StableUnCLIPImg2ImgPipeline, which cannot generate from a prompt alone: give image=… or vector=…",
        "a cat",
    )


def test_items_are_drawn_from_through_a_space(checkpoints: Checkpoints) -> None:
    """The vector of anything: here of a text and a picture, in a space of the right size."""
    from tests.pipelines.conftest import Colours, Words

    class Wide(Words):
        dim = CLIP_DIM

        def vector(self, item: Any) -> Any:
            return [*super().vector(item), *[0.1] * (CLIP_DIM - 3)]

    class WideColours(Colours):
        dim = CLIP_DIM

        def vector(self, item: Any) -> Any:
            return [*super().vector(item), *[0.1] * (CLIP_DIM - 3)]

    space = Space([Wide(), WideColours()], name="wide")
    draw = ours(checkpoints("unclip"))
    red = PIL.Image.new("RGB", (8, 8), (255, 0, 0))
    made = draw([mm.Text("blue"), red], space=space, seed=2, steps=2, **SIZE)
    for element, vector in zip(made, space.encode([mm.Text("blue"), red]), strict=True):
        length = inside(draw).length
        assert length == pytest.approx(
            float((inside(draw).pipe.image_normalizer.mean.detach() ** 2 + 0.25).sum()) ** 0.5
        )
        again = draw(vector=vector * length, seed=element.seed, steps=2, **SIZE)
        assert np.array_equal(pixels(again), pixels(element))
    assert not np.array_equal(pixels(made[0]), pixels(made[1]))


def test_one_in_gives_one_out_and_seeds_count_on(draw: GenerationPipeline) -> None:
    how: dict[str, Any] = {"steps": 1, **SIZE}
    assert draw("a cat", **how).seed != draw("a cat", **how).seed
    four = draw("a cat", n=2, seed=5, **how)
    assert [item.seed for item in four] == [5, 6]
    nested = draw(["a cat", "a dog"], n=2, seed=5, **how)
    assert [[item.seed for item in part] for part in nested] == [[5, 6], [7, 8]]
    assert [item.seed for item in draw(("a cat", "a dog"), seed=[9, 3], **how)] == [9, 3]
    assert len(draw(["a cat"], seed=5, **how)) == 1
    again = draw(nested[1][1].prompt, seed=nested[1][1].seed, **how)
    assert np.array_equal(pixels(again), pixels(nested[1][1]))


def test_progress_counts_and_can_cancel(draw: GenerationPipeline) -> None:
    seen: list[tuple[int, int]] = []
    whole = draw("a cat", seed=1, steps=3, progress=lambda *at: seen.append(at), **SIZE)
    assert seen == [(1, 3), (2, 3), (3, 3)]

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Enough

    with pytest.raises(Enough):
        draw("a cat", seed=1, steps=3, progress=stop, **SIZE)
    again = draw("a cat", seed=1, steps=3, **SIZE)
    assert np.array_equal(pixels(again), pixels(whole))


def _steps_of(made: GenerationPipeline, **how: Any) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    made("rain", seed=1, progress=lambda *at: seen.append(at), **how)
    return seen


def test_progress_is_reported_by_every_kind(checkpoints: Checkpoints) -> None:
    for name, how in (("stable_audio", {"steps": 2, "seconds": 1.0}), ("musicgen", {"seconds": 0.1})):
        seen = _steps_of(ours(checkpoints(name)), **how)
        assert seen == [(number, seen[-1][1]) for number in range(1, seen[-1][1] + 1)]


def test_a_flagged_image_is_reported(checkpoints: Checkpoints, draw: GenerationPipeline) -> None:
    made = ours(checkpoints("checked_stable_diffusion"))("a cat", seed=1, steps=1, **SIZE)
    assert made.flagged is True and pixels(made).max() == 0
    assert draw("a cat", seed=1, steps=1, **SIZE).flagged is None  # it brings no checker


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_no_memory_names_what_to_lower(
    draw: GenerationPipeline, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(type(inside(draw).pipe.unet), "forward", full)
    ending = "precision='bfloat16', or offload=True where there is an accelerator (both are options of from_pretrained)"
    with pytest.raises(EncoderError) as caught:
        draw("a cat", steps=1, **SIZE)
    assert str(caught.value) == (
        f"{draw.name!r} ran out of memory with 1 at once: try a smaller width and height, {ending}"
    )
    with pytest.raises(EncoderError, match=re.escape(f"with 4 at once: try batch_size=2, {ending}")):
        draw("a cat", n=4, batch_size=4, steps=1, **SIZE)


def test_numbers_that_are_not_finite_are_an_error_and_not_a_black_image(
    draw: GenerationPipeline, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(inside(draw).pipe.vae)
    whole = kind.decode

    def broken(self: Any, *given: Any, **more: Any) -> Any:
        return tuple(item * float("nan") for item in whole(self, *given, **more))

    monkeypatch.setattr(kind, "decode", broken)
    with pytest.raises(EncoderError) as caught:
        draw("a cat", steps=1, **SIZE)
    assert str(caught.value) == (
        f"{draw.name!r} made numbers that are not finite: give precision='float32' to from_pretrained, or another "
        "variant"
    )


def test_to_moves_and_returns_the_pipeline(draw: GenerationPipeline) -> None:
    assert draw.to("cpu") is draw
    with pytest.raises(InvalidInput, match=r"^'gpu' is not a device"):
        draw.to("gpu")
    assert isinstance(Path(draw.name), Path)
