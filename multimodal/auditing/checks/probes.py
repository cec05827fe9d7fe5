"""Is a caption with the right words in the wrong relation recognised as wrong? Order, binding, counting, negation.

Each probe has captions for an image which differ in the relation alone; the control has the same image and captions
that differ in the words. Where the control fails too, the model does not recognise the things: nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.auditing.checks.common import MARGIN, NotTested, Subject, distinct_names, interval
from multimodal.auditing.finding import Example, Finding
from multimodal.auditing.generators import drawings
from multimodal.core.items import Image
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Generator = np.random.Generator

QUICK, FULL = 100, 300  # trials of each probe
FEWEST = 8
COUNT_WORDS = ("one", "two", "three", "four")
CURE = "do not rely on word order, counts or negation in queries; filter such conditions outside the model"


@dataclass
class Trial:
    """An image with captions, the right one first, and captions that differ in their words, the right one first."""

    image: Pixels
    captions: tuple[str, ...]
    control: tuple[str, ...]


def probes(subject: Subject) -> list[Finding]:
    """A finding for each probe whose control is passed."""
    import numpy as np

    subject.needs(Modality.IMAGE, Modality.TEXT)
    places, names = distinct_names(subject.material.image_names)
    if len(places) < FEWEST:
        raise NotTested(f"{len(places)} images with names, at least {FEWEST} are needed")
    things = [(name, subject.material.images[place]) for name, place in zip(names, places, strict=True)]
    rng = np.random.default_rng(subject.seed)
    n = FULL if subject.is_full else QUICK
    made = {
        "left of": [_beside(things, rng, vertical=False) for _ in range(n)],
        "above": [_beside(things, rng, vertical=True) for _ in range(n)],
        "colour binding": [_binding(subject, rng) for _ in range(n)],
        "counting": [_counting(things, rng) for _ in range(n)],
        "negation: not a …": [_negation(things, rng) for _ in range(n)],
        "negation: … but no …": [_exclusion(things, rng) for _ in range(n)],
    }
    findings = []
    for name, trials in made.items():
        findings += _finding(subject, name, trials)
    if not findings:
        raise NotTested(
            "the model does not recognise the drawn things, so that nothing is known of their relation"
        )
    return findings


def _finding(subject: Subject, name: str, trials: Sequence[Trial]) -> list[Finding]:
    images = subject.images([trial.image for trial in trials])
    right, answers = _answers(subject, images, [trial.captions for trial in trials])
    control, _ = _answers(subject, images, [trial.control for trial in trials])
    chance = 1 / len(trials[0].captions)
    control_chance = 1 / len(trials[0].control)
    reached, control_low, _ = interval(control, subject.seed)
    if control_low < control_chance + MARGIN:
        return []
    value, low, high = interval(right, subject.seed)
    warns = low <= chance + MARGIN
    against = " (worse than chance)" if high < chance else ""
    wrong = [row for row, flag in enumerate(right) if not flag][:3]
    examples = tuple(
        Example(None, Image(trials[row].image), trials[row].captions[0], trials[row].captions[answers[row]])
        for row in wrong
    )
    return [
        Finding(
            f"probe: {name}",
            "probe",
            "warn" if warns else "fine",
            f"{name}: the right caption is nearer in {value:.0%} of trials, chance {chance:.0%}{against}",
            value,
            low,
            high,
            f"the same images with captions that differ in a word (chance {control_chance:.0%})",
            reached,
            f"the interval contains or lies below chance + {MARGIN:.0%}",
            len(trials),
            CURE if warns else "",
            examples if warns else (),
            {"chance": round(chance, 4)},
        )
    ]


def _answers(
    subject: Subject, images: NDArray[np.float32], captions: Sequence[tuple[str, ...]]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether the first caption of each trial is the nearest, and which is. Ties count as wrong."""
    import numpy as np

    texts = list(dict.fromkeys(caption for own in captions for caption in own))
    places = {text: place for place, text in enumerate(texts)}
    vectors = subject.texts(texts)
    scores = np.array(
        [
            [float(image @ vectors[places[caption]]) for caption in own]
            for image, own in zip(images, captions, strict=True)
        ]
    )
    rivals = scores[:, 1:].max(1)
    right = scores[:, 0] > rivals + 1e-7
    return right, np.where(right, 0, 1 + scores[:, 1:].argmax(1))


def _pick(things: Sequence[tuple[str, Pixels]], rng: Generator, count: int) -> list[tuple[str, Pixels]]:
    return [things[int(place)] for place in rng.permutation(len(things))[:count]]


def _beside(things: Sequence[tuple[str, Pixels]], rng: Generator, *, vertical: bool) -> Trial:
    (a, first), (b, second), (c, _) = _pick(things, rng, 3)
    relation = "above" if vertical else "to the left of"
    return Trial(
        drawings.beside(first, second, vertical=vertical),
        (f"{a} {relation} {b}", f"{b} {relation} {a}"),
        (f"{a} {relation} {b}", f"{a} {relation} {c}"),
    )


def _binding(subject: Subject, rng: Generator) -> Trial:
    colours = [str(colour) for colour in rng.permutation(list(drawings.COLOURS))[:3]]
    shapes = [str(shape) for shape in rng.permutation(drawings.SHAPES)[:3]]
    side = subject.material.images[0].shape[0]
    first, second = (drawings.shape(shapes[place], colours[place], side) for place in (0, 1))

    def caption(one: int, two: int, shape_one: int = 0, shape_two: int = 1) -> str:
        return f"a {colours[one]} {shapes[shape_one]} and a {colours[two]} {shapes[shape_two]}"

    return Trial(
        drawings.beside(first, second),
        (caption(0, 1), caption(1, 0)),
        (caption(0, 1), caption(2, 2, 2, 2)),
    )


def _counting(things: Sequence[tuple[str, Pixels]], rng: Generator) -> Trial:
    (name, pixels), (other, _) = _pick(things, rng, 2)
    count = int(rng.integers(1, 5))
    captions = [f"{word} {name}{'s' if number > 1 else ''}" for number, word in enumerate(COUNT_WORDS, 1)]
    right = captions[count - 1]
    wrong = f"{COUNT_WORDS[count - 1]} {other}{'s' if count > 1 else ''}"
    rest = (caption for caption in captions if caption != right)
    return Trial(drawings.repeated(pixels, count), (right, *rest), (right, wrong))


def _negation(things: Sequence[tuple[str, Pixels]], rng: Generator) -> Trial:
    (name, pixels), (absent, _) = _pick(things, rng, 2)
    return Trial(pixels, (f"not a {absent}", f"a {absent}"), (f"a {name}", f"a {absent}"))


def _exclusion(things: Sequence[tuple[str, Pixels]], rng: Generator) -> Trial:
    (name, pixels), (absent, _) = _pick(things, rng, 2)
    captions = (f"{name} but no {absent}", f"{absent} but no {name}")
    return Trial(pixels, captions, (f"a {name}", f"a {absent}"))
