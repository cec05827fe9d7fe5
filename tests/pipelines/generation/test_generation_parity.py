"""The same pixels and samples as diffusers and transformers give when called by hand with the same seed."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.pipelines.generation.pipeline import Generation, GenerationPipeline
from tests.pipelines.generation.generation_models import (
    CLIP_DIM,
    RATE_HZ,
    SIDE,
    Checkpoints,
    by_hand,
    checkpoints,
    dice,
    upstream,
)

__all__ = ["checkpoints"]  # a fixture

IMAGES = (
    "stable_diffusion", "checked_stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux", "pixart",
)  # fmt: skip
SIZE = {"width": SIDE, "height": SIDE}
WORDS = "a blue heart, on grass"
MADE: dict[tuple[str, str], GenerationPipeline] = {}


def ours(folder: Path, **options: Any) -> GenerationPipeline:
    """Loaded once."""
    key = (str(folder), str(options))
    if key not in MADE:
        MADE[key] = GenerationPipeline.from_pretrained(folder, **options)
    return MADE[key]


def pixels(made: Generation) -> Any:
    assert made.image is not None
    return np.asarray(made.image)


def an_image(width: int = 40, height: int = 48) -> PIL.Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(values)


def a_vector(seed: int = 9) -> Any:
    return torch.randn(CLIP_DIM, generator=dice(seed)).numpy()


@pytest.mark.parametrize("name", IMAGES)
def test_words_give_the_pixels_of_diffusers(name: str, checkpoints: Checkpoints) -> None:
    folder = checkpoints(name)
    expected = by_hand(upstream(folder), 3, prompt=WORDS, num_inference_steps=2, **SIZE)
    draw = ours(folder)
    made = draw(WORDS, seed=3, steps=2, **SIZE)
    assert draw.backend.output_modality is Modality.IMAGE
    assert np.array_equal(pixels(made), expected)
    assert (made.seed, made.prompt, made.steps, made.made_by) == (
        3,
        WORDS,
        2,
        type(upstream(folder)).__name__,
    )
    if name != "checked_stable_diffusion":  # whose pictures are all made black
        assert expected.std() > 20
        assert not np.array_equal(pixels(draw(WORDS, seed=4, steps=2, **SIZE)), expected)
        assert not np.array_equal(pixels(draw("a cat", seed=3, steps=2, **SIZE)), expected)


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "pixart"])
def test_guidance_and_what_is_not_wanted_go_where_diffusers_has_them(
    name: str, checkpoints: Checkpoints
) -> None:
    folder = checkpoints(name)
    how = {"guidance_scale": 3.0, "negative_prompt": "rain"}
    expected = by_hand(upstream(folder), 1, prompt="a cat", num_inference_steps=2, **how, **SIZE)
    made = ours(folder)("a cat", seed=1, steps=2, guidance=3.0, negative="rain", **SIZE)
    assert np.array_equal(pixels(made), expected)
    assert (made.guidance, made.negative) == (3.0, "rain")
    assert not np.array_equal(pixels(ours(folder)("a cat", seed=1, steps=2, guidance=3.0, **SIZE)), expected)


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_an_image_is_redrawn_as_diffusers_does(name: str, checkpoints: Checkpoints) -> None:
    from diffusers import AutoPipelineForImage2Image

    folder, start = checkpoints(name), an_image()
    redraw = AutoPipelineForImage2Image.from_pipe(upstream(folder))
    redraw.set_progress_bar_config(disable=True)
    size = {"width": 40, "height": 48} if name in ("flux", "stable_diffusion_3") else {}
    expected = by_hand(redraw, 5, prompt=WORDS, image=start, strength=0.5, num_inference_steps=4, **size)
    made = ours(folder)(WORDS, image=start, strength=0.5, seed=5, steps=4)
    assert np.array_equal(pixels(made), expected)
    assert (made.strength, pixels(made).shape) == (0.5, (48, 40, 3))


def test_an_image_is_resized_where_a_size_is_requested(checkpoints: Checkpoints) -> None:
    draw = ours(checkpoints("stable_diffusion"))
    start = an_image()
    resized = start.resize((24, 32), PIL.Image.Resampling.LANCZOS)
    made = draw("a cat", image=start, seed=1, steps=2, width=24, height=32)
    assert np.array_equal(pixels(made), pixels(draw("a cat", image=resized, seed=1, steps=2)))
    odd = draw("a cat", image=an_image(45, 51), seed=1, steps=2)
    assert odd.image is not None and odd.image.size == (40, 48)  # rounded down to what the model can do


def test_a_vector_is_varied_as_stable_unclip_does(checkpoints: Checkpoints) -> None:
    folder, vector = checkpoints("unclip"), a_vector()
    how: dict[str, Any] = {"image_embeds": torch.from_numpy(vector)[None], "num_inference_steps": 2}
    draw = ours(folder)
    assert draw.backend.dim == CLIP_DIM
    made = draw(vector=vector, seed=3, steps=2, **SIZE)
    assert np.array_equal(pixels(made), by_hand(upstream(folder), 3, prompt="", **how, **SIZE))
    worded = draw("a cat", vector=vector, seed=3, steps=2, **SIZE)
    assert np.array_equal(pixels(worded), by_hand(upstream(folder), 3, prompt="a cat", **how, **SIZE))
    assert not np.array_equal(pixels(worded), pixels(made))
    seen = by_hand(upstream(folder), 3, prompt="", image=an_image(), num_inference_steps=2, **SIZE)
    assert np.array_equal(pixels(draw(image=an_image(), seed=3, steps=2, **SIZE)), seen)


def test_a_vector_is_drawn_as_kandinsky_does(checkpoints: Checkpoints) -> None:
    folder, vector = checkpoints("kandinsky"), a_vector()
    how = {"image_embeds": torch.from_numpy(vector)[None], "negative_image_embeds": torch.zeros(1, CLIP_DIM)}
    expected = by_hand(upstream(folder), 3, num_inference_steps=2, width=64, height=64, **how)
    made = ours(folder)(vector=vector, seed=3, steps=2, width=64, height=64)
    assert np.array_equal(pixels(made), expected)
    assert made.prompt is None


def test_a_decoder_and_its_prior_draw_words_as_diffusers_joins_them(checkpoints: Checkpoints) -> None:
    import diffusers

    folder, other = checkpoints("kandinsky"), checkpoints("kandinsky_prior")
    parts = {f"prior_{key}": value for key, value in upstream(other).components.items()}
    whole = diffusers.KandinskyV22CombinedPipeline(**upstream(folder).components, **parts)
    whole.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 2, "width": 64, "height": 64}
    draw = ours(folder, prior=f"{other}")
    made = draw("a cat", seed=3, steps=2, width=64, height=64)
    assert np.array_equal(pixels(made), by_hand(whole, 3, prompt="a cat", **how))
    vector = a_vector()
    nothing = whole.prior_pipe.get_zero_embed()
    embeds = {"image_embeds": torch.from_numpy(vector)[None], "negative_image_embeds": nothing}
    drawn = draw(vector=vector, seed=3, steps=2, width=64, height=64)
    assert np.array_equal(pixels(drawn), by_hand(whole.decoder_pipe, 3, **embeds, **how))


def adapter(folder: Path, file: Path) -> Path:
    """An IP-Adapter for a checkpoint, in the format it is published in."""
    from safetensors.torch import save_file

    unet = upstream(folder).unet
    width = unet.config.cross_attention_dim
    torch.manual_seed(6)
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, CLIP_DIM) * 0.3,
        "image_proj.proj.bias": torch.zeros(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            inner = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            for half in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{number}.{half}.weight"] = torch.randn(inner, width) * width**-0.5
            number += 2
    save_file(tensors, file)
    return file


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_an_ip_adapter_takes_vectors_as_in_diffusers(
    guidance: float, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    folder, vector = checkpoints("stable_diffusion"), a_vector()
    file = adapter(folder, tmp_path / "ip.safetensors")
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name=file.name, image_encoder_folder=None)
    row = torch.from_numpy(vector)[None, None]
    embeds = torch.cat([torch.zeros_like(row), row]) if guidance > 1 else row
    how = {"num_inference_steps": 2, "guidance_scale": guidance}
    expected = by_hand(pipe, 3, prompt="a cat", ip_adapter_image_embeds=[embeds], **how, **SIZE)
    draw = GenerationPipeline.from_pretrained(folder, ip_adapter=str(file))
    made = draw("a cat", vector=vector, seed=3, steps=2, guidance=guidance, **SIZE)
    assert np.array_equal(pixels(made), expected)
    other = draw("a cat", vector=a_vector(10), seed=3, steps=2, guidance=guidance, **SIZE)
    assert not np.array_equal(pixels(other), expected)


def test_examples_are_their_mean_vector_beside_the_prompt(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = checkpoints("stable_diffusion")
    file = str(adapter(folder, tmp_path / "ip.safetensors"))
    draw = GenerationPipeline.from_pretrained(folder, ip_adapter=file, vector_length=6.0)
    rows = np.stack([vector / np.linalg.norm(vector) for vector in (a_vector(1), a_vector(2))])
    clip: Any = SimpleNamespace(name="clip", dim=rows.shape[1], encode=lambda items: rows[: len(items)])
    how: dict[str, Any] = {"seed": 3, "steps": 1, "guidance": 1.0, **SIZE}
    made = draw("a cat", examples=["one", "two"], space=clip, **how)
    mean = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    assert np.array_equal(pixels(made), pixels(draw("a cat", vector=mean.astype(np.float32), **how)))
    with pytest.raises(InvalidInput, match="examples= is a list of items, and stands for vector="):
        draw("a cat", examples=["one"], vector=mean, space=clip)
    with pytest.raises(InvalidInput, match="does not take examples beside a prompt"):
        ours(folder)("a cat", examples=["one"], space=clip)


def test_audio_has_the_samples_of_stable_audio(checkpoints: Checkpoints) -> None:
    folder = checkpoints("stable_audio")
    expected = by_hand(upstream(folder), 3, prompt="rain", num_inference_steps=2, audio_end_in_s=2.0)
    made = ours(folder)("rain", seed=3, steps=2, seconds=2.0)
    assert made.samples is not None and made.samples.dtype == np.float32
    assert np.array_equal(made.samples.T, expected)  # two channels
    assert (made.rate_hz, made.seconds, made.image) == (4, 2.0, None)
    assert not np.array_equal(made.samples, ours(folder)("rain", seed=4, steps=2, seconds=2.0).samples)


def test_audio_has_the_samples_of_audioldm_2(checkpoints: Checkpoints) -> None:
    folder = checkpoints("audioldm2")
    expected = by_hand(upstream(folder), 3, prompt="rain", num_inference_steps=2, audio_length_in_s=0.1)
    made = ours(folder)("rain", seed=3, steps=2, seconds=0.1)
    assert made.samples is not None and made.samples.shape == (RATE_HZ // 10,)
    assert np.array_equal(made.samples, expected)


def test_an_audioldm_2_that_names_gpt_2_without_its_head_audio_the_same(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """As older checkpoints do, on which diffusers itself fails with a transformers of today."""
    import json
    import shutil

    folder = checkpoints("audioldm2")
    copy = shutil.copytree(folder, tmp_path / "old")
    index = json.loads((copy / "model_index.json").read_text())
    index["language_model"] = ["transformers", "GPT2Model"]
    (copy / "model_index.json").write_text(json.dumps(index))
    made = GenerationPipeline.from_pretrained(copy)("rain", seed=3, steps=2, seconds=0.1)
    assert np.array_equal(made.samples, ours(folder)("rain", seed=3, steps=2, seconds=0.1).samples)


def test_music_has_the_samples_of_transformers(checkpoints: Checkpoints) -> None:
    from transformers import AutoProcessor, MusicgenForConditionalGeneration

    folder = checkpoints("musicgen")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MusicgenForConditionalGeneration.from_pretrained(folder)
        words = AutoProcessor.from_pretrained(folder)(
            text=["a slow waltz"], padding=True, return_tensors="pt"
        )
        torch.manual_seed(3)
        expected = model.generate(**words, max_new_tokens=28)[0, 0].numpy()
    draw = ours(folder)
    state = torch.random.get_rng_state()
    made = draw("a slow waltz", seed=3, seconds=0.5)  # 25 steps, and three more for the last of four books
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's dice are touched
    assert made.seconds == 0.5
    assert np.array_equal(made.samples, expected)
    assert (made.rate_hz, made.guidance, made.steps) == (RATE_HZ, 3.0, None)
    assert not np.array_equal(draw("a slow waltz", seed=4, seconds=0.5).samples, made.samples)
    assert not np.array_equal(draw("a slow waltz", seed=3, seconds=0.5, guidance=1.5).samples, made.samples)


def test_many_at_a_time_are_nearly_what_each_is_alone(checkpoints: Checkpoints) -> None:
    draw = ours(checkpoints("stable_diffusion"))
    prompts = ["a cat", "two dogs", "a blue heart"]
    how: dict[str, Any] = {"steps": 2, "negative": "rain", **SIZE}
    alone = [draw(prompt, seed=seed, **how) for seed, prompt in enumerate(prompts, 7)]
    listed = draw(prompts, seed=7, **how)
    together = draw(prompts, seed=7, batch_size=2, **how)
    for item, other, beside in zip(alone, listed, together, strict=True):
        assert (item.seed, item.prompt) == (other.seed, other.prompt) == (beside.seed, beside.prompt)
        assert np.array_equal(pixels(item), pixels(other))
        assert np.abs(pixels(item).astype(int) - pixels(beside)).max() <= 1


def test_images_of_several_sizes_are_never_put_into_one_batch(checkpoints: Checkpoints) -> None:
    draw = ours(checkpoints("stable_diffusion"))
    starts = [an_image(), an_image(), an_image(32, 32)]
    made = draw("a cat", image=starts, seed=[1, 1, 2], steps=2, batch_size=3)
    assert [item.image.size for item in made] == [(40, 48), (40, 48), (32, 32)]
    assert np.abs(pixels(made[0]).astype(int) - pixels(made[1])).max() <= 1


def test_half_precision_draws_nearly_the_same(checkpoints: Checkpoints) -> None:
    folder = checkpoints("stable_diffusion")
    exact = pixels(ours(folder)("a cat", seed=3, steps=2, **SIZE)).astype(int)
    draw = GenerationPipeline.from_pretrained(folder, precision="bfloat16")
    near = pixels(draw("a cat", seed=3, steps=2, **SIZE))
    assert draw.backend.pipe.unet.dtype is torch.bfloat16
    assert 0 < np.abs(near - exact).mean() < 8  # of 255
