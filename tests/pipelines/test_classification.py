from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

import multimodal
from multimodal.core.classification.prompts import DEFAULT_TEMPLATES
from multimodal.core.classification.result import Classification, LabelScore
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.pipelines.classification.pipeline import CACHED_LABEL_SETS, ZeroShotClassificationPipeline

RED = np.zeros((2, 2, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
MIXED = np.zeros((2, 2, 3), np.uint8) + np.array(
    [153, 204, 0], np.uint8
)  # 0.6 red and 0.8 green: a unit vector
COLOURS = ["blue", "green", "red"]


def softmax(*logits: float) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def as_dict(result: Classification) -> dict[str, float]:
    return {hit.label: hit.score for hit in result}


# --- scores ---------------------------------------------------------------------------------------


def test_one_label_of_several_is_a_softmax_with_the_scale_of_the_space(clip: Space) -> None:
    result = ZeroShotClassificationPipeline(clip)(MIXED, labels=COLOURS, templates="{}")
    blue, green, red = softmax(5 * 0.0, 5 * 0.8, 5 * 0.6)
    assert as_dict(result) == pytest.approx({"green": green, "red": red, "blue": blue}, abs=1e-6)
    assert [item.label for item in result] == ["green", "red", "blue"]
    assert (result.label, result.score) == ("green", result[0].score)


def test_a_space_trained_with_a_sigmoid_gives_a_softmax_too_when_one_label_is_requested(
    siglip: Space,
) -> None:
    result = ZeroShotClassificationPipeline(siglip)(MIXED, labels=COLOURS, templates="{}")
    blue, green, red = softmax(0.0, 8 * 0.8, 8 * 0.6)
    assert as_dict(result) == pytest.approx({"green": green, "red": red, "blue": blue}, abs=1e-6)


def test_multi_label_is_the_sigmoid_the_space_was_trained_with(siglip: Space) -> None:
    result = ZeroShotClassificationPipeline(siglip)(MIXED, labels=COLOURS, templates="{}", multi_label=True)
    expected = {"green": sigmoid(8 * 0.8 - 4), "red": sigmoid(8 * 0.6 - 4), "blue": sigmoid(-4)}
    assert as_dict(result) == pytest.approx(expected, abs=1e-6)


def test_multi_label_on_a_softmax_space_puts_each_label_next_to_something(clip: Space) -> None:
    result = ZeroShotClassificationPipeline(clip)(MIXED, labels=COLOURS, templates="{}", multi_label=True)
    neutral = (0.6 + 0.8) / math.sqrt(3)
    expected = {label: softmax(5 * cosine, 5 * neutral)[0] for label, cosine in
                [("green", 0.8), ("red", 0.6), ("blue", 0.0)]}  # fmt: skip
    assert as_dict(result) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_in_multi_label_a_label_does_not_depend_on_the_others(
    name: str, request: pytest.FixtureRequest
) -> None:
    classify = ZeroShotClassificationPipeline(request.getfixturevalue(name))
    together = as_dict(classify(MIXED, labels=COLOURS, multi_label=True))
    alone = {label: classify(MIXED, labels=[label], multi_label=True).score for label in COLOURS}
    assert together == pytest.approx(alone, abs=1e-6)
    assert classify(MIXED, labels=["red"]).score == 1.0  # and otherwise it depends on nothing else


def test_the_head_is_that_of_the_input_and_text(siglip: Space) -> None:
    result = ZeroShotClassificationPipeline(siglip)(
        "red", labels=["red", "blue"], templates="{}", multi_label=True
    )
    assert as_dict(result) == pytest.approx({"red": sigmoid(2 - 1), "blue": sigmoid(-1)}, abs=1e-6)


def test_templates_are_averaged_as_unit_vectors_and_scaled_back(clip: Space) -> None:
    """ "a tall {}" adds half a red: the prompt for green is (0.5, 1, 0), at full length 1.118, and weighs no more."""
    result = ZeroShotClassificationPipeline(clip)(
        RED, labels=["green", "blue"], templates=["{}", "a tall {}"]
    )
    slanted = np.array([0.5, 1.0]) / math.sqrt(1.25)
    mean = (np.array([0.0, 1.0]) + slanted) / 2
    cosine = float(mean[0] / np.linalg.norm(mean))
    assert as_dict(result) == pytest.approx({"green": 0.5, "blue": 0.5}, abs=1e-6)  # the same slant for both
    green_only = ZeroShotClassificationPipeline(clip)(
        RED, labels=["green", "red"], templates=["{}", "a tall {}"]
    )
    assert as_dict(green_only) == pytest.approx(
        dict(zip(["red", "green"], softmax(5.0, 5 * cosine), strict=True)), abs=1e-6
    )


def test_every_kind_of_input_has_templates_that_hold_the_label() -> None:
    assert set(DEFAULT_TEMPLATES) == set(Modality)
    for templates in DEFAULT_TEMPLATES.values():
        assert templates[0] == "{}" and all("{}" in template for template in templates)


def test_without_templates_those_of_the_modality_are_used(clip: Space) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    for value, modality in ((RED, Modality.IMAGE), ("red", Modality.TEXT)):
        given = classify(value, labels=COLOURS, templates=DEFAULT_TEMPLATES[modality])
        assert classify(value, labels=COLOURS) == given


def test_braces_in_a_label_are_only_braces(clip: Space) -> None:
    ZeroShotClassificationPipeline(clip)(RED, labels=["{0}", "{x} {}"], templates="the {} {}")
    prompts = clip.encoders[Modality.TEXT].encoded  # type: ignore[attr-defined]
    assert prompts[:2] == ["the {0} {0}", "the {x} {} {x} {}"]


# --- one and many ---------------------------------------------------------------------------------


def test_a_list_gives_a_list_each_as_alone(clip: Space) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    many: list[Any] = [RED, "blue green", MIXED]
    together = classify(many, labels=COLOURS)
    assert together == [classify(item, labels=COLOURS) for item in many]
    assert classify(tuple(many), labels=tuple(COLOURS)) == together
    assert [item.label for item in together] == ["red", "blue", "green"]
    assert classify([RED], labels=COLOURS) == [together[0]]


def test_equal_labels_stay_in_the_order_given(clip: Space) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    assert [item.label for item in classify(RED, labels=["green", "blue"], templates="{}")] == [
        "green",
        "blue",
    ]
    assert [item.label for item in classify(RED, labels=["blue", "green"], templates="{}")] == [
        "blue",
        "green",
    ]


def test_top_k_keeps_the_likeliest_with_the_scores_they_had(clip: Space) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    every = classify(MIXED, labels=COLOURS)
    assert classify(MIXED, labels=COLOURS, top_k=2) == Classification(every.scores[:2])
    assert classify(MIXED, labels=COLOURS, top_k=99) == every


# --- the cache ------------------------------------------------------------------------------------


def test_the_prompts_of_a_label_set_are_encoded_once(clip: Space) -> None:
    classify, text = ZeroShotClassificationPipeline(clip), clip.encoders[Modality.TEXT]
    first = classify(RED, labels=COLOURS, templates="{}")
    n = len(text.encoded)  # type: ignore[attr-defined]
    assert n == 4  # three labels and the neutral one
    assert classify(RED, labels=tuple(COLOURS), templates=["{}"]) == first
    classify([MIXED, RED], labels=iter(COLOURS), templates=("{}",), multi_label=True)
    assert len(text.encoded) == n  # type: ignore[attr-defined]
    classify(RED, labels=COLOURS, templates="the {}")
    classify(RED, labels=COLOURS[::-1], templates="{}")
    assert len(text.encoded) == 3 * n  # type: ignore[attr-defined]


def test_the_cache_is_bounded(clip: Space) -> None:
    classify, text = ZeroShotClassificationPipeline(clip), clip.encoders[Modality.TEXT]
    for n in range(CACHED_LABEL_SETS + 1):
        classify(RED, labels=[f"label {n}"], templates="{}")
    n = len(text.encoded)  # type: ignore[attr-defined]
    classify(RED, labels=["label 1"], templates="{}")
    assert len(text.encoded) == n  # type: ignore[attr-defined]
    classify(RED, labels=["label 0"], templates="{}")  # the oldest had to go
    assert len(text.encoded) == n + 2  # type: ignore[attr-defined]


# --- results --------------------------------------------------------------------------------------


def test_the_result_is_a_frozen_sequence_that_becomes_json() -> None:
    result = Classification((LabelScore("a", 0.75), LabelScore("b", 0.25)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.scores = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result[0].score = 1.0  # type: ignore[misc]
    assert (
        len(result) == 2
        and list(result) == list(result.scores)
        and result[1].label == "b"
        and result[:1] == (result[0],)
    )
    assert json.loads(json.dumps(result.to_dict())) == {
        "scores": [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]
    }
    assert hash(result) == hash(Classification((LabelScore("a", 0.75), LabelScore("b", 0.25))))


def test_it_shows_itself_escaped() -> None:
    page = Classification((LabelScore("<b>", 0.75),))._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;" in page and "0.750" in page


def test_it_is_found_by_its_task(clip: Space) -> None:
    made = multimodal.pipeline("zero-shot-classification", model=clip)
    assert type(made) is multimodal.ZeroShotClassificationPipeline is ZeroShotClassificationPipeline


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    ({"labels": []}, "the list of labels is empty; give at least one"),
    ({"labels": "cat,dog"}, "labels must be a list of names such as ['cat', 'dog'], got 'cat,dog'"),
    ({"labels": 3}, "labels must be a list of names such as ['cat', 'dog'], got 3"),
    ({"labels": ["cat", " "]}, "a label must be a word or more, got ' '"),
    ({"labels": ["cat", 3]}, "a label must be a word or more, got 3"),
    ({"labels": ["cat", "dog", "cat"]}, "the label 'cat' is given twice; each must differ from the others"),
    ({"templates": []}, "the list of templates is empty; leave it out, or give at least '{}'"),
    ({"templates": "a photo"}, "the template 'a photo' has no '{}' where the label goes, and is no set by name "
                               "(imagenet, imagenet-simple); write it as 'a photo of a {}'"),
    ({"templates": ["{}", "a {0}"]}, "the template 'a {0}' has no '{}' where the label goes, and is no set by name "
                                     "(imagenet, imagenet-simple); write it as 'a photo of a {}'"),
    ({"templates": [None]}, "the template None has no '{}' where the label goes, and is no set by name "
                            "(imagenet, imagenet-simple); write it as 'a photo of a {}'"),
    ({"templates": "ImageNet1k"}, "the template 'ImageNet1k' has no '{}' where the label goes, and is no set by name "
                                  "(imagenet, imagenet-simple); did you mean 'imagenet' or 'imagenet-simple'? "
                                  "write it as 'a photo of a {}'"),
    ({"templates": "imagenet_simple"}, "the template 'imagenet_simple' has no '{}' where the label goes, and is no set "
                                       "by name (imagenet, imagenet-simple); did you mean 'imagenet-simple' or "
                                       "'imagenet'? write it as 'a photo of a {}'"),
    ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
    ({"top_k": True}, "top_k must be a whole number of at least 1, got True"),
    ({"top_k": 1.5}, "top_k must be a whole number of at least 1, got 1.5"),
])  # fmt: skip
def test_a_wrong_option_is_refused_before_anything_is_encoded(
    clip: Space, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        ZeroShotClassificationPipeline(clip)(RED, **{"labels": ["cat", "dog"]} | options)
    assert str(caught.value) == message
    assert clip.encoders[Modality.IMAGE].encoded == []  # type: ignore[attr-defined]


def test_an_empty_list_of_inputs_is_refused(clip: Space) -> None:
    with pytest.raises(InvalidInput, match=r"^the list of inputs is empty; give at least one$"):
        ZeroShotClassificationPipeline(clip)([], labels=["a"])


def test_a_modality_without_encoder_is_refused(clip: Space) -> None:
    sound = {"array": np.ones(8), "sampling_rate": 8000}
    with pytest.raises(UnsupportedModality, match=r"^audio given to a space with text, image"):
        ZeroShotClassificationPipeline(clip)(sound, labels=["a"])


def test_a_space_without_words_is_refused_at_once(clip: Space) -> None:
    images = Space([clip.encoders[Modality.IMAGE]], name="pictures")
    with pytest.raises(
        UnsupportedModality, match=r"^text given to a space with image: 'pictures' cannot encode it"
    ):
        ZeroShotClassificationPipeline(images)


def test_a_space_without_head_is_refused(clip: Space) -> None:
    with pytest.raises(InvalidInput, match="has no logit scale, so only cosines are known"):
        ZeroShotClassificationPipeline(Space(clip.encoders))(RED, labels=["a"])


def test_progress_true_shows_a_bar_on_standard_error(clip: Space, capsys: pytest.CaptureFixture[str]) -> None:
    classify = ZeroShotClassificationPipeline(clip)
    counts: list[int] = []
    expected = classify(["a", "b"], labels=["x", "y"], progress=counts.append)
    assert classify(["a", "b"], labels=["x", "y"], progress=True) == expected
    assert sum(counts) == 2
    captured = capsys.readouterr()
    assert "classifying" in captured.err and "100%" in captured.err
    assert captured.out == ""
