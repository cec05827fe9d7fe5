"""Spaces exported for ONNX Runtime: the same vectors, without torch, and refused where they would be others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import CheckpointError, EncoderError, InvalidInput, UnknownModel
from multimodal.core.paths import assets
from multimodal.encoders.onnx import log_mels
from multimodal.encoders.onnx.preprocessing import Resize, Square, Tokens
from multimodal.encoders.starter import preprocessing as starter
from multimodal.exporting import graph, towers, towers_openclip, towers_starter, trial
from multimodal.exporting.towers import TOKENIZER_FILE, TowerSpec
from multimodal.testing import fake_space
from tests.cli.conftest import Cli, cli
from tests.encoders.hf.hf_tiny import saved
from tests.encoders.st.st_models import Models

__all__ = ["cli"]  # a fixture

GALLERY = assets() / "gallery"
ITEMS = [
    mm.Text("a red apple"), mm.Text(" ".join(["dog", "pizza", "rocket"] * 40)), mm.Text("日本"),
    mm.Image(GALLERY / "pictures" / "frog.webp"), mm.Image(GALLERY / "pictures" / "elephant.jpg"),
    mm.Audio(GALLERY / "sounds" / "elephant.flac"), mm.Image(np.zeros((64, 64, 3), np.uint8)),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def starter_is_traced_once() -> Iterator[None]:
    """Tracing a tower takes most of the time of an export."""
    trace, traced = graph.to_onnx, dict[tuple[str, int], Any]()

    def to_onnx(spec: TowerSpec) -> Any:
        name = type(spec.net).__name__
        if name not in ("TextTower", "ImageTower", "AudioTower"):
            return trace(spec)
        key = name, spec.net.project.out_features  # type: ignore[union-attr]
        if key not in traced:
            traced[key] = trace(spec)
        return traced[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "to_onnx", to_onnx)
        yield


@pytest.fixture(scope="module")
def starter_space() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="module")
def small(starter_space: mm.Space, tmp_path_factory: pytest.TempPathFactory) -> mm.Export:
    """The starter in int8: every tower is exported once for all tests."""
    return mm.export(starter_space, tmp_path_factory.mktemp("exported") / "small", quantize="int8")


def test_int8_towers_are_small_and_near_their_source(small: mm.Export, starter_space: mm.Space) -> None:
    assert [tower.weights for tower in small.towers] == ["int8", "int8 static", "int8"]
    assert small.n_bytes <= 6.8e6
    space = mm.load(f"onnx/{small.folder}")
    cosines = (space.encode(ITEMS) * starter_space.encode(ITEMS)).sum(1)
    assert cosines.min() > 0.98
    for tower in small.towers:
        assert tower.recall >= 0.99 and tower.worst_cosine >= 0.98 and tower.batch_change <= 1e-5
    assert space.fingerprint != starter_space.fingerprint
    assert space.logit_scales == starter_space.logit_scales
    assert space.self_test().ok


def test_a_truncated_space_is_exported_with_its_vectors(starter_space: mm.Space, tmp_path: Path) -> None:
    short = starter_space.truncate(64)
    report = mm.export(short.select("image"), tmp_path / "short")
    space = mm.load(f"onnx/{tmp_path / 'short'}")
    assert space.fingerprint == short.select("image").fingerprint and report.n_bytes < 8e6
    assert space.dim == 64 and space.card is not None and space.card.dim == 64
    images = [item for item in ITEMS if isinstance(item, mm.Image)]
    assert np.abs(space.encode(images) - short.encode(images)).max() < 1e-5
    assert "the first 64 of 256 numbers" in (tmp_path / "short" / "README.md").read_text()
    # Windows of a long text count by the length of their whole vectors
    tower, whole = (towers.spec(each.encoders[mm.Modality.TEXT]) for each in (short, starter_space))
    rows, expected = (each.net(*tower.inputs.values()) for each in (tower, whole))
    assert torch.equal(rows, expected[:, :64]) and not tower.is_unit


def test_an_exported_space_is_loaded_and_used_without_torch(small: mm.Export) -> None:
    code = (
        "import sys, multimodal as mm\n"
        "space = mm.load('onnx/' + sys.argv[1])\n"
        "space.encode(['a dog', mm.Image(sys.argv[2]), mm.Audio(sys.argv[3])])\n"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    media = [str(GALLERY / "pictures" / "frog.webp"), str(GALLERY / "sounds" / "elephant.flac")]
    run = subprocess.run(
        [sys.executable, "-c", code, small.folder, *media], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_folder_says_what_is_in_it(small: mm.Export) -> None:
    folder = Path(small.folder)
    manifest = json.loads((folder / "export.json").read_text())
    assert {file for tower in manifest["towers"] for file in tower["files"]} | {
        "export.json",
        "README.md",
    } == {path.name for path in folder.iterdir()}
    about = (folder / "README.md").read_text()
    assert "Apache-2.0" in about and "`tokens` (rows, n) int64" in about and "int8" in about
    assert json.loads(json.dumps(small.to_dict())) == small.to_dict() | {
        "towers": manifest["report"]["towers"]
    }
    assert str(small).splitlines()[0].split() == [
        "tower",
        "weights",
        "MB",
        "load",
        "ms",
        "ms",
        "an",
        "item",
        "worst",
        "cosine",
        "R@1",
        "with",
        "batch",
    ]


def test_damaged_folders_are_refused(small: mm.Export, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="the folder does not exist"):
        mm.load(f"onnx/{tmp_path / 'none'}")
    with pytest.raises(UnknownModel, match=r"it has no export\.json"):
        mm.load(f"onnx/{tmp_path}")
    manifest = json.loads((Path(small.folder) / "export.json").read_text())
    for content, reason in (
        (manifest, r"lacks .*text\.onnx that its export\.json names"),
        (manifest | {"format": 99}, "has format 99, this version reads 1"),
        ({"format": 1}, "is not as multimodal.export writes it"),
    ):
        (tmp_path / "export.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=reason):
            mm.load(f"onnx/{tmp_path}")
    for file in Path(small.folder).iterdir():
        (tmp_path / file.name).write_bytes(b"spoilt" if file.suffix == ".onnx" else file.read_bytes())
    with pytest.raises(CheckpointError, match=r"ONNX Runtime cannot load text\.onnx"):
        mm.load(f"onnx/{tmp_path}")


def test_a_tower_that_fails_its_trial_is_refused_and_nothing_written(
    starter_space: mm.Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MIN_COSINE", 1.1)
    with pytest.raises(EncoderError, match=r"the text tower is refused \(int8: worst cosine 0\.99\d"):
        mm.export(starter_space.select("text"), tmp_path / "x", quantize="int8")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantize": "int4"}, "quantize must be one of none, float16, int8, auto, got 'int4'"),
        ({"format": "tflite"}, "format must be 'onnx', 'openvino' or 'page', got 'tflite'"),
        ({"sample": ["one text"]}, "the sample has 1 text items, at least 2 are needed"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], reason: str, starter_space: mm.Space, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        mm.export(starter_space.select("text"), tmp_path / "x", **options)


def test_a_folder_with_other_content_and_an_unknown_family_are_refused(
    starter_space: mm.Space, tmp_path: Path
) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="exists and is not an exported space"):
        mm.export(starter_space, tmp_path)
    with pytest.raises(
        InvalidInput, match="cannot be exported; these families can: starter, hf, openclip, st"
    ):
        mm.export(fake_space(), tmp_path / "new")


def test_a_clip_of_transformers_is_exported_by_the_command_line(cli: Cli, tmp_path: Path) -> None:
    saved("clip", tmp_path / "clip")
    source = mm.load(f"hf/{tmp_path / 'clip'}", device="cpu")
    output = cli("export", f"hf/{tmp_path / 'clip'}", "-o", tmp_path / "out", "--json").json()
    assert [tower["weights"] for tower in output["towers"]] == ["float32", "float32"]
    space = mm.load(f"onnx/{tmp_path / 'out'}")
    assert space.fingerprint == source.fingerprint  # no weight was rounded
    texts = ["a photo of a dog", "red " * 100, "It's 42!"]
    assert np.abs(space.encode(texts) - source.encode(texts)).max() < 1e-5
    images = [item for item in ITEMS if isinstance(item, mm.Image)]
    # transformers resizes by torchvision, the exported space by Pillow: levels differ by at most 2
    assert (space.encode(images) * source.encode(images)).sum(1).min() > 0.999


def test_openvino_files_hold_the_same_tower_and_load_without_torch(
    starter_space: mm.Space, tmp_path: Path
) -> None:
    text, words = starter_space.select("text"), ["a red apple", "rain " * 60, "?"]
    report = mm.export(text, tmp_path / "out", format="openvino", quantize="int8")
    assert report.towers[0].model == "text.xml" and report.n_bytes < 3e6
    space = mm.load(f"onnx/{tmp_path / 'out'}")
    assert "by OpenVINO" in space.runtime_info["text"]
    assert (space.encode(words) * text.encode(words)).sum(1).min() > 0.99
    code = (
        "import sys, multimodal as mm\nmm.load('onnx/' + sys.argv[1]).encode(['a dog'])\n"
        "print(sorted({'torch', 'onnxruntime', 'openvino_telemetry'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_clap_is_exported_with_its_log_mels_in_the_graph(tmp_path: Path) -> None:
    saved("clap", tmp_path / "clap")
    source = mm.load(f"hf/{tmp_path / 'clap'}", device="cpu")
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(n).astype(np.float32) / 10 for n in (3000, 16_000, 7000, 40_000)]
    items = [mm.Audio({"array": waveform, "sampling_rate": 8000}) for waveform in noise]
    report = mm.export(source.select("audio"), tmp_path / "out", sample=items)
    space = mm.load(f"onnx/{tmp_path / 'out'}")
    assert report.towers[0].weights == "float32" and space.fingerprint == source.select("audio").fingerprint
    assert np.abs(space.encode(items) - source.encode(items)).max() < 1e-5


def test_prompts_of_documents_and_queries_are_exported(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = Models.of_this_run(tmp_path_factory)("prompted")
    source = mm.load(f"st/{folder}", prompt="document", device="cpu")
    mm.export(source, tmp_path / "out")
    space, texts = mm.load(f"onnx/{tmp_path / 'out'}"), ["a dog", "two red kites, at noon"]
    documents, queries = space.encode(texts), space.query_space.encode(texts)
    assert np.abs(documents - source.encode(texts)).max() < 1e-5
    assert np.abs(queries - source.query_space.encode(texts)).max() < 1e-5
    assert np.abs(queries - documents).max() > 1e-3
    assert space.query_space.fingerprint != space.fingerprint == source.fingerprint


def test_open_clips_tokenizer_is_exported_exactly() -> None:
    tokenizer_module = pytest.importorskip("open_clip.tokenizer")
    upstream = tokenizer_module.SimpleTokenizer()
    exported = Tokens(
        {
            "tokenizer": TOKENIZER_FILE, "special": True, "max_length": 77, "overflow": "truncate",
            "padding": "max_length", "pad_id": 0, "pad_left": False, "ids": "tokens", "mask": None, "lengths": None,
            "lowercase": True, "collapse_spaces": True, "unescape_html": True,
        },
        {TOKENIZER_FILE: towers_openclip._tokenizer_json(upstream)},
    )  # fmt: skip
    texts = [
        "a photo of a DOG",
        "it's 42!",
        "naïve  café &amp; co",
        "日本 😀",
        "red " * 200,
        "don't_stop 3.14%",
    ]
    assert np.array_equal(exported([mm.Text(text) for text in texts])["tokens"], upstream(texts).numpy())


@pytest.mark.parametrize("size", [(64, 64), (300, 90), (33, 200), (20, 20)])
def test_images_are_resized_as_torchvision_does(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    upstream = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.PILToTensor(),
        ]
    )
    settings = {"pixels": "pixels", "mode": "shortest", "edge": 32, "size": [32, 32], "resample": "bicubic"}
    pixels = Resize(settings, {})([mm.Image(image)])["pixels"]
    import PIL.Image

    assert np.array_equal(pixels[0], upstream(PIL.Image.fromarray(image)).numpy())
    square = Square({"side": 64, "pixels": "pixels"}, {})([mm.Image(image)])["pixels"]
    assert np.array_equal(square[0], starter.resize_to_square(image).numpy())


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300_000), st.sampled_from([1.0, 1e-3, 0.0]), st.integers(0, 99))
def test_log_mels_equal_those_of_the_starter(n: int, loudness: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (loudness * rng.standard_normal(n) * np.hanning(n)).astype(np.float32)
    numbers = {
        k: v for k, v in towers_starter._audio_preprocessing().items() if k not in ("kind", "mels", "lengths")
    }
    windows = log_mels.speech_windows(samples, log_mels.SpeechNumbers(**numbers))  # type: ignore[arg-type]
    expected = starter.speech_windows(samples)
    assert [len(mel) for mel in windows] == [len(mel) for mel in expected]
    for mel, other in zip(windows, expected, strict=True):
        assert np.abs(mel - other.numpy()).max() < 1e-3


def run_model(model: Any, inputs: Sequence[np.ndarray[Any, Any]]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize(
    ("kind", "error", "share"), [("float32", 0, 1.01), ("float16", 1e-3, 0.6), ("int8", 2e-2, 0.4)]
)
def test_stored_weights_change_products_by_no_more_than_their_rounding(
    kind: str, error: float, share: float
) -> None:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weight, rows = (
        rng.standard_normal((128, 64)).astype(np.float32),
        rng.standard_normal((3, 128)).astype(np.float32),
    )
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    plain = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
            [helper.make_tensor_value_info("x", floats, ["n", 128])],
            [helper.make_tensor_value_info("y", floats, ["n", 64])],
            [onnx.numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    stored = graph.with_weights(plain, kind)
    scale = np.abs(rows @ weight).max()
    assert np.abs(run_model(stored, [rows]) - rows @ weight).max() <= error * scale + 1e-5
    assert stored.ByteSize() <= share * plain.ByteSize()


def test_rounding_errors_of_a_filter_cancel_on_a_plain_image() -> None:
    filters = 127 * np.random.default_rng(0).uniform(-1, 1, (16, 8, 3, 3)).astype(np.float32)
    errors = graph._rounded_filters(filters) - filters
    assert np.abs(errors.sum((2, 3))).max() <= 0.5 + 1e-4 and np.abs(errors).max() < 1
    assert np.abs((np.rint(filters) - filters).sum((2, 3))).max() > 1.5


def test_a_module_without_an_export_says_so() -> None:
    class Branching(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows if rows.sum().item() > 0 else -rows

    with pytest.raises(EncoderError, match=r"Branching cannot be exported by torch\.onnx"):
        graph.to_onnx(TowerSpec(Branching(), {"rows": torch.ones(2, 4)}, {}, {}))
