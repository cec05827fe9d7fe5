"""The recipe's own claims: what is held out stays out, scenes show what they say, the tools do what they name."""

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor, concepts, stress
from recipes.starter.figures import evaluate
from recipes.starter.towers import joint_finetune, restore
from recipes.starter.towers.muon import Muon, orthogonal

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


def test_neither_subject_nor_colour_alone_finds_a_held_out_scene(held):
    assert len(set(held.coloured)) == len(set(held.pairs)) == 200
    for place in (0, 1):
        values = [pair[place] for pair in held.coloured]
        assert min(values.count(value) for value in set(values)) >= 5
    subjects = [subject for pair in held.pairs for subject in pair]
    assert len(set(subjects)) == 40


def test_the_split_is_the_same_on_every_run(held):
    assert captions.held_out(COUNT) == held


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_caption_says_every_subject_colour_and_size(seed):
    rng = random.Random(seed)
    names = [f"thing{number}" for number in range(COUNT)]
    scene = captions.random_scene(rng, COUNT, captions.HeldOut((), ()))
    said = captions.caption(scene, names, rng)
    for subject in scene:
        assert f"thing{subject.concept}" in said
        if subject.colour != captions.NONE:
            assert captions.COLOUR_NAMES[subject.colour] in said
        if subject.size != captions.NONE:
            assert any(word in said for word in captions.SIZES[captions.SIZE_NAMES[subject.size]])


def test_held_out_keywords_are_nobodys_name_and_fit_few_concepts():
    rows = [(f"name{n}", [f"own{n}", f"also{n}", "face", f"name{n + 1}"]) for n in range(100)]
    results = concepts.held_out_keywords(rows)
    assert 20 <= len(results) <= 30
    assert "face" not in results and not any(word.startswith("name") for word in results)


@pytest.mark.parametrize(
    ("emoji", "duplicate"),
    [
        ("😀", False), ("👋🏽", True), ("🇩🇪", True), ("👩‍🚀", True), ("🧑‍🚀", False),
        ("👨‍👩‍👧", True), ("🏃‍♀️", True), ("🏴‍☠️", False),
    ],
)  # fmt: skip
def test_only_one_image_of_each_meaning_is_kept(emoji, duplicate):
    assert concepts.is_duplicate([ord(ch) for ch in emoji]) is duplicate


def test_no_judging_background_is_trained_on():
    families = (backgrounds.TRAINED, backgrounds.HELD_OUT, backgrounds.UNTOUCHED)
    for first, second in combinations(families, 2):
        assert not set(first) & set(second)
        assert not set(first.values()) & set(second.values())


ALL_GROUNDS = backgrounds.TRAINED | backgrounds.HELD_OUT | backgrounds.UNTOUCHED


@pytest.mark.parametrize("family", ALL_GROUNDS)
def test_backgrounds_are_images_and_seeded(family):
    maker = ALL_GROUNDS[family]
    first, again = (backgrounds.pool({family: maker}, 3, 64, seed=4) for _ in range(2))
    assert first.shape == (3, 3, 64, 64) and first.dtype == np.uint8
    assert np.array_equal(first, again)


def disc() -> torch.Tensor:
    """One artist, two concepts: a yellow disc and a dark square, 56 px."""
    down, across = np.mgrid[-1:1:56j, -1:1:56j]
    drawings = np.zeros((1, 2, 56, 56, 4), np.uint8)
    drawings[0, 0][np.hypot(down, across) < 0.95] = (250, 210, 40, 255)
    drawings[0, 1][np.maximum(abs(down), abs(across)) < 0.9] = (40, 40, 60, 255)
    return compositor.kept_at(drawings, 56)


def on_white() -> compositor.Compositor:
    white = torch.full((4, 3, 64, 64), 255, dtype=torch.uint8)
    return compositor.Compositor(disc(), 1, white, torch.Generator().manual_seed(0))


def test_a_blue_subject_is_drawn_blue():
    blue = captions.COLOUR_NAMES.index("blue")
    drawn = on_white().draw([(captions.Subject(0, blue),)], 64, jitter=0.0)[0]
    middle = drawn[:, 28:36, 28:36].mean((1, 2))
    assert middle[2] > middle[0] + 0.2 and middle[2] > middle[1] + 0.1


