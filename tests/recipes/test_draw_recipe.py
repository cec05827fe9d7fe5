"""The generator's recipe: what is laid out, what is never shown, and a judge that compares pixels."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from multimodal.pipelines.generation.backends.space_prior import (
    FRAMES,
    DrawingPrior,
    apply_layout,
    swap_halves,
)
from recipes.starter.captioner import captions
from recipes.starter.generator import draw_data, draw_scenes, train_draw_prior
from recipes.starter.generator.draw_batches import NOISE, Batches
from recipes.starter.generator.draw_frames import Frames
from recipes.starter.generator.pixel_judge import PixelJudge, apart, halves, mask_of

CONCEPTS = 60


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """Two artists' blots (2, CONCEPTS, 64, 64, 4): no two alike, each with an edge of its own."""
    rng = np.random.default_rng(3)
    result = np.zeros((2, CONCEPTS, 64, 64, 4), np.uint8)
    for artist in range(2):
        for concept in range(CONCEPTS):
            coarse = rng.integers(0, 256, (5, 5, 4))
            coarse[..., 3] = np.where(rng.random((5, 5)) < 0.75, 255, 0)
            coarse[2, 2, 3] = 255
            result[artist, concept] = np.kron(coarse, np.ones((13, 13, 1)))[:64, :64]
    return result


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


def test_two_subjects_stand_apart_on_the_grid_of_the_tokens(easel: draw_scenes.Easel) -> None:
    scene = (captions.Subject(0), captions.Subject(1))
    for layout in easel.layouts(50).tolist():
        first, second = draw_scenes.places(scene, layout)
        assert first.edge == second.edge == draw_scenes.CELL
        assert all(number % draw_scenes.TOKEN == 0 for number in (*first, *second))
        assert abs(first.top - second.top) >= 32 or abs(first.left - second.left) >= 32


