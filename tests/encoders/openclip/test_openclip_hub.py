"""Tags and repositories: found on a hub on loopback, loaded as they were trained, and named by one name."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from multimodal.core.card import Card
from multimodal.core.errors import CheckpointError, DownloadError, InvalidInput
from multimodal.encoders import openclip
from tests.core.hub.loopback_hub import LoopbackHub, server
from tests.encoders.openclip.openclip_checkpoints import (
    SAID,
    SQUASHED,
    Expected,
    architecture,
    by_hand,
    copy_of,
    edit,
    load,
    model_of,
    parity,
    published,
    tags,
    weights,
)

__all__ = ["architecture", "published", "server", "tags", "weights"]  # fixtures

Published = Callable[[str], Expected]


def publish(server: LoopbackHub, repo: str, folder: Path, **files: str) -> None:
    """files: names in the repository and in the folder; all of the folder's if none are given."""
    names = files or {path.name: path.name for path in folder.iterdir() if path.is_file()}
    server.add(repo, {name: (folder / file).read_bytes() for name, file in names.items()})


def test_a_tag_knows_its_activation_and_preprocessing(
    published: Published, tags, weights, server: LoopbackHub
):
    folder = published("ViT-B-32").folder
    publish(server, "org/quick", folder, **{"open_clip_model.safetensors": "open_clip_model.safetensors"})
    quick = by_hand(f"{tags}-quickgelu", pretrained=str(weights))
    spaces = [load(f"{tags}:openai"), load(f"{tags}-quickgelu:openai"), load(f"{tags}:OpenAI")]
    assert parity(spaces[0], quick) <= 1e-5
    assert {space.fingerprint for space in spaces} == {spaces[0].fingerprint}
    homes = {(space.name, encoder.space_id) for space in spaces for encoder in space.encoders.values()}
    assert homes == {(f"openclip/{tags}:openai",) * 2}
    assert (spaces[0] | spaces[1]).modalities == ("text", "image")


def test_a_tag_may_name_its_file_and_safetensors_are_preferred(tags, weights, server: LoopbackHub, tmp_path):
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    settings = {f"image_{key}": value for key, value in SQUASHED.items()}
    expected = by_hand(tags, pretrained=str(weights), **settings)
    publish(server, "org/plain", tmp_path, **{"pytorch_model.bin": "pytorch_model.bin"})
    assert parity(load(f"{tags}:laion"), expected) <= 1e-5
    (tmp_path / "broken").write_bytes(b"?")
    publish(
        server,
        "org/plain",
        tmp_path,
        **{"pytorch_model.safetensors": weights.name, "pytorch_model.bin": "broken"},
    )
    assert parity(load(f"{tags}:laion"), expected) <= 1e-5


def test_a_tag_may_be_a_plain_address_with_its_digest(tags, weights, server: LoopbackHub, monkeypatch):
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for place, right in ((f"openaipublic/{digest}/x.pt", True), (f"mlfoundations/x-{digest[:8]}.pt", True),
                         (f"openaipublic/{'0' * 64}/x.pt", False)):  # fmt: skip
        server.plain[place] = content
        published_at = {**SAID, "url": f"{server.url}/plain/{place}", "hf_hub": "", "quick_gelu": True}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tags, {"openai": published_at})
        if right:
            assert load(f"{tags}:openai").modalities == ("text", "image")
        else:
            with pytest.raises(DownloadError, match=r"expected 0{64}, and was deleted"):
                load(f"{tags}:openai")


@pytest.mark.parametrize("option", [{"quick_gelu": True}, {"preprocess": SAID}, {"like": "openai"}])
def test_a_tag_is_not_given_its_own_label(tags, option):
    text = (
        f"{next(iter(option))} given for {tags}:openai, but a pretrained tag has its own: leave it out, or "
        "load a weights file"
    )
    with pytest.raises(InvalidInput, match=f"^{re.escape(text)}$"):
        load(f"{tags}:openai", **option)


def test_a_repository_may_take_tokenizer_and_text_tower_from_others(
    published: Published, server: LoopbackHub, tmp_path
):
    expected = published("xlm-roberta-base-ViT-B-32")
    folder = copy_of(published("xlm-roberta-base-ViT-B-32"), tmp_path)
    publish(
        server,
        "org/tokens",
        folder,
        **{"tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"},
    )
    publish(server, "org/roberta", folder / "text")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    config = model_of(folder)
    config["text_cfg"] |= {"hf_model_name": "org/roberta", "hf_tokenizer_name": "org/tokens"}
    edit(folder, model_cfg=config)
    publish(server, "org/model", folder)
    space = load("hf-hub:org/model")
    assert parity(space, (expected.texts, expected.images)) <= 1e-5
    assert {encoder.space_id for encoder in space.encoders.values()} == {"openclip/hf-hub:org/model"}
    server.requests.clear()
    assert load("hf-hub:org/model", offline=True).fingerprint == expected.space.fingerprint
    assert server.requests == []


def test_a_repository_of_a_tag_goes_by_the_tags_name(published: Published, server: LoopbackHub):
    publish(server, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", published("ViT-B-32").folder)
    space = load("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert space.name == space.encoders["image"].space_id == "openclip/ViT-B-32:laion2b_s34b_b79k"
    assert space.card is not None and space.card.licence == "MIT"


def test_a_repository_of_something_else_is_refused(server: LoopbackHub):
    server.add("org/bert", {"config.json": b"{}", "model.safetensors": b"?"})
    text = (
        "org/bert has no open_clip_config.json, so it is not a checkpoint of open_clip; it has config.json, "
        "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load("hf-hub:org/bert")


def test_a_repository_without_weights_is_refused(published: Published, server: LoopbackHub):
    folder = published("ViT-B-32").folder
    publish(server, "org/empty", folder, **{"open_clip_config.json": "open_clip_config.json"})
    with pytest.raises(
        CheckpointError,
        match=r"^org/empty has none of open_clip_model.safetensors, .*; it has open_clip_config.json$",
    ):
        load("hf-hub:org/empty")


def test_a_card_says_which_commit_a_tag_stands_for(
    published: Published, tags, weights, server: LoopbackHub, monkeypatch
):
    first = server.add("org/quick", {"open_clip_model.safetensors": weights.read_bytes()})
    moved = weights.read_bytes()[:-400] + bytes(400)
    newest = server.add("org/quick", {"open_clip_model.safetensors": moved})
    name = f"openclip/{tags}:openai"
    card = Card(name, ("text", "image"), 32, "MIT", "org/quick", 1, revision=first)
    unpinned = load(f"{tags}:openai")
    monkeypatch.setattr(openclip, "CARDS", (card,))
    pinned, main = load(f"{tags}:openai"), load(f"{tags}:openai", revision="main")
    assert [item.revisions["org/quick"] for item in (unpinned, pinned, main)] == [newest, first, newest]
    assert pinned.card == card
    assert main.fingerprint == unpinned.fingerprint != pinned.fingerprint
