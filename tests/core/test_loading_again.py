"""A space remembers how it was loaded, so that an index finds it again: from elsewhere, with its options, as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.errors import IndexStateError
from tests.cli.conftest import Cli, cli
from tests.core.hub.loopback_hub import LoopbackHub, server
from tests.core.hub.test_hub_families import TEXTS, Published, model, openclip_vit, transformers_clip
from tests.encoders.hf.hf_cases import case
from tests.encoders.languagebind.test_languagebind import TINY
from tests.encoders.openclip.openclip_checkpoints import Expected, published
from tests.encoders.st.st_models import Models

__all__ = ["cli", "model", "openclip_vit", "published", "server", "transformers_clip"]  # fixtures


@pytest.fixture
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models.of_this_run(tmp_path_factory)


def opened_elsewhere(index: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> mm.Index:
    away.mkdir(exist_ok=True)
    monkeypatch.chdir(away)
    return mm.Index.open(index)


@pytest.mark.parametrize("family", ["hf", "st", "languagebind", "openclip", "openclip weights"])
def test_a_folder_named_from_here_is_found_from_elsewhere(
    family: str,
    models: Models,
    published: Callable[[str], Expected],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = {
        "hf": lambda: case("clip").folder,
        "st": lambda: models("mean"),
        "languagebind": lambda: TINY,
    }.get(family, lambda: published("ViT-B-32").folder)()
    monkeypatch.chdir(folder.parent)
    name, options = f"{family}/./{folder.name}", {}
    if (
        family == "openclip weights"
    ):  # of an architecture whose size it has: its shapes are not those of the real one
        monkeypatch.setattr("open_clip.factory._MODEL_CONFIGS", {"ViT-B-32": _architecture(folder)})
        name, options = (
            f"openclip/ViT-B-32:./{folder.name}/open_clip_model.safetensors",
            {"like": "laion2b_s34b_b79k"},
        )
    space = mm.load(name, device="cpu", **options)
    assert str(folder) in str(space.address) and "./" not in str(space.address)
    mm.Index.create(tmp_path / "i.lance", space)
    again = opened_elsewhere(tmp_path / "i.lance", tmp_path / "away", monkeypatch)
    assert again.space.fingerprint == space.fingerprint
    assert again.space.address == space.address


def _architecture(folder: Path) -> object:
    import json

    return json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]


def test_a_folder_in_ones_home_is_found_by_another_user(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(models("mean").parent))
    assert mm.load("st/~/mean", device="cpu").address == f"st/{models('mean')}"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mean", {"truncate_dim": 8}),
        ("prompted", {"prompt": "document"}),
        ("mean", {"prompts": {"query": "ask: ", "document": "tell: "}, "prompt": "document"}),
        ("dotted", {"similarity": "cosine", "space_id": "somewhere"}),
    ],
)
def test_an_index_is_opened_with_the_options_its_space_was_loaded_with(
    models: Models, tmp_path: Path, cli: Cli, name: str, options: dict[str, object]
) -> None:
    address = f"st/{models(name)}"
    space = mm.load(address, device="cpu", precision="float32", decode="exact", **options)
    assert space.options == options
    made = mm.Index.create(tmp_path / "i.lance", space)
    made.add(["a cat", "rain on a roof"])
    again = mm.Index.open(tmp_path / "i.lance")
    assert again.space.dim == space.dim
    expected = [(hit.text, hit.score) for hit in made.search("a cat", k=2)]
    assert [(hit.text, hit.score) for hit in again.search("a cat", k=2)] == expected
    output = cli(
        "search", tmp_path / "i.lance", "a cat", "--device", "cpu", "--decode", "fast", "--json"
    ).json()
    assert output["hits"][0]["text"] == expected[0][0]
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        mm.Index.open(tmp_path / "i.lance", mm.load(f"st/{models('passages')}", device="cpu"))


def test_how_a_model_runs_is_not_kept_and_code_is_not_trusted_again(models: Models) -> None:
    kept = mm.load(
        f"hf/{case('clip').folder}", device="cpu", precision="bfloat16", trust_remote_code=True
    ).options
    assert kept == {}


def test_an_index_of_before_there_were_options_is_read(tmp_path: Path) -> None:
    from multimodal.index.storage.schema import read_index_metadata

    old = b'{"space": "starter", "address": "starter", "fingerprint": "f", "dim": 2, "format": 1, "modalities": []}'
    assert read_index_metadata(tmp_path, {b"multimodal.index": old}).options == {}


def test_the_commit_that_was_taken_is_known_shown_and_saved(
    model: tuple[str, Published], server: LoopbackHub, cli: Cli, tmp_path: Path
) -> None:
    name, _ = model
    commit = server.branches["org/tiny-clip"]["main"]
    space = mm.load(name, device="cpu")
    assert space.revisions == {"org/tiny-clip": commit}
    assert space.select("text").revisions == space.revisions
    space.save_pretrained(tmp_path / "saved")
    assert mm.load(tmp_path / "saved", device="cpu").revisions == space.revisions
    for offline in ([], ["--offline"]):
        assert cli("info", name, *offline, "--json").json()["revisions"] == space.revisions
    assert cli("doctor", name, "--json").json()["revisions"] == space.revisions
    assert f"from org/tiny-clip at commit {commit}" in cli("doctor", name).stdout
    assert mm.load("starter", device="cpu").revisions == {}


def test_an_index_finds_its_weights_when_the_hub_has_others_by_now(
    model: tuple[str, Published], server: LoopbackHub, tmp_path: Path
) -> None:
    name, published = model
    before = server.branches["org/tiny-clip"]["main"]
    made = mm.Index.create(tmp_path / "i.lance", mm.load(name, device="cpu"))
    made.add(TEXTS)
    weights = published.files[published.weights]
    server.add("org/tiny-clip", published.files | {published.weights: weights[:-400] + bytes(400)})
    moved = mm.load(name, device="cpu")
    assert moved.revisions["org/tiny-clip"] != before
    assert moved.fingerprint != made.fingerprint
    again = mm.Index.open(tmp_path / "i.lance")
    assert again.space.revisions == {"org/tiny-clip": before}
    assert again.search(TEXTS[0], k=1)[0].text == TEXTS[0]


def test_what_is_joined_tells_of_all_it_came_from(openclip_vit: Published, server: LoopbackHub) -> None:
    for repo in ("org/one", "org/other"):
        server.add(repo, openclip_vit.files)
    first, second = (
        mm.load(f"openclip/hf-hub:org/{name}", device="cpu", space_id="it") for name in ("one", "other")
    )
    assert (first | second).revisions == first.revisions | second.revisions
    assert set((first | second).revisions) == {"org/one", "org/other"}
    assert np.array_equal((first | second).encode(TEXTS), first.encode(TEXTS))
