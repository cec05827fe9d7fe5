"""The generator's recipe: what is laid out, what is never shown, and a judge that compares pixels."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from recipes.starter import captions, draw_scenes
from recipes.starter.pixel_judge import PixelJudge, halves, mask_of

CONCEPTS = 60


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """Two artists' blots (2, CONCEPTS, 64, 64, 4): no two alike, each with an edge of its own."""
    rng = np.random.default_rng(3)
    found = np.zeros((2, CONCEPTS, 64, 64, 4), np.uint8)
    for artist in range(2):
        for concept in range(CONCEPTS):
            coarse = rng.integers(0, 256, (5, 5, 4))
            coarse[..., 3] = np.where(rng.random((5, 5)) < 0.75, 255, 0)
            coarse[2, 2, 3] = 255
            found[artist, concept] = np.kron(coarse, np.ones((13, 13, 1)))[:64, :64]
    return found


@pytest.fixture
def easel(drawings: np.ndarray) -> draw_scenes.Easel:
    return draw_scenes.easel(drawings, 1)


def test_training_never_shows_a_held_out_combination() -> None:
    rng, held = random.Random(1), captions.held_out(CONCEPTS)
    scenes = [draw_scenes.random_scene(rng, CONCEPTS, held) for _ in range(4_000)]
    assert all(captions.allowed(scene, held) for scene in scenes)
    kinds = [len(scene) for scene in scenes]
    assert 0.28 < kinds.count(2) / len(kinds) < 0.36
    assert all(scene[0].concept != scene[1].concept for scene in scenes if len(scene) == 2)


def test_two_things_stand_apart_on_the_grid_of_the_latents(easel: draw_scenes.Easel) -> None:
    scene = (captions.Thing(0), captions.Thing(1))
    for _ in range(50):
        first, second = easel.places(scene)
        assert first.edge == second.edge == draw_scenes.CELL
        assert all(number % 8 == 0 for number in (*first, *second))
        assert abs(first.top - second.top) >= 32 or abs(first.left - second.left) >= 32


def test_a_small_thing_has_the_same_pixels_wherever_it_stands(easel: draw_scenes.Easel) -> None:
    papers = torch.ones(2, 3, 64, 64)
    easel.put(papers[0], 0, captions.Thing(4), draw_scenes.Place(0, 32, 32))
    easel.put(papers[1], 0, captions.Thing(4), draw_scenes.Place(32, 16, 32))
    assert (papers[0, :, :32, 32:] == papers[1, :, 32:, 16:48]).all()


def test_a_said_colour_is_seen(easel: draw_scenes.Easel) -> None:
    red = captions.Thing(7, captions.COLOUR_NAMES.index("red"))
    drawn = easel.draw([(red,)])[0]
    inked = drawn[:, mask_of(drawn[None])[0]].mean(1)
    assert inked.argmax() == 0 and inked[0] > inked[1] + 0.1


def test_the_judge_knows_the_drawings_it_was_given(drawings: np.ndarray, easel: draw_scenes.Easel) -> None:
    judge = PixelJudge(torch.from_numpy(drawings).permute(0, 1, 4, 2, 3).contiguous())
    pictures = easel.draw([(captions.Thing(row),) for row in range(CONCEPTS)])
    assert (judge.one(pictures, coloured=True).argmax(1) == torch.arange(CONCEPTS)).float().mean() > 0.95
    noise = torch.rand(CONCEPTS, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert (judge.one(noise, coloured=True).argmax(1) == torch.arange(CONCEPTS)).float().mean() < 0.2


def test_the_judge_tells_the_hue_of_a_known_thing(drawings: np.ndarray, easel: draw_scenes.Easel) -> None:
    judge = PixelJudge(torch.from_numpy(drawings).permute(0, 1, 4, 2, 3).contiguous())
    hues = [number % len(captions.COLOUR_NAMES) for number in range(CONCEPTS)]
    pictures = easel.draw([(captions.Thing(row, hue),) for row, hue in enumerate(hues)])
    found = judge.hues(pictures, list(range(CONCEPTS)))
    assert np.mean(np.array(found) == np.array(hues)) > 0.85


def test_two_clouds_are_told_apart() -> None:
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[4:20, 6:22] = True
    mask[40:60, 38:60] = True
    first, second = halves(mask)
    assert not (first & second).any() and ((first | second) == mask).all()
    assert {int(first.sum()), int(second.sum())} == {16 * 16, 20 * 22}
