from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import multimodal
from multimodal.core import pipeline as core
from multimodal.core.errors import InvalidInput, UnknownTask
from multimodal.core.pipeline import Pipeline, as_space, one_or_many
from multimodal.core.space import Space
from multimodal.pipelines import ALIASES, TASKS

ROOT = Path(__file__).resolve().parents[2]


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


def test_one_or_many_knows_a_single_item() -> None:
    assert one_or_many("abc") == (["abc"], True)
    assert one_or_many(("a",)) == (["a"], False)


# --- the table of tasks ---------------------------------------------------------------------------

PIPELINES = ROOT / "pipelines"


def test_every_pipeline_class_is_in_the_table_of_tasks() -> None:
    classes = set()
    for file in sorted(PIPELINES.rglob("*.py")):
        parts = file.relative_to(PIPELINES).with_suffix("").parts
        module = ".".join(("multimodal.pipelines", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and "Pipeline" in {ast.unparse(base) for base in node.bases}:
                classes.add(f"{module}:{node.name}")
    assert len(classes) >= 6
    assert classes == set(TASKS.values())


@pytest.mark.parametrize("task", TASKS)
def test_each_entry_of_the_table_is_a_pipeline_of_that_task(task: str) -> None:
    assert core._pipeline_class(task).task == task
    assert set(ALIASES.values()) <= set(TASKS) and not set(ALIASES) & set(TASKS)


def test_an_alias_of_the_hub_opens_the_pipeline_of_the_task(space: Space) -> None:
    made = multimodal.pipeline("zero-shot-image-classification", model=space)
    assert type(made) is multimodal.ZeroShotClassificationPipeline


def test_asking_for_one_task_imports_the_module_of_no_other() -> None:
    code = (
        "import sys\nfrom multimodal.core.pipeline import _pipeline_class\n"
        "_pipeline_class('zero-shot-classification')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not {"torch", "diffusers", "transformers"} & loaded
    tasks = {name.split(".")[2] for name in loaded if name.startswith("multimodal.pipelines.")}
    assert tasks == {"classification"}


def test_a_broken_dependency_of_one_task_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, space: Space
) -> None:
    monkeypatch.setitem(sys.modules, "multimodal.pipelines.generation.pipeline", None)
    assert multimodal.pipeline("zero-shot-classification", model=space).space is space
    with pytest.raises(ImportError):
        multimodal.pipeline("generation", model=space)


def test_feature_extraction_gives_the_vectors_of_the_space(space: Space) -> None:
    extract = multimodal.pipeline("feature-extraction", model=space)
    assert extract("a").tobytes() == space.encode("a").tobytes()
    assert extract(["a", "b"]).shape == (2, space.dim)
