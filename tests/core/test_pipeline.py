from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import multimodal
from multimodal.core.errors import InvalidInput, UnknownTask
from multimodal.core.pipeline import Pipeline, as_space, one_or_many
from multimodal.core.space import Space


def test_a_pipeline_is_found_by_its_task_alone(counting: ModuleType, toy: ModuleType) -> None:
    made = multimodal.pipeline("counting", model="toy", start=100)
    assert type(made) is counting.CountingPipeline
    assert made("a cat", step=2) == 100 + 2 * 16


def test_one_in_gives_one_out_and_a_list_gives_a_list(counting: ModuleType, space: Space) -> None:
    made = multimodal.pipeline("counting", model=space)
    assert made("a") == 16
    assert made(["a"]) == [16] and made(("a", "b")) == [16, 16]
    with pytest.raises(InvalidInput, match=r"^the list of inputs is empty; give at least one$"):
        made([])


def test_from_pretrained_takes_a_name_a_folder_or_a_space(
    counting: ModuleType, space: Space, tmp_path: Path
) -> None:
    space.save_pretrained(tmp_path / "s")
    for model in ("toy", tmp_path / "s", space):
        assert counting.CountingPipeline.from_pretrained(model).space.fingerprint == space.fingerprint
    assert as_space(space) is space


def test_an_unknown_task_offers_close_matches(counting: ModuleType) -> None:
    with pytest.raises(
        UnknownTask, match=r"^no pipeline for the task 'countin'; did you mean 'counting'\? known tasks: .*"
    ):
        multimodal.pipeline("countin")


def test_a_class_without_a_task_is_not_offered(counting: ModuleType) -> None:
    with pytest.raises(UnknownTask) as caught:
        multimodal.pipeline("zzzz")
    assert "Abstract" not in str(caught.value) and "counting" in str(caught.value)


def test_a_pipeline_must_be_callable() -> None:
    class Silent(Pipeline):
        task = "silent"

    with pytest.raises(TypeError, match="abstract"):
        Silent()  # type: ignore[abstract]


def test_one_or_many_knows_a_single_thing() -> None:
    assert one_or_many("abc") == (["abc"], True)
    assert one_or_many(("a",)) == (["a"], False)
