"""End to end: a model by its name, from a hub on loopback, as a user loads it; then from the cache, then offline."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import multimodal as mm
from multimodal.core.errors import CheckpointError, DownloadError, UnknownModel
from tests.core.hub.loopback_hub import LoopbackHub, server

__all__ = ["server"]  # a fixture

TEXTS = ["a red apple", "the dog by the sea", "x"]
IMAGE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SIDE, WIDTH, DIM = 32, 32, 16


@dataclass(frozen=True)
class Published:
    """A tiny checkpoint of a real architecture: its files, and what upstream says of TEXTS and PICTURE."""

    files: dict[str, bytes]
    weights: str
    vectors: NDArray[np.float32]


def stir(model: torch.nn.Module) -> None:
    """Weights so wide that every input matters: with the usual small ones all vectors are nearly equal."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 1.4 * parameter[0].numel() ** -0.5, generator=generator)


@pytest.fixture(scope="session")
def transformers_clip(tmp_path_factory: pytest.TempPathFactory) -> Published:
    import transformers
    from PIL import Image
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("clip")
    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77
    )
    tower = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = tower | {
        "vocab_size": len(pieces),
        "bos_token_id": len(pieces) - 2,
        "eos_token_id": len(pieces) - 1,
    }
    config = transformers.CLIPConfig(
        text_config=text, vision_config=tower | {"image_size": SIDE, "patch_size": 8}, projection_dim=DIM
    )
    image_processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    model = transformers.CLIPModel(config).eval()
    stir(model)
    model.save_pretrained(folder)
    processor = transformers.CLIPProcessor(image_processor, tokenizer)
    processor.save_pretrained(folder)
    batch = processor(text=TEXTS, images=Image.fromarray(IMAGE), return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model(**batch)
    return Published(files_of(folder), "model.safetensors", unit(out.text_embeds, out.image_embeds))


@pytest.fixture(scope="session")
def openclip_vit(tmp_path_factory: pytest.TempPathFactory) -> Published:
    import open_clip
    from PIL import Image
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("openclip")
    config = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": 2},
    }
    described = {
        "model_cfg": config,
        "preprocess_cfg": {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    stir(made)
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.inference_mode():
        texts = model.eval().encode_text(tokens)
        images = model.encode_image(transform(Image.fromarray(IMAGE))[None])
    return Published(files_of(folder), "open_clip_model.safetensors", unit(texts, images))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def unit(*parts: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()


@pytest.fixture(params=["hf", "openclip"])
def model(request: pytest.FixtureRequest, server: LoopbackHub) -> Iterator[tuple[str, Published]]:
    """(what `load` takes, what the hub has under that name)"""
    if request.param == "hf":
        published = request.getfixturevalue("transformers_clip")
        name = "hf/org/tiny-clip"
    else:
        published = request.getfixturevalue("openclip_vit")
        name = "openclip/hf-hub:org/tiny-clip"
    server.add("org/tiny-clip", published.files)
    yield name, published


def vectors(space: mm.Space) -> NDArray[np.float32]:
    return space.encode([*TEXTS, mm.Image(IMAGE)])


def forbid_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a socket was asked for: {args}")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


def test_the_first_load_fetches_the_second_does_not_and_offline_asks_nobody(
    model: tuple[str, Published], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, published = model
    space = mm.load(name, device="cpu")
    assert np.abs(vectors(space) - published.vectors).max() <= 1e-5
    weights = published.files[published.weights]
    assert len(server.fetched(weights)) == 1
    server.requests.clear()
    again = mm.load(name, device="cpu")
    assert again.fingerprint == space.fingerprint
    assert server.fetched(weights) == []
    assert not [item for item in server.seen("GET") if "/resolve/" in item.path]
    server.requests.clear()
    space.save_pretrained(tmp_path / "saved")
    forbid_sockets(monkeypatch)
    assert mm.load(name, device="cpu", offline=True).fingerprint == space.fingerprint
    saved = mm.load(tmp_path / "saved", device="cpu")
    assert np.abs(vectors(saved) - published.vectors).max() <= 1e-5
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert mm.load(name, device="cpu").fingerprint == space.fingerprint
    assert server.requests == []


def test_a_pinned_model_is_loaded_again_without_a_request(
    model: tuple[str, Published], server: LoopbackHub
) -> None:
    name, _published = model
    commit = server.branches["org/tiny-clip"]["main"]
    space = mm.load(name, device="cpu", revision=commit)
    server.add("org/tiny-clip", {"README.md": b"all is moved"})
    server.requests.clear()
    assert mm.load(name, device="cpu", revision=commit).fingerprint == space.fingerprint
    assert server.requests == []


def test_without_a_network_what_was_loaded_before_is_loaded_with_a_warning(
    model: tuple[str, Published], server: LoopbackHub
) -> None:
    name, _published = model
    space = mm.load(name, device="cpu")
    with server.down(), pytest.warns(UserWarning, match=r"^using the cached org/tiny-clip, because"):
        assert mm.load(name, device="cpu").fingerprint == space.fingerprint


FAULTS = {
    "404": ({"path": "org/tiny-clip", "status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, UnknownModel,
            "no repository 'org/tiny-clip' at "),
    "401": ({"path": "org/tiny-clip", "status": 401}, DownloadError, r"refused access to .* \(HTTP 401\)"),
    "403": ({"path": "org/tiny-clip", "status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, DownloadError,
            r"org/tiny-clip is gated \(HTTP 403\): accept its licence"),
    "503": ({"path": "org/tiny-clip", "status": 503}, DownloadError, r"\(HTTP 503, after retries\); try again"),
    "broken": ({"path": "WEIGHTS", "cut": 0}, DownloadError, "cannot be reached or closed the connection"),
    "wrong hash": ({"path": "WEIGHTS", "content": "WRONG"}, DownloadError, "announced, and was deleted"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_failure_is_one_clear_error_and_the_next_load_works(
    model: tuple[str, Published], server: LoopbackHub, fault: str
) -> None:
    name, published = model
    weights = published.files[published.weights]
    how, kind, text = FAULTS[fault]
    how = how | ({"path": server.address_of(weights)} if how["path"] == "WEIGHTS" else {})
    how = how | ({"content": weights[:-1] + b"!"} if how.get("content") == "WRONG" else {})
    server.fail(**how)
    with pytest.raises(kind, match=text):
        mm.load(name, device="cpu")
    server.heal()
    assert np.abs(vectors(mm.load(name, device="cpu")) - published.vectors).max() <= 1e-5


def test_a_dead_endpoint_is_one_clear_error_and_the_next_load_works(
    model: tuple[str, Published], server: LoopbackHub
) -> None:
    name, published = model
    with server.down(), pytest.raises(DownloadError, match=f"{server.url} cannot be reached"):
        mm.load(name, device="cpu")
    assert np.abs(vectors(mm.load(name, device="cpu")) - published.vectors).max() <= 1e-5


class Bomb:
    """Unpickled the unsafe way, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_safetensors_are_preferred_and_a_pickle_that_asks_for_code_is_refused(
    model: tuple[str, Published], server: LoopbackHub, tmp_path: Path
) -> None:
    name, published = model
    target, pickled = tmp_path / "it-ran", tmp_path / "pickled.bin"
    torch.save({"w": torch.ones(500), "x": Bomb(target)}, pickled)
    bin_name = published.weights.replace("open_clip_model", "open_clip_pytorch_model").replace(
        "safetensors", "bin"
    )
    bin_name = bin_name.replace("model.bin", "pytorch_model.bin") if name.startswith("hf/") else bin_name
    server.add("org/tiny-clip", published.files | {bin_name: pickled.read_bytes()})
    assert np.abs(vectors(mm.load(name, device="cpu")) - published.vectors).max() <= 1e-5
    assert server.fetched(pickled.read_bytes()) == []
    others = {file: content for file, content in published.files.items() if file != published.weights}
    server.add("org/tiny-clip", others | {bin_name: pickled.read_bytes()})
    with pytest.raises(
        CheckpointError, match="its pickle holds more than tensors, and reading it could run code"
    ):
        mm.load(name, device="cpu")
    assert not target.exists()


def test_a_pickle_of_tensors_alone_gives_the_same_vectors(
    model: tuple[str, Published], server: LoopbackHub, tmp_path: Path
) -> None:
    from safetensors.torch import load

    name, published = model
    torch.save(load(published.files[published.weights]), tmp_path / "weights.bin")
    bin_name = "pytorch_model.bin" if name.startswith("hf/") else "open_clip_pytorch_model.bin"
    others = {file: content for file, content in published.files.items() if file != published.weights}
    server.add("org/tiny-clip", others | {bin_name: (tmp_path / "weights.bin").read_bytes()})
    assert np.abs(vectors(mm.load(name, device="cpu")) - published.vectors).max() <= 1e-5


def test_code_that_a_repository_brings_is_not_even_fetched(
    server: LoopbackHub, transformers_clip: Published
) -> None:
    config = json.loads(transformers_clip.files["config.json"])
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    files = transformers_clip.files | {
        "config.json": json.dumps(config).encode(),
        "evil.py": b"raise SystemExit",
    }
    server.add("org/tiny-clip", files)
    assert (
        np.abs(vectors(mm.load("hf/org/tiny-clip", device="cpu")) - transformers_clip.vectors).max() <= 1e-5
    )
    assert not server.seen(path="evil.py")
