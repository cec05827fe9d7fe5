"""Tensors come out of files as they were put in, and nothing in a file is ever run."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.hub import api as hub

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "a.bias": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "steps": torch.tensor(7),
}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in right
    )


class Bomb:
    """What a malicious checkpoint holds: unpickled the unsafe way, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        hub.load_tensors(path)
    return str(caught.value)


def test_safetensors_come_out_as_they_went_in(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert same(hub.load_tensors(tmp_path / "model.safetensors"), TENSORS)


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_safetensors_whose_first_byte_is_a_pickles_are_read(tmp_path: Path, name: str) -> None:
    """The first byte belongs to the length of the header, which is a multiple of 8."""
    for names in range(1, 200):
        save_file(TENSORS, tmp_path / name, metadata={"x": "-" * (8 * names)})
        if (tmp_path / name).read_bytes()[0] == 0x80:
            break
    assert (tmp_path / name).read_bytes()[0] == 0x80
    assert same(hub.load_tensors(tmp_path / name), TENSORS)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    assert "is damaged (" in refusal(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "no-suffix"])
def test_checkpoints_come_out_as_they_went_in(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(OrderedDict(TENSORS), tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert same(hub.load_tensors(tmp_path / name), TENSORS)


def test_what_a_file_is_its_content_says_and_not_its_name(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "model.safetensors")
    save_file(TENSORS, tmp_path / "model.bin")
    assert same(hub.load_tensors(tmp_path / "model.safetensors"), TENSORS)
    assert same(hub.load_tensors(tmp_path / "model.bin"), TENSORS)


def test_a_wrapper_is_returned_as_it_is(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "name": "x", "state_dict": {"module.w": torch.ones(2)}}, tmp_path / "epoch_3.pt")
    loaded = hub.load_tensors(tmp_path / "epoch_3.pt")
    assert (loaded["epoch"], loaded["name"]) == (3, "x")
    assert torch.equal(loaded["state_dict"]["module.w"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_asks_for_code_is_refused_and_none_runs(tmp_path: Path, zipped: bool) -> None:
    target, path = tmp_path / "it-ran", tmp_path / "evil.bin"
    torch.save({"w": torch.ones(2), "x": Bomb(target)}, path, _use_new_zipfile_serialization=zipped)
    assert refusal(path) == (
        f"{path} is refused: its pickle holds more than tensors, and reading it could run code. Ask its publisher for "
        "safetensors or, if you trust it, convert it once with torch.load(…, weights_only=False) and "
        "safetensors.torch.save_file"
    )
    assert not target.exists()
    torch.load(path, weights_only=False)  # the bomb is live: the unsafe way sets it off
    assert target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4:UserWarning")  # of torch's, before it refuses
def test_a_plain_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "it-ran", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Bomb(target)))
    assert str(path) in refusal(path)
    assert not target.exists()


class Part(torch.nn.Module):
    """Parameters, buffers, a shared one, an absent one, a tensor that is no weight, and modules in modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.blocks = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 2))
        self.blocks[0].weight.data = torch.arange(16.0).reshape(4, 4).T  # not contiguous
        self.scale = torch.nn.Parameter(torch.tensor(2.5).half())
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool))
        self.register_buffer("sizes", torch.tensor([7, 8], dtype=torch.int32))
        self.register_buffer("none", torch.zeros(0))
        self.no_weight = torch.arange(3)
        self.numbers = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.norm(self.first(x))) * self.scale.float()


def archive(path: Path, how: str = "scripted") -> Path:
    with warnings.catch_warnings(
        action="ignore"
    ):  # torch.jit is deprecated; the archives it wrote will be around
        module = Part().eval()
        made = torch.jit.script(module) if how == "scripted" else torch.jit.trace(module, torch.ones(2, 3))
        torch.jit.save(made, path)
    return path


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_of_a_torchscript_archive_the_weights_are_read(tmp_path: Path, how: str) -> None:
    path = archive(tmp_path / "ViT-B-32.pt", how)
    with warnings.catch_warnings(action="ignore"):
        expected = torch.jit.load(path).state_dict()
    assert len(expected) == 14
    assert same(hub.load_tensors(path), expected)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """The archive with each file as `change` gives it; None leaves it out."""
    with zipfile.ZipFile(path) as old:
        files = {name: change(name, old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            if content is not None:
                new.writestr(name, content)


@pytest.mark.parametrize(("module", "name"), [("posix", "system"), ("builtins", "eval"), ("torch", "load"),
                                              ("torch.jit._pickle", "restore_type_tag")])  # fmt: skip
def test_a_torchscript_archive_that_asks_for_code_is_refused(tmp_path: Path, module: str, name: str) -> None:
    path, target = archive(tmp_path / "evil.pt"), tmp_path / "it-ran"
    call = f"c{module}\n{name}\n(V touch {target}\ntR.".encode()
    rewritten(path, lambda file, content: call if file.endswith("/data.pkl") else content)
    assert refusal(path) == (
        f"{path} is refused: its pickle names {module}.{name}, and calling that could run code. Ask its publisher for "
        "safetensors"
    )
    assert not target.exists()


def test_a_damaged_torchscript_archive_is_refused(tmp_path: Path) -> None:
    for ending, change, text in (
        ("/data.pkl", lambda content: content[:-40], "is damaged ("),
        ("/data.pkl", lambda content: b"N.", "is damaged ("),
        ("/data/0", lambda content: content[:1], "is damaged ("),
        ("/data/0", lambda content: None, "is damaged ("),
        ("/test_hub_tensors.py", lambda content: b"", "has no definition of Part; fetch it again"),
        (
            "/byteorder",
            lambda content: b"big",
            "was written on a big-endian machine; save its weights as safetensors",
        ),
    ):
        path = archive(tmp_path / "damaged.pt")
        rewritten(path, lambda file, old, e=ending, c=change: c(old) if file.endswith(e) else old)
        assert text in refusal(path)
    content = archive(tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    assert "is damaged (" in refusal(tmp_path / "cut.pt")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "model.bin"
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert str(path) in refusal(path)


def test_damage_is_reported_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-3])
    assert refusal(path).startswith(f"{path} is damaged (")
    assert refusal(path).endswith("; fetch or copy it again")
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path).startswith(f"{path} is damaged (PytorchStreamReader failed")
    path.write_bytes(b"")
    assert refusal(path) == f"{path} is empty; fetch or copy it again"
    assert (
        refusal(tmp_path / "no.bin")
        == f"there are no weights at {tmp_path / 'no.bin'}: the file does not exist; check the path"
    )


def test_what_is_no_weights_is_reported_for_what_it_is(tmp_path: Path) -> None:
    pointer, page, number = tmp_path / "model.safetensors", tmp_path / "model.bin", tmp_path / "number.pt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n")
    assert refusal(pointer) == (
        f"{pointer} is a Git LFS pointer without the weights: run 'git lfs pull' in its folder"
    )
    page.write_text("<!DOCTYPE html><html>Not Found</html>")
    assert (
        refusal(page)
        == f"{page} is neither safetensors nor a PyTorch checkpoint (it starts with b'<!DOCTYP'); "
        "fetch or copy it again"
    )
    torch.save(torch.ones(2), number)
    assert (
        refusal(number) == f"{number} holds a Tensor, expected tensors by name; save a model's state_dict()"
    )
    with pytest.raises(InvalidInput) as caught:
        hub.load_tensors(tmp_path)
    assert str(caught.value) == f"load_tensors takes a weights file, got the folder {tmp_path}"


def sharded(folder: Path, weight_map: object, shards: dict[str, dict[str, torch.Tensor]]) -> Path:
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_the_shards_of_an_index_are_put_together(tmp_path: Path) -> None:
    first, second = {"a.weight": TENSORS["a.weight"]}, {k: TENSORS[k] for k in ("a.bias", "steps")}
    shards = {"model-1-of-2.safetensors": first, "model-2-of-2.safetensors": second}
    weight_map = {tensor: file for file, tensors in shards.items() for tensor in tensors}
    assert same(hub.load_tensors(sharded(tmp_path, weight_map, shards)), TENSORS)


def test_the_shards_of_a_checkpoint_are_put_together(tmp_path: Path) -> None:
    torch.save({"a.weight": TENSORS["a.weight"]}, tmp_path / "pytorch_model-1.bin")
    torch.save({k: TENSORS[k] for k in ("a.bias", "steps")}, tmp_path / "pytorch_model-2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    files = {
        "a.weight": "pytorch_model-1.bin",
        "a.bias": "pytorch_model-2.bin",
        "steps": "pytorch_model-2.bin",
    }
    index.write_text(json.dumps({"weight_map": files}))
    assert same(hub.load_tensors(index), TENSORS)


def test_an_index_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    content = {"one.safetensors": {"a": torch.ones(1)}}
    index = sharded(
        tmp_path, {"a": "one.safetensors", "b": "one.safetensors", "c": "one.safetensors"}, content
    )
    assert refusal(index) == (
        f"{index} names 2 tensors that are not in its files, the first is 'b'; fetch them again"
    )
    sharded(tmp_path, {"a": "two.safetensors"}, {})
    assert (
        refusal(index)
        == f"there are no weights at {tmp_path / 'two.safetensors'}: the file does not exist; check the path"
    )
    for bad in ({"a": "../outside.safetensors"}, {"a": index.name}, {"a": 3}, ["a"], None):
        sharded(tmp_path, bad, {})
        assert refusal(index).startswith(f"{index} is not an index of weights (")
    index.write_text("{")
    assert refusal(index).startswith(f"{index} is not an index of weights (")
