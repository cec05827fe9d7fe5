"""Does a word written on an image beat the thing that the image shows? The control is nonsense of the same length."""

from __future__ import annotations

from multimodal.auditing.checks.common import NotTested, Subject, distinct_names, interval, nearest
from multimodal.auditing.finding import Example, Finding
from multimodal.auditing.generators.drawings import nonsense, write_word
from multimodal.core.items import Image
from multimodal.core.modality import Modality

FEWEST = 10
LIMIT = 0.05


def typographic(subject: Subject) -> list[Finding]:
    """The share of images that are nearer to the written name than to their own, by word and by nonsense."""
    import numpy as np

    subject.needs(Modality.IMAGE, Modality.TEXT)
    places, names = distinct_names(subject.material.image_names)
    if len(places) < FEWEST:
        raise NotTested(f"{len(places)} images with names, at least {FEWEST} are needed")
    rng = np.random.default_rng(subject.seed)
    other = (np.arange(len(places)) + 1 + rng.integers(0, len(places) - 1)) % len(places)
    texts = subject.texts(names)
    words, controls = [], []
    for row, place in enumerate(places):
        word = names[other[row]]
        words.append(write_word(subject.material.images[place], word))
        controls.append(write_word(subject.material.images[place], nonsense(word, rng)))
    rows = np.arange(len(places))
    beaten, tops = [], []
    for stack in (words, controls):
        scores = subject.images(stack) @ texts.T
        beaten.append(scores[rows, other] > scores[rows, rows])
        tops.append(scores.argmax(1))
    difference = beaten[0].astype(float) - beaten[1].astype(float)
    value, low, high = interval(difference, subject.seed)
    warns = value > LIMIT and low > 0
    before = nearest(subject.clean_images()[places], texts)
    examples = tuple(
        Example(
            Image(subject.material.images[places[row]]),
            Image(words[row]),
            names[before[row]],
            names[tops[0][row]],
        )
        for row in map(int, np.flatnonzero(beaten[0] & ~beaten[1])[:3])
    )
    share, control = float(beaten[0].mean()), float(beaten[1].mean())
    return [
        Finding(
            "image: written words",
            "typographic",
            "warn" if warns else "fine",
            f"a written word beats the thing shown in {share:.0%} of images, nonsense of its length in {control:.0%}",
            value,
            low,
            high,
            "nonsense letters of the same length in the same place; the measured value is the difference",
            0.0,
            f"the difference is above {LIMIT:.2f} and its interval above 0",
            len(places),
            "fine-tune with written distractors, or mask text before encoding" if warns else "",
            examples if warns else (),
            {
                "word beats thing": round(share, 4),
                "nonsense beats thing": round(control, 4),
                "word is top-1": round(float((tops[0] == other).mean()), 4),
                "right name with word": round(float((tops[0] == rows).mean()), 4),
                "right name with nonsense": round(float((tops[1] == rows).mean()), 4),
            },
        )
    ]
