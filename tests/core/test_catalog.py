from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from multimodal.core import paths
from multimodal.core.catalog import ACCEPTED, cards, close_matches, families, load
from multimodal.core.errors import InvalidInput, MultimodalError, UnknownModel
from multimodal.core.paths import assets
from multimodal.core.space import Space

ROOT = Path(__file__).parents[2]


def test_the_first_word_of_a_name_is_a_module_and_the_rest_is_its_business(toy: ModuleType) -> None:
    assert load("toy").name == "toy"
    assert load("toy/large:v2/x").name == "toy/large:v2/x"
    assert load("toy", device="cpu").modalities == ("text", "image", "audio")


def test_each_load_is_a_new_space(toy: ModuleType) -> None:
    assert load("toy") is not load("toy")


def test_a_folder_is_a_path_or_a_str_that_looks_like_one(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for name in (
        tmp_path / "mine",
        str(tmp_path / "mine"),
        "./mine",
        "../" + tmp_path.name + "/mine",
        Path("mine"),
    ):
        assert load(name).fingerprint == space.fingerprint


def test_a_folder_named_without_a_dot_gets_the_cure(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownModel, match=r"^no model is called 'mine'; a folder of that name exists: write './mine'\. "
    ):
        load("mine")


def test_an_unknown_name_offers_close_matches_and_what_is_accepted(toy: ModuleType) -> None:
    with pytest.raises(
        UnknownModel, match=r"^no model is called 'Toyy'; did you mean 'toy'\? " + re.escape(ACCEPTED)
    ):
        load("Toyy")
    with pytest.raises(
        UnknownModel, match=r"^no model is called 'qqqqqq/z'; load takes 'starter', .*; families: .*toy"
    ):
        load("qqqqqq/z")
    for odd in ("", "..toy", "toy.sub", "os"):
        with pytest.raises(UnknownModel):
            load(odd)
    with pytest.raises(InvalidInput, match=r"^load takes a name or a path, got int; load takes 'starter'"):
        load(3)  # type: ignore[arg-type]


def test_a_missing_folder_says_so() -> None:
    with pytest.raises(
        UnknownModel, match=r"^no space is saved in '\./nowhere': it has no config.json; Space.save_pretr"
    ):
        load("./nowhere")


def test_close_matches_ignore_case_and_stay_silent_when_nothing_is_close() -> None:
    assert close_matches("STARTR", ["starter", "openclip"]) == "did you mean 'starter'? "
    assert close_matches("zzz", ["starter"]) == ""


def test_families_are_the_public_modules_of_the_room(toy: ModuleType) -> None:
    assert "toy" in families()
    assert not [name for name in families() if name.startswith("_")]


def test_every_card_is_listed(toy: ModuleType) -> None:
    assert toy.CARDS[0] in cards()


def test_assets_are_the_folder_that_ships() -> None:
    assert assets() == (ROOT / "assets").resolve()


def test_missing_assets_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "multimodal" / "core" / "paths.py"))
    with pytest.raises(
        MultimodalError, match=r"^the folder 'assets' is missing from .*; reinstall multimodal$"
    ):
        assets()


@pytest.mark.parametrize("room", ["encoders", "pipelines"])
def test_a_room_refuses_to_be_imported_under_a_bare_name(room: str) -> None:
    spec = importlib.util.spec_from_file_location(room, ROOT / room / "__init__.py")
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=rf"imported as '{room}', .* write 'import multimodal.{room}'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_importing_multimodal_and_making_items_loads_nothing_heavy() -> None:
    code = (
        "import sys, multimodal; dir(multimodal); light = set(sys.modules)\n"
        "multimodal.Text('a'); multimodal.load, multimodal.Space, multimodal.pipeline\n"
        "print(sorted({'numpy', 'PIL', 'torch'} & light), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] False"


@pytest.mark.parametrize(
    ("file", "family"), [("config.json", "hf"), ("modules.json", "st"), ("open_clip_config.json", "openclip")]
)
def test_the_folder_of_a_checkpoint_is_named_with_its_family(
    file: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / file).write_text('{"model_type": "clip"}')
    with pytest.raises(
        UnknownModel, match=f"is a checkpoint, not a saved space: write '{family}/./folder' to load"
    ):
        load("./folder")
