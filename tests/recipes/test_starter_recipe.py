"""The recipe's own claims: what is held out stays out, scenes show what they say, the tools do what they name."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.starter import backgrounds, captions, concepts, evaluate, stage
from recipes.starter.muon import Muon, orthogonal

COUNT = 300


@pytest.fixture(scope="module")
def held() -> captions.HeldOut:
    return captions.held_out(COUNT)


def test_held_out_combinations_are_never_drawn_for_training(held):
    rng = random.Random(0)
    scenes = [captions.random_scene(rng, COUNT, held) for _ in range(20_000)]
    assert not {(t.concept, t.colour) for scene in scenes for t in scene} & set(held.coloured)
    pairs = {tuple(sorted(t.concept for t in scene)) for scene in scenes if len(scene) == 2}
    assert pairs and not pairs & set(held.pairs)


def test_neither_thing_nor_colour_alone_finds_a_held_out_scene(held):
    assert len(set(held.coloured)) == len(set(held.pairs)) == 200
    for place in (0, 1):
        values = [pair[place] for pair in held.coloured]
        assert min(values.count(value) for value in set(values)) >= 5
    things = [thing for pair in held.pairs for thing in pair]
    assert len(set(things)) == 40


def test_the_split_is_the_same_on_every_run(held):
    assert captions.held_out(COUNT) == held


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_caption_says_every_thing_colour_and_size(seed):
    rng = random.Random(seed)
    names = [f"thing{number}" for number in range(COUNT)]
    scene = captions.random_scene(rng, COUNT, captions.HeldOut((), ()))
    said = captions.caption(scene, names, rng)
    for thing in scene:
        assert f"thing{thing.concept}" in said
        if thing.colour != captions.NONE:
            assert captions.COLOUR_NAMES[thing.colour] in said
        if thing.size != captions.NONE:
            assert any(word in said for word in captions.SIZES[captions.SIZE_NAMES[thing.size]])


def test_held_out_keywords_are_nobodys_name_and_fit_few_concepts():
    rows = [(f"name{n}", [f"own{n}", f"also{n}", "face", f"name{n + 1}"]) for n in range(100)]
    found = concepts.held_out_keywords(rows)
    assert 20 <= len(found) <= 30
    assert "face" not in found and not any(word.startswith("name") for word in found)


@pytest.mark.parametrize(
    ("emoji", "duplicate"),
    [
        ("😀", False), ("👋🏽", True), ("🇩🇪", True), ("👩‍🚀", True), ("🧑‍🚀", False),
        ("👨‍👩‍👧", True), ("🏃‍♀️", True), ("🏴‍☠️", False),
    ],
)  # fmt: skip
def test_only_one_picture_of_each_meaning_is_kept(emoji, duplicate):
    assert concepts.is_duplicate([ord(ch) for ch in emoji]) is duplicate


def test_no_judging_background_is_trained_on():
    assert not set(backgrounds.HELD_OUT) & set(backgrounds.TRAINED)
    assert not set(backgrounds.HELD_OUT.values()) & set(backgrounds.TRAINED.values())


@pytest.mark.parametrize("family", [*backgrounds.TRAINED, *backgrounds.HELD_OUT])
def test_backgrounds_are_pictures_and_seeded(family):
    maker = {**backgrounds.TRAINED, **backgrounds.HELD_OUT}[family]
    first, again = (backgrounds.pool({family: maker}, 3, 64, seed=4) for _ in range(2))
    assert first.shape == (3, 3, 64, 64) and first.dtype == np.uint8
    assert np.array_equal(first, again)


def disc() -> torch.Tensor:
    """One artist, two concepts: a yellow disc and a dark square, 56 px."""
    down, across = np.mgrid[-1:1:56j, -1:1:56j]
    drawings = np.zeros((1, 2, 56, 56, 4), np.uint8)
    drawings[0, 0][np.hypot(down, across) < 0.95] = (250, 210, 40, 255)
    drawings[0, 1][np.maximum(abs(down), abs(across)) < 0.9] = (40, 40, 60, 255)
    return stage.kept_at(drawings, 56)


def on_white() -> stage.Stage:
    white = torch.full((4, 3, 64, 64), 255, dtype=torch.uint8)
    return stage.Stage(disc(), 1, white, torch.Generator().manual_seed(0))


def test_a_blue_thing_is_drawn_blue():
    blue = captions.COLOUR_NAMES.index("blue")
    drawn = on_white().draw([(captions.Thing(0, blue),)], 64, jitter=0.0)[0]
    middle = drawn[:, 28:36, 28:36].mean((1, 2))
    assert middle[2] > middle[0] + 0.2 and middle[2] > middle[1] + 0.1


def test_small_covers_less_than_large():
    small, large = (captions.SIZE_NAMES.index(name) for name in ("small", "large"))
    drawn = on_white().draw([(captions.Thing(0, size=small),), (captions.Thing(0, size=large),)], 64)
    covered = (drawn.mean(1) < 0.95).float().mean((1, 2))
    assert covered[0] * 3 < covered[1]


def test_both_things_of_a_pair_are_seen_apart():
    scenes = [(captions.Thing(0), captions.Thing(1))] * 16
    drawn = on_white().draw(scenes, 64, jitter=0.3)
    yellow = ((drawn[:, 0] > 0.7) & (drawn[:, 2] < 0.5)).float().mean((1, 2))
    dark = (drawn.amax(1) < 0.45).float().mean((1, 2))
    assert yellow.min() > 0.05 and dark.min() > 0.05


def test_scenes_repeat_with_their_seed():
    first, again = (on_white().draw([(captions.Thing(1),)] * 4, 64) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 16)])
def test_orthogonal_brings_every_singular_value_near_one(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(1))))
    assert values.min() > 0.5 and values.max() < 1.35


def test_muon_goes_downhill():
    weight = torch.nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(2)))
    goal, optimiser = torch.eye(6, 5), Muon([weight], lr=0.05)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = (weight - goal).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_recall_counts_any_right_answer():
    queries = torch.eye(12)[:3]
    gallery = torch.eye(12).flip(0)
    assert evaluate.recall(queries, gallery, [{11}, {0, 10}, {3}])["R@1"] == pytest.approx(66.7)
