"""Families and pipelines of users: registered or installed, loaded by name, saved and opened again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import multimodal as mm
from multimodal.core import catalog, families, pipeline
from multimodal.core.errors import CorruptSpace, InvalidInput, UnknownModel, UnknownTask
from tests import plugins
from tests.core.families import toy as toy_module
from tests.core.tasks import counting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    yield
    families._registered.clear()
    pipeline._registered.clear()


def python(code: str, *path: Path) -> str:
    """What a new process prints, with the checkout and more folders on its path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def installed(folder: Path) -> Path:
    """A distribution on the path that provides the family `toy` and the task `counting` by entry points."""
    info = folder / "toy_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[multimodal.encoders]\ntoy = {plugins.TOY}\n\n"
        f"[multimodal.pipelines]\ncounting = {counting.__name__}:CountingPipeline\n"
    )
    return folder


# --- families -------------------------------------------------------------------------------------


def test_a_registered_family_loads_by_name_and_lists_its_cards() -> None:
    mm.register_family("my-toy", toy_module)
    assert mm.load("my-toy").encode("a cat").shape == (16,)
    assert "my-toy" in catalog.families() and toy_module.CARDS[0] in mm.cards()
    families.unregister_family("my-toy")
    with pytest.raises(UnknownModel, match=r"^no model is called 'my-toy'; "):
        mm.load("my-toy")


@pytest.mark.parametrize("module", [toy_module, plugins.TOY])
def test_a_space_of_a_registered_family_is_saved_and_opened(module: ModuleType | str, tmp_path: Path) -> None:
    mm.register_family("my-toy", module)
    space = mm.load("my-toy")
    space.save_pretrained(tmp_path / "s")
    again = mm.load(tmp_path / "s", device="cpu")
    np.testing.assert_array_equal(again.encode("a cat"), space.encode("a cat"))
    families.unregister_family("my-toy")
    with pytest.raises(CorruptSpace, match=r"needs the encoder family 'my_toy', which is not installed"):
        mm.load(tmp_path / "s")


def test_an_installed_family_and_task_are_found_in_every_process(tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    saved = str(tmp_path / "s")
    code = (
        f"import multimodal as mm; mm.load('toy').save_pretrained({saved!r}); "
        "print(mm.pipeline('counting', model='toy')('a'), 'toy' in [card.name for card in mm.cards()])"
    )
    assert python(code, site) == "16 True"
    code = f"import multimodal as mm; print(mm.load({saved!r}).modalities)"
    assert "text" in python(code, site)


def test_a_name_that_is_taken_or_invalid_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^the family name 'starter' is taken by multimodal itself"):
        mm.register_family("starter", toy_module)
    mm.register_family("my-toy", toy_module)
    mm.register_family("my-toy", toy_module)
    with pytest.raises(
        InvalidInput, match=r"'my-toy' is taken by 'tests\.core\.families\.toy'; choose another"
    ):
        mm.register_family("my-toy", "somewhere.else")
    for name in ("", "My", "a_b", "a/b", "1a", "-a"):
        with pytest.raises(InvalidInput, match=r"^a family name is lowercase letters"):
            mm.register_family(name, toy_module)
    with pytest.raises(InvalidInput, match=r"^a family is a module or its dotted path, got int"):
        mm.register_family("other", 3)  # type: ignore[arg-type]


def test_a_module_that_is_no_family_says_what_it_lacks() -> None:
    module = ModuleType("half")
    module.load = toy_module.load  # type: ignore[attr-defined]
    with pytest.raises(
        InvalidInput, match=r"^the module 'half' cannot be the family 'half': it lacks CARDS, from_config; "
    ):
        mm.register_family("half", module)
    mm.register_family("late", "json")
    with pytest.raises(InvalidInput, match=r"^the module 'json' cannot be the family 'late'"):
        mm.load("late")
    mm.register_family("gone", "no_such_package.encoder")
    with pytest.raises(
        InvalidInput, match=r"registered as 'no_such_package\.encoder', and there is no module"
    ):
        mm.load("gone")


# --- pipelines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [counting.CountingPipeline, "tests.core.tasks.counting:CountingPipeline"])
def test_a_registered_pipeline_is_found_by_its_task(target: type[mm.Pipeline] | str) -> None:
    mm.register_pipeline("my-counting", target)
    mm.register_pipeline("my-counting", target)
    assert type(mm.pipeline("my-counting")) is counting.CountingPipeline


def test_a_task_that_is_taken_or_a_class_that_is_no_pipeline_is_refused() -> None:
    for task in ("captioning", "text-to-image"):
        with pytest.raises(InvalidInput, match=rf"^the task '{task}' is taken by multimodal itself"):
            mm.register_pipeline(task, counting.CountingPipeline)
    with pytest.raises(InvalidInput, match=r"^a task is lowercase letters"):
        mm.register_pipeline("Counting", counting.CountingPipeline)
    with pytest.raises(InvalidInput, match=r"^a pipeline by its path is 'module:Class', got 'json'"):
        mm.register_pipeline("counting", "json")
    with pytest.raises(InvalidInput, match=r"^register_pipeline takes a subclass of multimodal\.Pipeline or"):
        mm.register_pipeline("counting", dict)  # type: ignore[arg-type]
    mm.register_pipeline("counting", "json:JSONDecoder")
    with pytest.raises(
        InvalidInput, match=r"'json:JSONDecoder', which is no subclass of multimodal\.Pipeline"
    ):
        mm.pipeline("counting")
    with pytest.raises(InvalidInput, match=r"'counting' is taken by 'json:JSONDecoder'; choose another"):
        mm.register_pipeline("counting", counting.CountingPipeline)


def test_an_alias_of_the_hub_is_close_enough_to_be_offered() -> None:
    with pytest.raises(UnknownTask, match=r"did you mean 'automatic-speech-recognition'\? known tasks: "):
        mm.pipeline("automatic-speech-recogniton")
