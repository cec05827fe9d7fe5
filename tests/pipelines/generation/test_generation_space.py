"""Drawing from the vectors of a shared space: the generator's folder, its numbers, and what it answers to bad input."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import multimodal as mm
from multimodal.core.errors import CorruptSpace, InvalidInput, SpaceMismatch
from multimodal.core.paths import assets
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.generation.inputs import interpolate
from multimodal.pipelines.generation.pipeline import Generation, GenerationPipeline
from tests.pipelines.generation.space_generator import CHANNELS, folder, starter

__all__ = ["folder", "starter"]  # fixtures

load = GenerationPipeline.from_pretrained


@pytest.fixture(scope="module")
def draw(starter: Space, folder: Path) -> GenerationPipeline:
    return load(starter, decoder=folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A generator to break."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pixels(generation: Generation) -> np.ndarray:
    assert generation.image is not None
    return np.asarray(generation.image).astype(int)


SINGLE = {4: (0, 0), 5: (0, 1), 6: (1, 0), 7: (1, 1)}  # where a thing put aside begins
TWO = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))


def recalled(folder: Path, vector: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    """The prior written out: what it says of a unit vector beside each of the 16 tokens."""
    turned = bool(torch.rand(1, generator=dice) < 0.5)
    single, pair = (int(torch.randint(most, (1,), generator=dice)) for most in (8, 4))
    weights = safetensors.torch.load_file(folder / "prior" / "diffusion_pytorch_model.safetensors")

    def linear(name: str, states: torch.Tensor) -> torch.Tensor:
        return weights[f"{name}.weight"] @ states + weights[f"{name}.bias"]

    def normed(name: str, states: torch.Tensor) -> torch.Tensor:
        states = (states - states.mean()) / (states.var(correction=0) + 1e-5).sqrt()
        return weights[f"{name}.weight"] * states + weights[f"{name}.bias"]

    def gated(name: str, states: torch.Tensor) -> torch.Tensor:
        gate, value = linear(f"{name}.into", normed(f"{name}.norm", states)).chunk(2)
        return gate * torch.sigmoid(gate) * value

    def known(vector: torch.Tensor) -> torch.Tensor:
        states = linear("into", 16 * vector)
        return gated("wide", states + linear("back", gated("hidden", states)))

    def without(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        axes = torch.stack([axis / axis.norm() for axis in weights["axes"]])
        weight = (40 * axes @ (like / like.norm())).exp()
        nearest = (weight[:, None] * axes).sum(0)
        nearest = nearest / nearest.norm()
        return vector - (vector @ nearest) * nearest

    def sketch(name: str, seen: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(linear("to_dye", 16 * seen), 0)
        tokens = linear(name, known(seen - shares @ weights["dye_axes"])).view(-1, 4 * CHANNELS)
        recalled_tokens = weights["dye.by.weight"] @ shares
        results = []
        for token in tokens:
            gate, value = (linear("dye.into", token) + recalled_tokens).chunk(2)
            results.append(token + linear("dye.back", gate * torch.sigmoid(gate) * value))
        return torch.stack(results)

    left = without(vector, vector)
    again = without(vector, left)
    whole = sketch("to_whole", vector)
    load_options = [
        sketch("to_half", seen).view(2, 2, -1) for seen in ((left, again) if turned else (again, left))
    ]
    canvas = torch.zeros(4, 4, 8 * CHANNELS)
    for down, across in itertools.product(range(4), range(4)):
        if single < 4:
            canvas[down, across, : 4 * CHANNELS] = whole[4 * down + across]
        elif 0 <= (r := down - SINGLE[single][0]) < 3 and 0 <= (c := across - SINGLE[single][1]) < 3:
            canvas[down, across, : 4 * CHANNELS] = whole[16 + 3 * r + c]
        for half, (top, left) in zip(load_options, TWO[pair], strict=True):
            if 0 <= down - top < 2 and 0 <= across - left < 2:
                canvas[down, across, 4 * CHANNELS :] = half[down - top, across - left]
    return canvas.flatten(0, 1)


def by_hand(folder: Path, vector: np.ndarray, seed: int, steps: int, guidance: float) -> np.ndarray:
    """The picture by diffusers' own parts, each loaded by its class, and Euler's steps written out."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    flow = FluxTransformer2DModel.from_pretrained(folder, subfolder="transformer")
    codec = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    rows = torch.stack(
        [16 * torch.from_numpy(vector), torch.zeros(len(vector))]
    )  # 16² numbers of deviation 1
    places = torch.tensor([[0, y, x] for y in range(4) for x in range(4)]).float()
    dice = torch.Generator().manual_seed(seed)
    latents = torch.randn(CHANNELS, 8, 8, generator=dice)
    recalled_tokens = recalled(folder, torch.from_numpy(vector), dice)
    sketched = torch.stack([recalled_tokens, torch.zeros_like(recalled_tokens)])
    # the scheduler's last level before zero is one thousandth of its thousand steps
    levels = [*np.linspace(1, 1 / 1000, steps).tolist(), 0.0]
    with torch.inference_mode():
        for level, after in itertools.pairwise(levels):
            tokens = F.pixel_unshuffle(latents, 2).flatten(1).T[None].repeat(2, 1, 1)
            beside = [4 * torch.eye(16).expand(2, 16, 16), sketched]
            slope, nothing = flow(
                hidden_states=torch.cat([tokens, *beside], dim=2), encoder_hidden_states=rows[:, None],
                pooled_projections=rows, timestep=torch.full((2,), level), txt_ids=torch.zeros(1, 3),
                img_ids=places,
            ).sample  # fmt: skip
            towards = nothing + guidance * (slope - nothing)
            latents = latents + (after - level) * F.pixel_shuffle(towards.T.reshape(-1, 4, 4), 2)
        drawn = F.pixel_shuffle(codec.decode(latents[None]).sample, 4)[0]
    return np.asarray(((drawn / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0)).astype(int)


# --- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "steps", "guidance"), [(3, 5, 2.0), (4, 3, 1.0), (6, 4, 0.0), (5, 3, 2.0)])
def test_an_image_is_what_diffusers_parts_give_by_hand(
    draw: GenerationPipeline, folder: Path, starter: Space, seed: int, steps: int, guidance: float
) -> None:
    made = draw("a cat", seed=seed, steps=steps, guidance=guidance)
    expected = by_hand(folder, starter.encode(["a cat"])[0], seed, steps, guidance)
    assert np.abs(pixels(made) - expected).max() <= 1
    assert made.to_dict() | {"version": ""} == {
        "prompt": "a cat", "model": starter.name, "seed": seed, "steps": steps, "guidance": guidance, "negative": None,
        "strength": None, "flagged": None, "made_by": "SpacePicturePipeline", "version": "", "width": 64, "height": 64,
    }  # fmt: skip


def test_words_an_item_and_their_vector_draw_the_same(draw: GenerationPipeline, starter: Space) -> None:
    how: dict[str, Any] = {"seed": 1, "steps": 2}
    of_words = pixels(draw("a cat", **how))
    assert (pixels(draw(mm.Text("a cat"), **how)) == of_words).all()
    assert (pixels(draw(vector=starter.encode(["a cat"])[0], **how)) == of_words).all()
    longer = draw(vector=5 * starter.encode(["a cat"])[0], **how)  # only its direction counts
    assert np.abs(pixels(longer) - of_words).max() <= 2
    assert (pixels(draw("a dog", **how)) != of_words).any()


def test_an_image_and_a_clip_are_drawn_from_their_vectors(draw: GenerationPipeline, starter: Space) -> None:
    image = mm.Image(PIL.Image.new("RGB", (80, 50), "red"))
    tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    clip = mm.Audio({"array": tone, "sampling_rate": 16_000})
    for item in (image, clip):
        made = draw(item, seed=1, steps=2)
        assert (pixels(made) == pixels(draw(vector=starter.encode([item])[0], seed=1, steps=2))).all()
        assert made.prompt is None


def test_a_seed_gives_its_image_whatever_it_is_made_beside(draw: GenerationPipeline) -> None:
    alone = draw("a cat", seed=7, steps=3)
    many = draw(["a dog", "a cat"], n=2, seed=[40, 6], steps=3, batch_size=4)
    assert many[1][1].seed == 7
    assert np.abs(pixels(many[1][1]) - pixels(alone)).max() <= 1
    assert (pixels(many[1][0]) != pixels(many[1][1])).any()


def test_what_is_not_wanted_stands_where_nothing_stood(draw: GenerationPipeline, starter: Space) -> None:
    """Away from a dog towards a cat: with a guidance of 1 only the cat counts, so the two meet there."""
    with_dog = pixels(draw("a cat", seed=1, steps=2, guidance=3, negative="a dog"))
    assert (with_dog != pixels(draw("a cat", seed=1, steps=2, guidance=3))).any()
    itself = pixels(draw("a cat", seed=1, steps=2, guidance=3, negative="a cat"))
    assert np.abs(itself - pixels(draw("a cat", seed=1, steps=2, guidance=1))).max() <= 1


def test_an_image_to_begin_with_is_kept_as_far_as_strength_says(draw: GenerationPipeline) -> None:
    """At full strength nothing of it is left; the start alone is drawn again from its own vector."""
    start = PIL.Image.new("RGB", (64, 64), (200, 30, 30))
    how: dict[str, Any] = {"seed": 1, "steps": 4}
    whole = draw("a cat", image=start, strength=1.0, **how)
    assert (pixels(whole) == pixels(draw("a cat", **how))).all()
    half = draw("a cat", image=start, strength=0.5, **how)
    assert (pixels(half) != pixels(whole)).any() and half.strength == 0.5
    alone = draw(image=start, strength=1.0, **how)
    assert (pixels(alone) == pixels(draw(mm.Image(start), **how))).all()
    assert draw("a cat", image=start, **how).strength == 0.7


def test_progress_counts_the_steps(draw: GenerationPipeline) -> None:
    seen: list[tuple[int, int]] = []
    draw("a cat", steps=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    start = PIL.Image.new("RGB", (64, 64))
    draw("a cat", steps=4, image=start, strength=0.5, progress=lambda *now: seen.append(now))
    assert seen[-1][0] == seen[-1][1] < 4


def test_it_can_be_cancelled_and_used_again(draw: GenerationPipeline) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw("a cat", steps=3, progress=stop)
    assert (pixels(draw("a cat", seed=1, steps=2)) == pixels(draw("a cat", seed=1, steps=2))).all()


def test_a_saved_drawing_says_how_it_was_made(draw: GenerationPipeline, tmp_path: Path) -> None:
    made = draw("a cat", seed=9, steps=2)
    back = Generation.load(made.save(tmp_path / "cat.png"))
    assert back.metadata == made.metadata and (pixels(back) == pixels(made)).all()


# --- interpolation -------------------------------------------------------------------------------------


def test_an_interpolation_begins_with_the_first_input_and_ends_with_the_last(
    draw: GenerationPipeline,
) -> None:
    steps = draw.interpolate("a cat", mm.Text("a dog"), n=3, seed=4, steps=2)
    assert len(steps) == 3 and {step.seed for step in steps} == {4}
    for end, words in ((0, "a cat"), (2, "a dog")):
        assert np.abs(pixels(steps[end]) - pixels(draw(words, seed=4, steps=2))).max() <= 1
    assert (pixels(steps[1]) != pixels(steps[0])).any()


def test_interpolate_still_answers_to_between_with_a_warning(draw: GenerationPipeline) -> None:
    with pytest.warns(
        DeprecationWarning, match=r"between is deprecated .* use GenerationPipeline\.interpolate"
    ):
        old = draw.between("a cat", "a dog", n=2, seed=4, steps=1)
    new = draw.interpolate("a cat", "a dog", n=2, seed=4, steps=1)
    assert all((pixels(before) == pixels(after)).all() for before, after in zip(old, new, strict=True))


def test_a_folder_that_names_a_module_of_an_earlier_version_still_loads(
    draw: GenerationPipeline, starter: Space, copy: Path
) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    index["prior"] = ["multimodal.pipelines._generation_space_prior", "DrawingPrior"]
    (copy / "model_index.json").write_text(json.dumps(index))
    earlier = load(starter, decoder=copy)("a cat", seed=1, steps=1)
    assert (pixels(earlier) == pixels(draw("a cat", seed=1, steps=1))).all()


def test_progress_true_shows_a_bar_on_standard_error(
    draw: GenerationPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(["a cat", "a dog"], seed=1, steps=1, progress=True)
    captured = capsys.readouterr()
    assert "generating" in captured.err and "100%" in captured.err
    assert captured.out == ""


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_interpolated_vectors_lie_on_the_sphere_at_equal_angles(seed: int, count: int) -> None:
    ends = np.random.default_rng(seed).normal(size=(2, 256)).astype(np.float32)
    rows = interpolate(mm.load("starter", device="cpu"), ends[0], ends[1], count)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows[[0, -1]], unit_rows(ends, 256), atol=1e-6)
    angles = np.arccos(np.clip((rows[1:] * rows[:-1]).sum(1), -1, 1))
    np.testing.assert_allclose(angles, angles.mean(), atol=2e-3)
    assert angles.sum() == pytest.approx(
        np.arccos(unit_rows(ends, 256)[0] @ unit_rows(ends, 256)[1]), abs=5e-3
    )


def test_interpolating_between_equal_vectors_repeats_them(starter: Space) -> None:
    vector = starter.encode(["a cat"])[0]
    np.testing.assert_allclose(interpolate(starter, vector, vector, 4), np.stack([vector] * 4), atol=1e-6)


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"width": 64}, "generates images of 64 x 64 pixels and takes no width; it takes guidance, image, negative,"),
        ({"seconds": 2.0, "height": 8}, "takes no height, seconds; it takes"),
        ({"steps": 1001}, "steps must be at most 1,000 for 'starter', got 1,001"),
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"strength": 0.5}, "'starter' takes no strength without image=: leave it out"),
        ({"negative": "a dog", "guidance": 1}, "negative has no effect with guidance=1: give a guidance above 1"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    draw: GenerationPipeline, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        draw("a cat", **how)


def test_vectors_of_another_size_or_without_direction_are_refused(draw: GenerationPipeline) -> None:
    with pytest.raises(InvalidInput, match=r"vectors of shape \(3,\) given where"):
        draw(vector=np.ones(3, np.float32))
    with pytest.raises(InvalidInput, match="vector must be finite and not all zeros"):
        draw(vector=np.zeros(256, np.float32))
    with pytest.raises(InvalidInput, match="the prompt is empty: describe what to generate"):
        draw(" ")


def test_an_interpolation_without_a_shortest_arc_is_refused(draw: GenerationPipeline, starter: Space) -> None:
    vector = starter.encode(["a cat"])[0]
    with pytest.raises(InvalidInput, match="the two vectors are opposite, so no path between them"):
        draw.interpolate(vector, -vector)
    with pytest.raises(InvalidInput, match="n must be at least 2, got 1"):
        draw.interpolate("a cat", "a dog", n=1)


def test_options_of_checkpoints_of_diffusers_are_refused(starter: Space, folder: Path) -> None:
    with pytest.raises(
        InvalidInput, match="'starter' is not a checkpoint of diffusers and takes no variant, offload"
    ):
        load(starter, decoder=folder, variant="fp16", offload=True)


def test_a_space_it_was_not_trained_for_is_refused(folder: Path, starter: Space, copy: Path) -> None:
    about = json.loads((copy / "draw.json").read_text())
    about["encoders"]["image"] = "another"
    (copy / "draw.json").write_text(json.dumps(about))
    with pytest.raises(SpaceMismatch) as caught:
        load(starter, decoder=copy)
    assert str(caught.value) == (
        f"the generator in {copy} was not trained for the image encoder of 'starter', so it would misread its "
        "vectors; use the starter ('starter'), a diffusers model ('diffusers/…'), or train a generator with "
        "recipes/starter/generator/draw.py"
    )
    assert load(starter.select("text", "audio"), decoder=copy)("a cat", steps=1).image is not None


def test_a_damaged_generator_is_reported(copy: Path, starter: Space) -> None:
    again = "train one with 'python -m recipes.starter.generator.draw', or copy the folder again"
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CorruptSpace, match=f"no generator can be read from .*; {again}"):
        load(starter, decoder=copy)("a cat")
    for text, said in (
        ('{"format": 1}', "does not describe a generator"),
        ('{"format": 9, "encoders": {}}', "this version reads up to 1"),
        ("{", "no generator can be read from"),
    ):  # fmt: skip
        (copy / "draw.json").write_text(text)
        with pytest.raises(CorruptSpace, match=said):
            load(starter, decoder=copy)
    with pytest.raises(CorruptSpace, match="no generator can be read from"):
        load(starter, decoder=copy / "gone")


