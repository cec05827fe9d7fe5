"""Templates by name: the published sentences, one by one, and what the pipeline makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.pipelines.classification.pipeline import ZeroShotClassificationPipeline
from multimodal.pipelines.classification.templates import TEMPLATE_SETS

PIXELS = np.full((2, 2, 3), (153, 204, 0), np.uint8)
LABELS = ["green", "red"]


@pytest.mark.parametrize(("name", "constant", "count"), [
    ("imagenet", "OPENAI_IMAGENET_TEMPLATES", 80),
    ("imagenet-simple", "SIMPLE_IMAGENET_TEMPLATES", 7),
])  # fmt: skip
def test_the_published_sentences_are_those_open_clip_has(name: str, constant: str, count: int) -> None:
    published = getattr(pytest.importorskip("open_clip"), constant)
    assert len(TEMPLATE_SETS[name]) == len(published) == count
    for ours, theirs in zip(TEMPLATE_SETS[name], published, strict=True):
        for label in ("tench", "great white shark", "{}"):
            assert ours.replace("{}", label) == theirs(label)


def test_every_sentence_of_a_set_differs_and_has_one_place_for_the_label() -> None:
    for sentences in TEMPLATE_SETS.values():
        assert len(set(sentences)) == len(sentences)
        assert all(sentence.count("{}") == 1 for sentence in sentences)


@pytest.mark.parametrize("name", TEMPLATE_SETS)
def test_a_name_stands_for_its_sentences(clip: Space, name: str) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    given = classify(PIXELS, labels=LABELS, templates=TEMPLATE_SETS[name])
    n = len(clip.encoders[Modality.TEXT].encoded)  # type: ignore[attr-defined]
    assert n == 3 * len(TEMPLATE_SETS[name])
    assert classify(PIXELS, labels=LABELS, templates=name) == given
    assert len(clip.encoders[Modality.TEXT].encoded) == n  # type: ignore[attr-defined]  # the same set: kept


def test_a_set_may_stand_among_sentences(clip: Space) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    mixed = classify(PIXELS, labels=LABELS, templates=["{}", "imagenet-simple"])
    assert mixed == classify(PIXELS, labels=LABELS, templates=("{}", *TEMPLATE_SETS["imagenet-simple"]))
