"""Which files of a sentence-transformers model are taken, and what is refused for what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import multimodal as mm
from multimodal.core.errors import CheckpointError, CorruptSpace
from multimodal.encoders.st import checkpoint
from tests.encoders.st.st_models import Models

TEXTS = ["a cat", "what is a rainbow?"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models.of_this_run(tmp_path_factory)


@pytest.fixture
def copy(models: Models, tmp_path: Path) -> Any:
    """A copy of a model, to be spoilt."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(models(name), tmp_path / "mine"))

    return copy


def load(folder: Path, **options: Any) -> mm.Space:
    return mm.load(f"st/{folder}", device="cpu", **options)


def change(path: Path, **tensors: torch.Tensor | None) -> None:
    result = load_file(path) | {name: tensor for name, tensor in tensors.items() if tensor is not None}
    for name in [name for name, tensor in tensors.items() if tensor is None]:
        del result[name]
    save_file(result, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("names", "settings", "weights"),
    [
        (
            [
                "config.json",
                "README.md",
                "model.safetensors",
                "pytorch_model.bin",
                "1_Pooling/config.json",
                "x.py",
            ],
            ["1_Pooling/config.json", "config.json"],
            ["model.safetensors"],
        ),
        (
            [
                "0_CLIPModel/pytorch_model.bin",
                "0_CLIPModel/merges.txt",
                "2_Dense/model.safetensors",
                "tf_model.h5",
            ],
            ["0_CLIPModel/merges.txt"],
            ["0_CLIPModel/pytorch_model.bin", "2_Dense/model.safetensors"],
        ),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            [],
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
        ),
        (
            [
                "onnx/model.json",
                "openvino/x.json",
                ".git/config.json",
                "checkpoint-10/config.json",
                "eval/a.json",
            ],
            [],
            [],
        ),
        (["onnx_notes/config.json", "training_args.bin", "optimizer.bin"], ["onnx_notes/config.json"], []),
    ],
)
def test_what_is_taken_of_a_model(names, settings, weights):
    assert checkpoint.select_files(names) == (settings, weights)


def test_sharded_weights_are_read_through_their_index(copy, models):
    folder = copy("mean")
    tensors = load_file(folder / "model.safetensors")
    names, half = sorted(tensors), len(tensors) // 2
    shards = {
        "model-00001-of-00002.safetensors": names[:half],
        "model-00002-of-00002.safetensors": names[half:],
    }
    for shard, inside in shards.items():
        save_file({name: tensors[name] for name in inside}, folder / shard, metadata={"format": "pt"})
    where = {name: shard for shard, inside in shards.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "model.safetensors").unlink()
    space = load(folder)
    assert space.fingerprint == load(models("mean")).fingerprint
    assert np.array_equal(space.encode(TEXTS), load(models("mean")).encode(TEXTS))


def test_pickled_tensors_give_the_same_space(copy, models):
    folder = copy("dense")
    for inside in (folder, folder / "2_Dense"):
        torch.save(load_file(inside / "model.safetensors"), inside / "pytorch_model.bin")
        (inside / "model.safetensors").unlink()
    space = load(folder)
    assert space.fingerprint == load(models("dense")).fingerprint
    assert np.array_equal(space.encode(TEXTS), load(models("dense")).encode(TEXTS))


def test_a_pickle_that_holds_code_is_refused_and_not_run(copy, tmp_path):
    folder, trace = copy("mean"), tmp_path / "trace"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    (folder / "model.safetensors").unlink()
    torch.save({"a": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin is refused: its pickle holds more than tensors"
    ):
        load(folder)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 100, 20_000])
def test_truncated_weights_are_refused(copy, keep):
    folder = copy("mean")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is (empty|damaged \(.*\)); fetch or copy it again$"
    ):
        load(folder)


def test_weights_that_lack_what_a_vector_needs_are_refused_by_name(copy):
    """Upstream fills them with random numbers and only logs it."""
    folder = copy("mean")
    change(
        folder / "model.safetensors",
        **{"encoder.layer.1.output.dense.weight": None, "pooler.dense.bias": None},
    )
    with pytest.raises(
        CheckpointError,
        match=rf"^the weights of 'st/{folder}' are incomplete: encoder\.layer\.1\.output\.dense\.weight is missing; "
        r"pooler\.dense\.bias is missing$",
    ):
        load(folder)


def test_weights_that_no_vector_needs_may_be_missing(copy, models):
    folder = copy("mean")
    change(folder / "model.safetensors", **{"pooler.dense.weight": None, "pooler.dense.bias": None})
    assert np.array_equal(load(folder).encode(TEXTS), load(models("mean")).encode(TEXTS))


def test_a_tower_that_only_images_need_is_missed_too(copy):
    folder = copy("clip")
    change(folder / "model.safetensors", **{"visual_projection.weight": None})
    with pytest.raises(CheckpointError, match=r"are incomplete: visual_projection\.weight is missing$"):
        load(folder)


