"""The image tower's training on cluttered pictures: natural statistics, what hides a thing, the choice of weights."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor, natural, occlusion
from recipes.starter.figures import photo_backgrounds
from recipes.starter.towers import train_photographs

SIDE = 64
GLYPHS = np.zeros((4, 32, 32, 4), np.uint8)
GLYPHS[:, 4:28, 4:28] = (200, 60, 40, 255)
MAKERS = natural.makers(GLYPHS)


def amplitudes(images: np.ndarray) -> np.ndarray:
    """The mean amplitude at 2, 4, 8 and 16 cycles per picture, of images (n, 3, side, side)."""
    spectrum = np.abs(np.fft.fft2(images.mean(1)))[:, :, : SIDE // 2].mean(0)
    down = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE))
    far = np.hypot(down[:, None], np.arange(SIDE // 2)[None])
    return np.array([spectrum[(far > 0.8 * at) & (far < 1.25 * at)].mean() for at in (2, 4, 8, 16)])


def test_no_photograph_like_family_judges_and_none_that_judges_is_one() -> None:
    judging = backgrounds.HELD_OUT | backgrounds.UNTOUCHED
    assert not set(MAKERS) & set(judging)


@pytest.mark.parametrize("family", MAKERS)
def test_photograph_like_backgrounds_are_images_and_repeat_with_their_seed(family: str) -> None:
    first, again = (backgrounds.pool({family: MAKERS[family]}, 2, SIDE, seed=4) for _ in range(2))
    assert first.shape == (2, 3, SIDE, SIDE) and first.std() > 5
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_their_amplitudes_fall_with_frequency_about_as_those_of_photographs() -> None:
    images = backgrounds.pool(MAKERS, 36, SIDE, seed=1).astype(np.float32)
    slopes = np.diff(np.log2(amplitudes(images)))
    assert (slopes > -1.8).all() and (slopes < -0.4).all()  # photographs: about -1
    noise = np.random.default_rng(0).integers(0, 256, (36, 3, SIDE, SIDE)).astype(np.float32)
    assert abs(np.diff(np.log2(amplitudes(noise)))).max() < 0.3


def test_lines_darken_some_of_each_picture_and_leave_the_rest() -> None:
    white = torch.ones(32, 3, SIDE, SIDE)
    lined = occlusion.lines(white, torch.Generator().manual_seed(0))
    changed = (lined < 0.99).any(1).float().mean((1, 2))
    assert (changed > 0.03).all() and (changed < 0.98).all()
    assert lined.min() >= 0 and lined.max() <= 1


def test_backgrounds_are_patched_and_enlarged_from_the_pool() -> None:
    pool = torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8)
    pool[1], pool[2, :, :, SIDE // 2 :] = 255, 255  # black, white, half of each
    glyphs = torch.zeros(1, 1, 4, 56, 56, dtype=torch.uint8)
    source = train_photographs.Cluttered(glyphs, 1, pool, torch.Generator().manual_seed(0))
    images = source.ground(200)
    assert images.shape == (200, 3, SIDE, SIDE) and images.min() >= 0 and images.max() <= 1
    halves = pool.float() / 255
    usual = torch.cat([halves, halves.flip(3), halves.mT, halves.flip(3).mT])
    is_new = ~(images[:, None] == usual[None]).all(-1).all(-1).all(-1).any(1)
    assert 0.1 < is_new.float().mean() < 0.8


def test_only_a_share_of_pictures_gets_lines() -> None:
    white = torch.ones(300, 3, SIDE, SIDE)
    lined = occlusion.some_lined(white, torch.Generator().manual_seed(2), 0.2)
    assert 0.1 < (lined < 0.99).any((1, 2, 3)).float().mean() < 0.3


def test_vectors_are_held_to_those_before_only_where_these_were_about_right() -> None:
    texts, former = torch.eye(4)[:2], torch.eye(4)[[0, 2]]  # the second was wrong
    assert train_photographs.moved(former.flip(0), former, texts).item() == 1.0
    assert train_photographs.moved(torch.eye(4)[[0, 3]], former, texts).item() == 0.0
    assert train_photographs.moved(former, former, torch.eye(4)[2:].flip(0)).item() == 0.0


def test_things_in_front_are_plain_or_cut_from_the_background_given() -> None:
    images, ground = torch.zeros(64, 3, SIDE, SIDE), torch.full((64, 3, SIDE, SIDE), 0.5)
    hidden = occlusion.fronts(images, ground, torch.Generator().manual_seed(1))
    covered = (hidden != 0).any(1).float().mean((1, 2))
    assert (covered > 0).float().mean() > 0.9 and covered.mean() < 0.6
    assert (hidden == 0.5).any() and images.sum() == 0


def test_arrows_and_clocks_are_turned_no_farther_than_before() -> None:
    names = ["right arrow", "four o'clock", "half past", "dog"]
    assert train_photographs.directed(names) == {0, 1}
    scenes = [(captions.Subject(row % 2),) for row in range(200)]
    glyphs = torch.zeros(1, 2, 4, 56, 56, dtype=torch.uint8)
    glyphs[:, :, :, 26:30] = 255  # a bar from left to right
    ground = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    source = compositor.Compositor(
        glyphs, 1, ground, torch.Generator().manual_seed(0), turn=1.2, upright=frozenset({0})
    )
    bars = source.draw(scenes, SIDE)[:, 0] > 0.5
    tall = bars.any(2).sum(1).float()  # rows that a bar crosses grow with its angle
    assert tall[1::2].max() > 1.5 * tall[0::2].max()


def test_weights_between_two_start_at_the_first_and_end_at_the_second() -> None:
    first = {"w": torch.tensor([0.0, 2.0]), "count": torch.tensor(3)}
    last = {"w": torch.tensor([1.0, 4.0]), "count": torch.tensor(9)}
    assert torch.equal(train_photographs.between(first, last, 0.0)["w"], first["w"])
    assert torch.equal(train_photographs.between(first, last, 1.0)["w"], last["w"])
    assert train_photographs.between(first, last, 0.25)["w"].tolist() == [0.25, 2.5]


def test_the_check_puts_a_thing_whole_on_a_part_of_a_photograph(tmp_path: Path) -> None:
    photographs = photo_backgrounds.photographs()
    assert len(photographs) == 3 and all(min(photograph.size) > 400 for photograph in photographs)
    rng = np.random.default_rng(0)
    green = np.zeros((80, 80, 4), np.uint8)
    green[:] = (0, 255, 0, 255)
    for photograph in photographs:
        ground = photo_backgrounds.cropped(photograph, rng)
        scene = photo_backgrounds.composed(green, ground, rng)
        is_green = (scene[..., 1] > 180) & (scene[..., 0] < 90) & (scene[..., 2] < 90)
        least, most = (edge**2 for edge in photo_backgrounds.SIZE)
        assert scene.shape == (224, 224, 3) and 0.9 * least < is_green.mean() < 1.05 * most


def test_a_batch_holds_both_halves_and_says_what_it_shows(tmp_path: Path) -> None:
    glyphs = np.random.default_rng(0).integers(0, 256, (150, 80, 80, 4), dtype=np.uint8)
    np.savez(tmp_path / "glyphs.npz", noto=glyphs, twemoji=glyphs)
    names = [f"thing{row}" for row in range(150)]
    scenes = train_photographs.Scenes(tmp_path, names, 0, grounds=(6, 9), redrawn=1)
    drawn = scenes.batch()
    count = sum(train_photographs.OLD) + sum(train_photographs.NEW)
    assert drawn.images.shape == (count, 3, SIDE, SIDE) and drawn.images.dtype == torch.uint8
    assert len(drawn.scenes) == len(drawn.descriptions) == count
    for row in random.Random(0).sample(range(count), 20):
        assert all(names[subject.concept] in drawn.descriptions[row] for subject in drawn.scenes[row])