def test_a_decoder_goes_with_the_name_of_its_space_too(folder: Path, draw: GenerationPipeline) -> None:
    named = mm.pipeline("generation", model="starter", decoder=folder, device="cpu")
    assert (pixels(named("a cat", seed=1, steps=2)) == pixels(draw("a cat", seed=1, steps=2))).all()


# --- what ships ----------------------------------------------------------------------------------

WORDS = (
    "a strawberry",
    "a guitar",
    "an umbrella",
    "a pizza",
    "a rocket",
    "an octopus",
    "a tree",
    "a balloon",
)


@pytest.fixture(scope="module")
def shipped(starter: Space) -> GenerationPipeline:
    return load(starter)


def nearest(starter: Space, made: list[Generation], labels: tuple[str, ...]) -> list[str]:
    seen = starter.encode([mm.Image(item.image) for item in made])
    return [labels[place] for place in (seen @ starter.encode(list(labels)).T).argmax(1)]


def test_the_starter_draws_what_is_said(shipped: GenerationPipeline, starter: Space) -> None:
    made = shipped(list(WORDS), seed=1, batch_size=8)
    right = [results == said for results, said in zip(nearest(starter, made, WORDS), WORDS, strict=True)]
    assert sum(right) >= 7


def test_the_starter_draws_in_the_colour_that_is_said(shipped: GenerationPipeline) -> None:
    """The mean of what is not paper has the hue of the word."""
    made = dict(
        zip(
            ("red", "green", "blue"),
            shipped([f"a {c} heart" for c in ("red", "green", "blue")], seed=2),
            strict=True,
        )
    )
    for place, (colour, value) in enumerate(made.items()):
        shown = pixels(value).reshape(-1, 3)
        paper = np.median(np.concatenate([pixels(value)[0], pixels(value)[-1]]), axis=0)
        drawn = shown[np.abs(shown - paper).max(1) > 40]
        assert drawn.mean(0).argmax() == place, colour


