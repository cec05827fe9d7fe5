"""Scenes and their captions: one object or two, some recoloured, some small or large.

A scene consists of numbers only (concept, colour, size), so that text, images and speech can all be generated from it.
Held-out combinations are drawn here and excluded from all training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations

SEED = 7
COLOURS = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 215, 50), "green": (60, 170, 70),
    "blue": (50, 110, 220), "purple": (140, 70, 190), "pink": (245, 130, 180), "brown": (130, 85, 50),
    "black": (45, 45, 48), "white": (240, 240, 240), "grey": (140, 145, 150),
}  # fmt: skip
COLOUR_NAMES = tuple(COLOURS)
SIZES = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
SIZE_NAMES = tuple(SIZES)
NONE = -1
PLAIN_FORMS = (
    "{x}",
    "{a_x}",
    "a picture of {a_x}",
    "{x}",
    "an emoji of {a_x}",
    "this is {a_x}",
    "the {x}",
    "one {x}",
)
PAIR_FORMS = ("{x} and {y}", "{x} next to {y}", "{x} with {y}", "{x} and {y}", "a picture of {x} and {y}")


@dataclass(frozen=True)
class Subject:
    """One object; colour and size index COLOUR_NAMES and SIZE_NAMES, NONE if not stated."""

    concept: int
    colour: int = NONE
    size: int = NONE


Scene = tuple[Subject, ...]


def with_article(phrase: str) -> str:
    """'a dog', 'an apple'."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe(subject: Subject, names: list[str], rng: random.Random) -> str:
    """'small blue strawberry', without article."""
    words = []
    if subject.size != NONE:
        words.append(rng.choice(SIZES[SIZE_NAMES[subject.size]]))
    if subject.colour != NONE:
        words.append(COLOUR_NAMES[subject.colour])
    return " ".join([*words, names[subject.concept]])


def caption(scene: Scene, names: list[str], rng: random.Random) -> str:
    """A caption that says what is in the scene; wording varies with `rng`."""
    phrases = [describe(subject, names, rng) for subject in scene]
    if len(scene) == 1:
        return rng.choice(PLAIN_FORMS).format(x=phrases[0], a_x=with_article(phrases[0]))
    rng.shuffle(phrases)
    if rng.random() < 0.8:
        phrases = [with_article(phrase) for phrase in phrases]
    return rng.choice(PAIR_FORMS).format(x=phrases[0], y=phrases[1])


@dataclass(frozen=True)
class HeldOut:
    """Combinations excluded from training: 40 objects x 5 colours and 200 pairs of 40 objects."""

    coloured: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]


def held_out(count: int) -> HeldOut:
    """The held-out combinations for a world of `count` concepts. Every object occurs in several of
    them, so that the object or the colour alone does not identify the scene."""
    rng = random.Random(SEED)
    coloured = [(subject, colour) for subject in rng.sample(range(count), 40)
                for colour in rng.sample(range(len(COLOUR_NAMES)), 5)]  # fmt: skip
    pairs = rng.sample(sorted(combinations(sorted(rng.sample(range(count), 40)), 2)), 200)
    return HeldOut(tuple(coloured), tuple(pairs))


def allowed(scene: Scene, kept_out: HeldOut) -> bool:
    """Whether training may show this scene."""
    if any((subject.concept, subject.colour) in kept_out.coloured for subject in scene):
        return False
    return len(scene) == 1 or tuple(sorted(subject.concept for subject in scene)) not in kept_out.pairs


def random_scene(rng: random.Random, count: int, kept_out: HeldOut, *, plain: float = 0.0) -> Scene:
    """A training scene; a share `plain` of them is a single object as its artist drew it."""
    while True:
        if rng.random() < plain:
            return (Subject(rng.randrange(count)),)
        subjects = []
        for _ in range(1 if rng.random() < 0.55 else 2):
            colour = rng.randrange(len(COLOUR_NAMES)) if rng.random() < 0.6 else NONE
            size = rng.randrange(2) if rng.random() < 0.3 else NONE
            subjects.append(Subject(rng.randrange(count), colour, size))
        if len(subjects) == 2:  # two things share the picture: size says nothing there, colours are rarer
            subjects = [Subject(t.concept, t.colour if rng.random() < 0.4 else NONE) for t in subjects]
            if subjects[0].concept == subjects[1].concept:
                continue
        if allowed(tuple(subjects), kept_out):
            return tuple(subjects)
