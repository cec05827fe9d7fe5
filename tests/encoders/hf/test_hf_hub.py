"""`hf/<id>` takes from a hub what it needs and no more. The server's log is the judge."""

import re
import socket

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import multimodal as mm
from multimodal.core.errors import CheckpointError, DownloadError, SpaceMismatch, UnknownModel
from multimodal.encoders.hf.cards import CARDS
from tests.core.hub.loopback_hub import server
from tests.encoders.hf import hf_tiny
from tests.encoders.hf.hf_cases import ITEMS, case

__all__ = ["server"]  # a fixture

REPO = "org/tiny-clip"
ELSE = {
    "README.md": b"# Tiny",
    "onnx/model.onnx": b"o" * 2_000,
    "tf_model.h5": b"t" * 2_000,
    "run.py": b"raise SystemExit",
}


def files_of(kind, **more):
    folder = case(kind).folder
    return {path.name: path.read_bytes() for path in folder.iterdir()} | ELSE | more


def resolved(server):
    """The names of the files that were asked for."""
    return {request.path.split("/", 5)[5] for request in server.requests if "/resolve/" in request.path}


def test_a_checkpoint_is_fetched_once_and_no_more_of_it_than_is_needed(server):
    files = files_of("clip", **{"pytorch_model.bin": b"p" * 2_000, "model.fp16.safetensors": b"f" * 2_000})
    server.add(REPO, files)
    space = mm.load(f"hf/{REPO}", device="cpu")
    for modality, items in (("text", ITEMS["text"]), ("image", ITEMS["image"])):
        assert np.array_equal(space.encode(items), case("clip").space.encode(items)), modality
    assert space.fingerprint == case("clip").space.fingerprint
    assert space.address == f"hf/{REPO}"
    assert resolved(server) == {
        "config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    server.requests.clear()
    mm.load(f"hf/{REPO}", device="cpu")
    assert resolved(server) == set()


def test_without_safetensors_the_pickle_is_fetched(server, tmp_path):
    torch.save(load_file(case("clip").folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    files = files_of("clip", **{"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()})
    del files["model.safetensors"]
    server.add(REPO, files)
    assert np.array_equal(
        mm.load(f"hf/{REPO}", device="cpu").encode("a cat"), case("clip").space.encode("a cat")
    )


def test_weights_in_several_files_are_fetched_with_their_index(server, tmp_path):
    case("clip").model.save_pretrained(tmp_path, max_shard_size="100KB")
    files = files_of("clip") | {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    del files["model.safetensors"]
    server.add(REPO, files)
    assert np.array_equal(
        mm.load(f"hf/{REPO}", device="cpu").encode("a cat"), case("clip").space.encode("a cat")
    )
    assert {"model.safetensors.index.json", "model-00001-of-00003.safetensors"} < resolved(server)


def test_what_cannot_be_used_is_refused_before_its_weights_are_fetched(server, tmp_path):
    transformers.BertModel(transformers.BertConfig(**hf_tiny.TOWER, vocab_size=40)).save_pretrained(tmp_path)
    server.add("org/bert", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    with pytest.raises(CheckpointError, match=r"^'hf/org/bert' is a BertModel, "):
        mm.load("hf/org/bert")
    assert resolved(server) == {"config.json"}


def test_offline_takes_what_is_in_the_cache_and_opens_no_socket(server, monkeypatch):
    server.add(REPO, files_of("clip"))
    expected = mm.load(f"hf/{REPO}", device="cpu").encode("a cat")
    server.requests.clear()

    def refuse(*args, **kwargs):
        raise AssertionError(f"a socket was asked for: {args}")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert np.array_equal(mm.load(f"hf/{REPO}", device="cpu", offline=True).encode("a cat"), expected)
    assert server.requests == []
    with pytest.raises(DownloadError, match=r"^offline, and the cache .* does not contain config\.json"):
        mm.load("hf/org/never-seen", offline=True)


def test_a_revision_is_a_branch_a_tag_or_a_commit(server):
    first = server.add(REPO, files_of("clip"))
    server.add(REPO, files_of("siglip2"))
    assert mm.load(f"hf/{REPO}", device="cpu").dim == case("siglip2").space.dim
    assert mm.load(f"hf/{REPO}", device="cpu", revision=first).dim == case("clip").space.dim


def test_a_card_says_which_commit_its_name_stands_for(server):
    card = next(card for card in CARDS if card.revision)
    server.repos[card.source] = {card.revision: files_of("clip"), "b" * 40: files_of("siglip2")}
    server.branches[card.source] = {"main": "b" * 40}
    space = mm.load(card.name, device="cpu")
    assert space.dim == case("clip").space.dim
    assert space.card == card
    assert mm.load(card.name, device="cpu", revision="main").dim == case("siglip2").space.dim


def test_towers_of_one_id_can_be_joined_again(server):
    server.add(REPO, files_of("clip"))
    server.add("org/other", files_of("clip"))
    first, second = mm.load(f"hf/{REPO}", device="cpu"), mm.load("hf/org/other", device="cpu")
    assert (first.select("text") | first.select("image")).modalities == ("text", "image")
    with pytest.raises(SpaceMismatch, match=r"was trained into 'hf/org/tiny-clip'"):
        first.select("text") | second.select("image")


def test_a_model_that_open_clip_has_too_is_of_that_space(server):
    server.add("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", files_of("clip"))
    space = mm.load("hf/laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", device="cpu", revision="main")
    assert {encoder.space_id for encoder in space.encoders.values()} == {
        "openclip/ViT-L-14:datacomp_xl_s13b_b90k"
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hf/openai/clip-vit-base-patch23", "did you mean 'hf/openai/clip-vit-base-patch32' or "),
        ("hf/laion/clap-htsat-unfuse", "did you mean 'hf/laion/clap-htsat-unfused'?"),
    ],
)
def test_an_unknown_id_is_answered_with_close_matches(server, name, hint):
    with pytest.raises(UnknownModel, match=f"^no repository .*; {re.escape(hint)}"):
        mm.load(name)


def test_a_folder_written_without_its_dot_is_found_out(server, tmp_path, monkeypatch):
    (tmp_path / "my-clip").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel, match=r"there is a folder of that name: write 'hf/\./my-clip'\.$"):
        mm.load("hf/my-clip")