def test_sketches_are_laid_out_as_drawings_are(easel: draw_scenes.Easel) -> None:
    """A sketch holds the number of its frame everywhere: its canvas has them where the drawing has ink."""
    alone = [(captions.Subject(0),), (captions.Subject(0, size=draw_scenes.SMALL),)]
    scenes = [*alone, (captions.Subject(0), captions.Subject(1))]
    numbers = torch.cat(
        [torch.full((side**2, 1), float(kind)) for kind, side in enumerate(FRAMES.values(), 1)]
    )
    for layout in easel.layouts(60):
        single, pair = apply_layout(numbers[None], layout[None])[0].view(4, 4, 2).unbind(2)
        for scene in scenes:
            for number, place in enumerate(draw_scenes.places(scene, layout.tolist())):
                token = draw_scenes.TOKEN
                rows = slice(place.top // token, -(-(place.top + place.edge) // token))
                columns = slice(place.left // token, -(-(place.left + place.edge) // token))
                if place.edge == draw_scenes.CELL:
                    wanted = 3 + number if len(scene) == 2 else 3 + int(layout[2])
                    assert (pair[rows, columns] == wanted).all()
                else:
                    wanted = 2 if place.edge == draw_scenes.ASIDE else 1
                    assert (single[rows, columns] == wanted).all() and (single == wanted).sum() == (
                        single > 0
                    ).sum()


def test_a_small_subject_has_the_same_pixels_wherever_it_stands(easel: draw_scenes.Easel) -> None:
    papers = torch.ones(2, 3, 64, 64)
    easel.put(papers[0], 0, captions.Subject(4), draw_scenes.Place(0, 32, 32))
    easel.put(papers[1], 0, captions.Subject(4), draw_scenes.Place(32, 16, 32))
    assert (papers[0, :, :32, 32:] == papers[1, :, 32:, 16:48]).all()


def test_a_said_colour_is_seen(easel: draw_scenes.Easel) -> None:
    red = captions.Subject(7, captions.COLOUR_NAMES.index("red"))
    drawn = easel.draw([(red,)])[0]
    inked = drawn[:, mask_of(drawn[None])[0]].mean(1)
    assert inked.argmax() == 0 and inked[0] > inked[1] + 0.1


def test_the_judge_knows_the_drawings_it_was_given(drawings: np.ndarray, easel: draw_scenes.Easel) -> None:
    judge = PixelJudge(torch.from_numpy(drawings).permute(0, 1, 4, 2, 3).contiguous())
    images = easel.draw([(captions.Subject(row),) for row in range(CONCEPTS)])
    assert (judge.single(images, coloured=True).argmax(1) == torch.arange(CONCEPTS)).float().mean() > 0.95
    noise = torch.rand(CONCEPTS, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert (judge.single(noise, coloured=True).argmax(1) == torch.arange(CONCEPTS)).float().mean() < 0.2


def test_the_judge_tells_the_hue_of_a_known_subject(drawings: np.ndarray, easel: draw_scenes.Easel) -> None:
    judge = PixelJudge(torch.from_numpy(drawings).permute(0, 1, 4, 2, 3).contiguous())
    hues = [number % len(captions.COLOUR_NAMES) for number in range(CONCEPTS)]
    images = easel.draw([(captions.Subject(row, hue),) for row, hue in enumerate(hues)])
    results = judge.hues(images, list(range(CONCEPTS)))
    assert np.mean(np.array(results) == np.array(hues)) > 0.85


def test_two_clouds_are_distinguished() -> None:
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[4:20, 6:22] = True
    mask[40:60, 38:60] = True
    first, second = halves(mask)
    assert not (first & second).any() and ((first | second) == mask).all()
    assert {int(first.sum()), int(second.sum())} == {16 * 16, 20 * 22}


def test_each_of_two_subjects_is_shown_alone(drawings: np.ndarray, easel: draw_scenes.Easel) -> None:
    judge = PixelJudge(torch.from_numpy(drawings).permute(0, 1, 4, 2, 3).contiguous())
    pairs = [(row, row + 30) for row in range(30)]
    parts = apart(easel.draw([(captions.Subject(a), captions.Subject(b)) for a, b in pairs]))
    assert all(part.shape == (30, 3, 64, 64) and (part[:, :, 0] == 1).all() for part in parts)
    results = [judge.single(part, coloured=True).argmax(1).tolist() for part in parts]
    right = [set(both) == set(pair) for *both, pair in zip(*results, pairs, strict=True)]
    assert np.mean(right) > 0.8


# --- what the prior learns -----------------------------------------------------------------------

SMALL, LARGE, NONE = draw_scenes.SMALL, draw_scenes.LARGE, captions.NONE


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Every token of a frame holds (what frame, dye, concept); three dyes, the last that of no colour."""

    def numbered(kind: int, tokens: int) -> torch.Tensor:
        table = torch.zeros(3, 5, tokens, 3)
        table[..., 0], table[..., 1] = kind, torch.arange(3.0)[:, None, None]
        table[..., 2] = torch.arange(5.0)[:, None]
        return table

    return Frames(numbered(1, 16), numbered(2, 16), numbered(3, 9), numbered(4, 4), torch.zeros(16, 3))


@pytest.mark.parametrize(
    ("scene", "wanted"),
    [
        ((4, NONE, NONE, NONE, NONE), [(1, 2, 4), (3, 2, 4), None, None]),
        ((4, 1, NONE, NONE, NONE), [(1, 1, 4), (3, 1, 4), None, None]),
        ((4, 0, LARGE, NONE, NONE), [(2, 0, 4), None, None, None]),
        ((4, NONE, SMALL, NONE, NONE), [None, None, (4, 2, 4), None]),
        ((4, NONE, NONE, 2, 1), [None, None, (4, 2, 4), (4, 1, 2)]),
    ],
)
def test_a_scene_fills_the_frames_that_it_uses(
    frames: Frames, scene: tuple[int, ...], wanted: list[tuple[int, ...] | None]
) -> None:
    result = frames.targets(torch.tensor([scene]))[0].split([16, 9, 4, 4])
    for tokens, item in zip(result, wanted, strict=True):
        assert (tokens == torch.tensor(item or (0, 0, 0))).all()


def test_the_order_of_two_subjects_costs_nothing(frames: Frames) -> None:
    both, other = frames.targets(torch.tensor([[4, NONE, NONE, 2, 1], [4, NONE, NONE, 3, 1]])).split(1)
    assert train_draw_prior.errors(swap_halves(both), both) == 0
    assert train_draw_prior.errors(other, both) > 0
    single = frames.targets(torch.tensor([[4, NONE, NONE, NONE, NONE]]))
    assert train_draw_prior.errors(single, both) > 0


def begun(
    names: torch.Tensor, directions: int, subjects: list[list[int]], texts: torch.Tensor
) -> DrawingPrior:
    """A prior that begins with vectors of names (n, 8), and captions (scenes, 8) of things."""
    prior = DrawingPrior(dim=8, channels=2, width=4, inner=4, known=4, directions=directions)
    data = {"texts": names[:, None], "scene things": torch.tensor(subjects), "scene texts": texts[:, None]}
    train_draw_prior.begin(prior, data)
    return prior


COLOURED = [[0, dye, NONE, NONE, NONE] for dye in range(len(captions.COLOUR_NAMES))]


def test_the_directions_begin_with_the_names_that_are_least_alike() -> None:
    names = torch.eye(8)[[0, 1, 0, 2]] + torch.tensor([0, 0, 0.01, 0])[:, None]
    prior = begun(names, 3, COLOURED, torch.zeros(len(COLOURED), 8))
    assert torch.allclose(prior.axes.detach(), torch.eye(8)[:3])


def test_what_a_colour_adds_begins_with_the_difference_of_means() -> None:
    texts = torch.randn(len(COLOURED), 8, generator=torch.Generator().manual_seed(2))
    pair = [0, 3, NONE, 1, NONE]  # tells of no single colour
    prior = begun(torch.eye(8), 8, [*COLOURED, pair], torch.cat([texts, 100 * torch.ones(1, 8)]))
    assert torch.allclose(prior.dye_axes[:-1], texts - 1 / 8, atol=1e-6)
    assert not prior.dye_axes[-1].any()


def test_the_nearest_direction_is_taken_out_of_a_vector() -> None:
    prior = begun(torch.eye(8), 8, COLOURED, torch.zeros(len(COLOURED), 8))
    two = torch.nn.functional.normalize(torch.tensor([[0, 0.6, 0, 0, 0.5, 0, 0, 0]]), dim=1)
    left = prior.without_nearest(two, two)
    assert left[0, 4] > 0.6 and left[0].abs().sum() - left[0, 4].abs() < 0.15
    first = prior.without_nearest(two, left)
    assert first[0, 1] > 0.7 and first[0].abs().sum() - first[0, 1].abs() < 0.15


def test_a_coloured_subject_is_described_without_its_colour_too(frames: Frames) -> None:
    pairs = [[4, NONE, NONE, 2, 1], [4, NONE, NONE, 2, NONE]]
    scenes = torch.tensor([[4, 1, NONE, NONE, NONE], *pairs, [3, NONE, NONE, NONE, NONE]])
    alone = torch.tensor([[4, NONE, NONE, NONE, NONE], [3, NONE, NONE, NONE, NONE]])
    plain = frames.targets(scenes)
    plain[[0, 3]] = frames.targets(alone)
    shares = torch.full((4, 3, 3), 1 / 3)
    shares[:, 0] = torch.tensor([[0.1, 0.8, 0.1], [1.0, 0, 0], [1.0, 0, 0], [0.0, 0.5, 0.5]])
    shares[2, 1:, -1] = torch.tensor([0.2, 0.4])
    bare, read = train_draw_prior.bare_errors(plain, shares, scenes, frames)
    assert bare.tolist() == [0, 0]
    wanted = torch.tensor([0.8, 0.5, 0.2, 0.4])  # of no colour that is the last share
    assert torch.allclose(read, -wanted.log())
    dyed, _ = train_draw_prior.bare_errors(frames.targets(scenes), shares, scenes, frames)
    assert (dyed > 0).tolist() == [True, False]


def test_vectors_and_drawings_of_a_batch_tell_of_the_same_subjects() -> None:
    """Every vector is the axis of its thing, or the sum of two; every drawing bears the numbers of its things."""
    count, rounds, dim = 8, 3, 16
    axes = torch.eye(dim)
    subjects = torch.tensor([[a, NONE, NONE, b, NONE] for a in range(count) for b in range(count) if a != b])
    subjects = torch.cat([subjects, torch.tensor([[a, 1, NONE, NONE, NONE] for a in range(count)])])
    vectors = axes[subjects[:, 0]] + axes[subjects[:, 3]] * (subjects[:, 3:4] >= 0)
    plain = [subjects.new_tensor([[a, NONE]]) for a in [*range(count)] * rounds]
    data = {
        "texts": axes[:count, None].expand(-1, 2, -1), "seen": axes[None, None, :count].expand(2, 4, -1, -1),
        "heard": axes[[0, 0, 2, 3, 5]], "named": torch.tensor([0, 0, 2, 3, 5]), "scene things": subjects,
        "scene texts": vectors[:, None].expand(-1, 2, -1), "scene seen": vectors,
        "layouts": torch.zeros(len(subjects) + rounds * count, 3), "keywords": axes[:3], "keywords of": torch.arange(3),
        "tokens": torch.cat([*plain, subjects[:, [0, 3]]]),
    }  # fmt: skip
    conditions, scenes, rows = Batches(data, dict.fromkeys(NOISE, 400), seed=1).draw()
    assert conditions.shape == (2000, dim) and torch.allclose(conditions.norm(dim=1), torch.ones(2000))
    assert (data["tokens"][rows] == scenes[:, [0, 3]]).all()
    strongest = conditions.topk(2, dim=1).indices
    assert (strongest[:400, 0] == scenes[:400, 0]).float().mean() > 0.9  # noise leaves it so
    pair = scenes[:, 3] >= 0
    assert pair[800:1200].all() and not pair[:400].any() and not pair[1200:].any()
    both = torch.sort(strongest[pair]).values == torch.sort(scenes[pair][:, [0, 3]]).values
    assert both.all(1).float().mean() > 0.9
    between = conditions[1200:1600].gather(1, scenes[1200:1600, :1])[:, 0] / strongest_of(
        conditions[1200:1600]
    )
    assert between.min() > 0.7 and (between == 1).float().mean() > 0.9  # halfway at most, but for noise
    assert (strongest[1600:, 0] == scenes[1600:, 0]).float().mean() > 0.95 and scenes[1600:, 0].max() < 3


def strongest_of(vectors: torch.Tensor) -> torch.Tensor:
    """The largest number of each row."""
    return vectors.amax(1)


def test_a_scene_is_kept_as_five_numbers() -> None:
    assert draw_data.described((captions.Subject(3, 1),)) == (3, 1, NONE, NONE, NONE)
    assert draw_data.described((captions.Subject(3), captions.Subject(5, 2))) == (3, NONE, NONE, 5, 2)