def test_small_covers_less_than_large():
    small, large = (captions.SIZE_NAMES.index(name) for name in ("small", "large"))
    drawn = on_white().draw([(captions.Subject(0, size=small),), (captions.Subject(0, size=large),)], 64)
    covered = (drawn.mean(1) < 0.95).float().mean((1, 2))
    assert covered[0] * 3 < covered[1]


def test_both_subjects_of_a_pair_are_seen_apart():
    scenes = [(captions.Subject(0), captions.Subject(1))] * 16
    drawn = on_white().draw(scenes, 64, jitter=0.3)
    yellow = ((drawn[:, 0] > 0.7) & (drawn[:, 2] < 0.5)).float().mean((1, 2))
    dark = (drawn.amax(1) < 0.45).float().mean((1, 2))
    assert yellow.min() > 0.05 and dark.min() > 0.05


def test_scenes_repeat_with_their_seed():
    first, again = (on_white().draw([(captions.Subject(1),)] * 4, 64) for _ in range(2))
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


def test_every_untouched_distortion_changes_an_image_and_repeats_with_its_seed():
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    blown = stress.apply(images, 5)
    assert blown.shape == images.shape and blown.min() >= 0 and blown.max() <= 1
    assert ((blown - images).abs().mean((1, 2, 3)) > 0.02).all()
    assert torch.equal(blown, stress.apply(images, 5))


class FewAnchors:
    """Three things, whose captions get vectors of their own."""

    def __init__(self):
        self.names = ["cat", "car", "key"]

    def encode(self, texts):
        generator = torch.Generator().manual_seed(0)
        self.descriptions = texts
        return torch.nn.functional.normalize(torch.randn(len(texts), 256, generator=generator), dim=-1)


def test_the_colour_loss_is_small_for_the_right_colour_and_large_for_a_wrong_one():
    colours = joint_finetune.Colours(FewAnchors(), captions.HeldOut((), ()))
    scenes = [
        (captions.Subject(1, 4),),
        (captions.Subject(0),),
        (captions.Subject(0, 2), captions.Subject(1, 3)),
    ]
    right = torch.zeros(3, 256)
    right[0] = colours.vectors[1, 4]
    wrong = torch.zeros(3, 256)
    wrong[0] = colours.vectors[1, 5]
    assert colours.loss(right, scenes) < 1e-3 < 5 < colours.loss(wrong, scenes)


def test_the_colour_loss_never_names_a_held_out_combination():
    held = captions.HeldOut(((1, 5),), ())
    colours = joint_finetune.Colours(FewAnchors(), held)
    vectors = torch.zeros(1, 256)
    vectors[0] = colours.vectors[1, 5]
    assert colours.loss(vectors, [(captions.Subject(1, 4),)]) < 5  # the best match is not a candidate
    rng = random.Random(0)
    assert not any(
        (scene[0].concept, scene[0].colour) == (1, 5) for scene in joint_finetune.coloured(rng, 500, 3, held)
    )


def test_where_a_modality_stands_moves_toward_what_is_seen():
    standing = joint_finetune.Prototypes(torch.eye(3))
    standing.see(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0]))
    assert standing.vectors[0, 1] > 0.3 and torch.allclose(standing.vectors.norm(dim=1), torch.ones(3))
    assert torch.equal(standing.vectors[1:], torch.eye(3)[1:])


def test_a_concept_is_restored_from_its_name_and_never_from_held_out_keywords():
    concept = concepts.Concept("🔑", "key", ("lock", "door"), ("secret",), None, "Objects")
    said = restore.sayings(concept, random.Random(0))
    assert said[0] == "key" and "a picture of a key" in said
    assert any(text.startswith("key: ") for text in said) and not any("secret" in text for text in said)


def test_neither_list_of_free_phrases_repeats_the_other():
    first, second = (
        set((Path(restore.__file__).parents[1] / "data" / name).read_text().splitlines())
        for name in ("free_phrases.txt", "fresh_phrases.txt")
    )
    assert len(first) == len(second) == 40 and not first & second