def test_the_starter_draws_without_transformers_and_without_a_word(tmp_path: Path) -> None:
    """As after a base install; "bfloat16" too, whose cast diffusers comments on."""
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        # nor PEFT, which needs transformers and which diffusers imports where it is installed
        "import diffusers.utils.import_utils as installed; installed._peft_available = False\n"
        "import multimodal as mm\n"
        "space = mm.load('starter', device='cpu', precision='bfloat16')\n"
        f"mm.pipeline('generation', model=space)('a cat', steps=1).save({str(tmp_path / 'cat.png')!r})\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    with PIL.Image.open(tmp_path / "cat.png") as drawn:
        assert drawn.size == (64, 64)


def test_two_seeds_of_the_starter_differ_visibly(shipped: GenerationPipeline) -> None:
    first, second = shipped("a cat", seed=1), shipped("a cat", seed=2)
    assert np.abs(pixels(first) - pixels(second)).mean() > 5


def test_each_part_is_read_by_its_own_class_of_diffusers(shipped: GenerationPipeline) -> None:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    from multimodal.pipelines.generation.backends.space_prior import DrawingPrior

    folder = shipped.backend.folder  # type: ignore[attr-defined]
    parts = {
        "prior": DrawingPrior,
        "transformer": FluxTransformer2DModel,
        "vae": AutoencoderKL,
        "scheduler": FlowMatchEulerDiscreteScheduler,
    }
    for name, cls in parts.items():
        part, loaded = cls.from_pretrained(folder, subfolder=name), getattr(shipped.backend.pipe, name)  # type: ignore[attr-defined]
        assert dict(part.config) | {"_name_or_path": ""} == dict(loaded.config) | {"_name_or_path": ""}


def test_what_ships_to_decode_stays_within_twenty_megabytes() -> None:
    folder = assets() / "starter"
    files = [*(folder / "decoders").rglob("*"), folder / "letters.safetensors"]
    assert sum(file.stat().st_size for file in files if file.suffix == ".safetensors") < 20e6
