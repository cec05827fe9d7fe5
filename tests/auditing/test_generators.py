"""Each severity of each kind does more damage than the one before, and none erases the item."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.auditing.generators import audio, drawings, images

GALLERY = Path(__file__).resolve().parents[2] / "assets" / "gallery"
NAMES = (
    "red-apple.jpg",
    "drum.png",
    "elephant.jpg",
    "pizza-on-table.jpg",
    "cactus-in-desert.jpg",
    "piano-keys.jpg",
)
SIDE = 64


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    from multimodal.auditing.material import squared

    return [squared(mm.Image(GALLERY / "pictures" / name).load(), SIDE) for name in NAMES]


def box(values: np.ndarray, size: int = 7) -> np.ndarray:
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of the luminances, with a box window."""
    a, b = (image.astype(float).mean(-1) for image in (first, second))
    mean_a, mean_b = box(a), box(b)
    var_a, var_b = box(a * a) - mean_a**2, box(b * b) - mean_b**2
    both = box(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (
        (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return float(value.mean())


def spread(stack: np.ndarray) -> float:
    """How far images differ from each other."""
    return float(np.std(stack.astype(float), axis=0).mean())


@pytest.mark.parametrize("kind", images.KINDS)
def test_each_severity_lowers_the_similarity_and_none_erases_the_image(
    kind: str, pictures: list[np.ndarray]
) -> None:
    similarity = []
    for severity in images.SEVERITIES:
        damaged = [images.damage(pixels, kind, severity, seed) for seed, pixels in enumerate(pictures)]
        similarity.append(np.mean([ssim(a, b) for a, b in zip(pictures, damaged, strict=True)]))
        assert [image.shape for image in damaged] == [(SIDE, SIDE, 3)] * len(pictures)
    assert all(before > after + 0.005 for before, after in pairwise(similarity)), similarity
    assert similarity[0] < 0.999
    assert spread(np.stack(damaged)) > 0.08 * spread(np.stack(pictures))


def test_damage_is_the_same_for_the_same_seed(pictures: list[np.ndarray]) -> None:
    first, second, other = (images.damage(pictures[0], "gaussian noise", 3, seed) for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    files = sorted((GALLERY / "sounds").iterdir())[:6]
    return [mm.Audio(file).load(audio.RATE_HZ).samples for file in files]


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two log spectrograms in frames of 32 ms."""
    n = min(len(first), len(second)) // 512 * 512
    spectra = [
        np.log(np.abs(np.fft.rfft(clip[:n].reshape(-1, 512) * np.hanning(512))) + 1e-2)
        for clip in (first, second)
    ]
    return float(np.corrcoef(spectra[0].ravel(), spectra[1].ravel())[0, 1])


@pytest.mark.parametrize("kind", audio.AUDIO_KINDS)
def test_each_severity_changes_a_clip_more_and_none_silences_it(kind: str, clips: list[np.ndarray]) -> None:
    similarity = []
    for severity in (1, 2, 3, 4, 5):
        damaged = [
            audio.damage_audio(clip, kind, severity, clips[:place] + clips[place + 1 :], place)
            for place, clip in enumerate(clips)
        ]
        similarity.append(np.mean([likeness(a, b) for a, b in zip(clips, damaged, strict=True)]))
        assert min(float(np.abs(clip).max()) for clip in damaged) > 0.02
    assert all(before > after for before, after in pairwise(similarity)), similarity


def test_a_written_word_covers_what_nonsense_of_its_length_covers(pictures: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    letters = drawings.nonsense("red apple", rng)
    assert [len(part) for part in letters.split()] == [3, 5]
    word, control = (drawings.write_word(pictures[0], text) for text in ("red apple", letters))
    changed = [(image != pictures[0]).any(-1).mean() for image in (word, control)]
    assert changed[0] == pytest.approx(changed[1], abs=0.05)
    assert (word != control).any()


def test_shapes_differ_and_copies_are_counted() -> None:
    shapes = {name: drawings.shape(name, "red", 32) for name in drawings.SHAPES}
    assert len({image.tobytes() for image in shapes.values()}) == 4
    inked = [(drawings.repeated(shapes["square"], n) != 255).any(-1).mean() for n in (1, 2, 3, 4)]
    assert np.array(inked) / inked[0] == pytest.approx([1, 2, 3, 4], rel=0.05)
    pair = drawings.beside(shapes["square"], np.full((32, 32, 3), 255, np.uint8))
    assert (pair[:, :16] != 255).any()
    assert (pair[:, 16:] == 255).all()