def test_a_router_is_checked_on_each_route(copy):
    folder = copy("router")
    (path,) = folder.glob("document*/model.safetensors")
    change(path, **{"encoder.layer.0.output.dense.weight": None})
    with pytest.raises(
        CheckpointError, match=r"are incomplete: encoder\.layer\.0\.output\.dense\.weight is missing$"
    ):
        load(folder, prompt="document")


def test_weights_of_another_shape_are_refused_by_name(copy):
    folder = copy("mean")
    change(folder / "model.safetensors", **{"embeddings.word_embeddings.weight": torch.zeros(9, 32)})
    rows = load_file(folder / "model.safetensors")["embeddings.position_embeddings.weight"].shape[0]
    assert rows == 64
    with pytest.raises(
        CheckpointError,
        match=rf"^the weights of 'st/{folder}' do not fit its configuration: embeddings\.word_embeddings\.weight has "
        r"shape \(9, 32\), expected \(\d+, 32\)$",
    ):
        load(folder)


def test_a_module_of_another_shape_is_refused(copy):
    folder = copy("dense")
    change(folder / "2_Dense" / "model.safetensors", **{"linear.weight": torch.zeros(20, 63)})
    with pytest.raises(CheckpointError, match=rf"^'st/{folder}' cannot be loaded: .*linear\.weight"):
        load(folder)


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError,
        match=rf"^'st/{tmp_path}' has neither modules\.json nor config\.json, so it is not a model of "
        r"sentence-transformers; pass a folder written by SentenceTransformer\.save\(\), or the id of a model$",
    ):
        load(tmp_path)


def test_an_unstated_pooling_is_not_guessed(models):
    models("mean")
    bare = models.root / "bare-bert"
    with pytest.raises(
        CheckpointError,
        match=rf"^'st/{bare}' has no modules\.json, so its pooling is unknown and the default may be wrong; "
        r"if it is mean pooling, write one with "
        rf"SentenceTransformer\('{bare}'\)\.save\(…\) and load that$",
    ):
        load(bare)


def test_a_model_that_needs_no_pooling_needs_no_modules(models):
    models("clip")
    seen, expected = load(models.root / "bare-clip"), load(models("clip"))
    assert np.array_equal(seen.encode(TEXTS), expected.encode(TEXTS))


def test_a_model_with_code_of_its_own_is_refused(copy):
    folder = copy("mean")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "custom_pooling.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "custom_pooling.py").write_text("raise SystemExit('this code was run')\n")
    with pytest.raises(
        CheckpointError,
        match=rf"^'st/{folder}' needs custom_pooling\.Pooling, code that is not part of sentence_transformers; such "
        r"code is never run\. Use a model with modules of sentence_transformers only$",
    ):
        load(folder)


def test_an_adapter_is_refused(copy):
    folder = copy("mean")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(
        CheckpointError,
        match=rf"^'st/{folder}' is an adapter \(adapter_config\.json\), not a complete model; merge it into its base "
        r"model \(peft: merge_and_unload\(\)\), save that with SentenceTransformer\.save\(\) and load the result$",
    ):
        load(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_an_invalid_list_of_modules_is_refused(copy, text):
    folder = copy("mean")
    (folder / "modules.json").write_text(text)
    error = r"modules\.json is not a list of modules|cannot be loaded: "
    with pytest.raises(CheckpointError, match=error):
        load(folder)


def test_a_saved_space_without_some_of_its_weights_is_refused(models, tmp_path):
    load(models("mean")).save_pretrained(tmp_path / "space")
    change(tmp_path / "space" / "text.safetensors", **{"encoder.layer.0.output.dense.bias": None})
    with pytest.raises(
        CorruptSpace, match=r"are incomplete: encoder\.layer\.0\.output\.dense\.bias is missing"
    ):
        mm.load(tmp_path / "space", device="cpu")


@pytest.mark.parametrize(
    "name", ["..%2Fevil.json", "%2Fetc%2Fevil.json", "a%2F..%2F..%2Fevil.json", "c:evil.json"]
)
def test_a_file_that_leads_out_of_its_folder_is_refused(name, tmp_path):
    with pytest.raises(
        CorruptSpace, match=r"^the saved space names the file '.*', which is not inside a model's folder$"
    ):
        checkpoint.unpack({name: b"{}"}, {}, tmp_path / "inside")
    assert not list(tmp_path.rglob("evil.json"))


def test_parts_become_the_folder_they_came_from(models, tmp_path):
    parts = checkpoint.files_in(models("two_towers"))
    assert all(Path(name).name == name for name in parts.files)
    checkpoint.unpack(parts.files, parts.tensors(), tmp_path / "again")
    again = checkpoint.files_in(tmp_path / "again")
    assert again.files == parts.files
    assert again.tensors().keys() == parts.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in parts.tensors().items())
