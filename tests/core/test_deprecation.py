"""Names of 0.1 work and say what replaces them."""

from __future__ import annotations

from typing import Any

import pytest

import multimodal as mm
from multimodal.core.space import Space
from multimodal.testing import FakeEncoder, fake_space

OLD = [
    ("runs", "runtime_info"),
    ("commits", "revisions"),
    ("for_queries", "query_space"),
    ("heads", "logit_scales"),
]


@pytest.mark.parametrize(("old", "new"), OLD)
def test_an_old_property_warns_and_gives_the_new_one(old: str, new: str) -> None:
    space = fake_space()
    with pytest.warns(DeprecationWarning, match=rf"^Space\.{old} is deprecated; use Space\.{new}$") as caught:
        assert getattr(space, old) == getattr(space, new)
    assert caught[0].filename == __file__


def test_an_old_method_warns_and_calls_the_new_one() -> None:
    space = fake_space(("text", "image"))
    calls: dict[str, tuple[Any, ...]] = {"only": ("text",), "require": ("text",), "head_for": (), "check": ()}
    for name, arguments in calls.items():
        with pytest.warns(DeprecationWarning, match=rf"^Space\.{name} is deprecated; use Space\.\w+$"):
            assert getattr(space, name)(*arguments) is not None
    with pytest.warns(DeprecationWarning, match="Space.only"):
        assert space.only("text").modalities == ("text",)


def test_old_public_names_and_arguments_warn() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"^multimodal\.Head is deprecated; use multimodal\.LogitScale$"
    ):
        assert mm.Head is mm.LogitScale
    with pytest.warns(DeprecationWarning, match=r"^multimodal\.Check is deprecated"):
        assert mm.Check is mm.SelfTestReport
    with pytest.warns(
        DeprecationWarning, match=r"^Space\(head=…\) is deprecated; use Space\(logit_scale=…\)$"
    ):
        space = Space([FakeEncoder()], head=mm.LogitScale(3.0))
    assert space.logit_scale_for().scale == 3.0
    assert mm.errors.InvalidInput is not None


def test_the_new_names_do_not_warn() -> None:
    space = fake_space()
    assert space.select("text").encoder_for("text").query_encoder is space.encoders[mm.Modality.TEXT]
    assert len(space.self_test().checks) == 13


def test_an_encoder_written_for_the_names_of_0_1_still_works() -> None:
    with pytest.warns(DeprecationWarning) as caught:

        class Old(FakeEncoder):
            takes = 3.0
            trained_into = "someone/clip"

    assert [str(warning.message) for warning in caught] == [
        "Old.takes is deprecated; use Old.max_input",
        "Old.trained_into is deprecated; use Old.space_id",
    ]
    encoder = Old(mm.Modality.TEXT)
    assert (Old.max_input, encoder.space_id) == (3.0, "someone/clip")
    with pytest.warns(DeprecationWarning, match="use Encoder.space_id"):
        encoder.trained_into = "other"
    assert encoder.space_id == "other"


def test_the_activation_can_still_be_called_kind() -> None:
    space = fake_space(["text"])
    with pytest.warns(DeprecationWarning, match="activation="):
        old = space.probabilities("a", ["a", "b"], kind="sigmoid")
    assert (old == space.probabilities("a", ["a", "b"], activation="sigmoid")).all()
    with pytest.warns(DeprecationWarning, match=r"LogitScale\.activation"):
        assert mm.LogitScale(1.0).kind == "softmax"
