"""engine="openvino": what it computes is what PyTorch computes, or it says that it cannot."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import multimodal as mm
from multimodal.core.backends import openvino
from multimodal.core.backends.openvino import Program
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import EncoderError, InvalidInput, MissingExtra
from tests.encoders.hf import hf_cases
from tests.encoders.hf.hf_cases import ITEMS, case
from tests.encoders.openclip.openclip_checkpoints import PIXELS, TEXTS, Expected, architecture, published
from tests.encoders.promise import LEAST, centred_cosine, fast_bfloat16

__all__ = ["architecture", "fast_bfloat16", "published"]  # fixtures

pytest.importorskip("openvino")
EXACT = 1e-5
Published = Callable[[str], Expected]


@pytest.mark.parametrize(("kind", "modalities"), [("clip", ["image"]), ("clap", ["text", "audio"])])
def test_vectors_are_upstreams_own(kind: str, modalities: list[str]) -> None:
    """Each kind of tower once, since exporting one takes seconds."""
    expected = hf_cases.by_hand(case(kind))
    space = mm.load(f"hf/{case(kind).folder}", engine="openvino")
    assert space.fingerprint == case(kind).space.fingerprint
    assert set(space.runtime_info.values()) == {"cpu float32 by OpenVINO"}
    for modality in map(mm.Modality, modalities):
        assert np.abs(space.encode(ITEMS[modality]) - expected[modality]).max() <= EXACT, modality
        alone = np.concatenate([space.encode(item) for item in ITEMS[modality]]).reshape(
            expected[modality].shape
        )
        assert np.abs(alone - expected[modality]).max() <= EXACT, modality
        assert all(space.encoders[modality]._program._is_right.values())


def test_vectors_are_open_clips_own(published: Published) -> None:
    expected = published("roberta-ViT-B-32")
    space = mm.load(expected.name, engine="openvino")
    assert np.abs(space.encode(TEXTS) - expected.texts).max() <= EXACT


def test_auto_rounds_only_what_a_trial_bears_out(
    published: Published, fast_bfloat16: None, tmp_path: Any
) -> None:
    expected = published("ViT-B-32")
    expected.space.select("text").save_pretrained(
        tmp_path / "s"
    )  # the trial of images takes as long once more
    auto = mm.load(tmp_path / "s", engine="openvino", precision="auto")
    decision, exact = auto.encoders["text"].precision_decision, expected.space.encode(TEXTS)
    assert centred_cosine(exact, auto.encode(TEXTS)) >= LEAST
    assert auto.encoders["text"]._program.bfloat16 == decision.bfloat16
    assert (decision.cosine >= 0.9997) == decision.bfloat16
    assert auto.runtime_info["text"].endswith(f"by OpenVINO (auto: {decision.why})")


def test_bfloat16_by_name_rounds_without_asking(published: Published) -> None:
    space = mm.load(published("ViT-B-32").name, engine="openvino", precision="bfloat16")
    assert space.runtime_info["image"] == "cpu bfloat16 matrices by OpenVINO"
    space.encode(PIXELS)
    assert space.encoders["image"]._program.bfloat16
    assert {parameter.dtype for parameter in space.encoders["image"].net.parameters()} == {torch.float32}


def test_a_saved_space_takes_the_engine_and_travels(published: Published, tmp_path: Any) -> None:
    expected = published("ViT-B-32")
    expected.space.save_pretrained(tmp_path / "s")
    space = mm.load(tmp_path / "s", engine="openvino")
    images = [mm.Image(image) for image in PIXELS]
    assert np.abs(space.encode(images) - expected.images).max() <= EXACT
    again = pickle.loads(pickle.dumps(space.encoders["image"]))
    assert np.abs(again.encode(images) - expected.images).max() <= EXACT


def test_a_net_that_cannot_be_run_is_reported_at_once_and_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """CLAP's fusion asks which sounds are long, which a graph cannot."""
    space = mm.load(f"hf/{case('clap_fused').folder}", engine="openvino")
    capfd.readouterr()
    for _ in range(2):
        with pytest.raises(EncoderError) as caught:
            space.encode(ITEMS["audio"])
        assert str(caught.value).startswith("OpenVINO cannot run ClapModel (Could not extract")
        assert str(caught.value).endswith("; leave out engine='openvino'")
    assert capfd.readouterr() == ("", "")


class Halves(nn.Module):
    """Right for even lengths of some number, as an export sees it: half of them count."""

    def forward(self, x: Tensor) -> Tensor:
        half = 8 if x.shape[1] > 16 else x.shape[1] // 2
        return torch.stack([x[:, :half].sum(1), x[:, half:].sum(1) + 1], 1)


def test_lengths_for_which_an_export_does_not_hold_go_pytorchs_way() -> None:
    net = Halves()
    program = Program(net, lambda net, inputs: net(inputs["x"]), bfloat16=False)
    rng = torch.Generator().manual_seed(0)
    for length in (10, 12, 40, 12, 40):
        for n in (1, 5):
            x = torch.randn(n, length, generator=rng)
            assert torch.allclose(program({"x": x}), net(x), atol=1e-5), length
    assert list(program._is_right.values()) == [True, True, False]


def test_what_gives_other_vectors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = openvino._compile

    def wrong(*args: Any) -> Any:
        run = compiled(*args)
        return lambda arrays: [run(arrays)[0][:, ::-1]]

    monkeypatch.setattr(openvino, "_compile", wrong)
    program = Program(nn.Linear(3, 2), lambda net, inputs: net(inputs["x"]), bfloat16=False)
    message = r"^OpenVINO gives other vectors than PyTorch for Linear \("
    with torch.no_grad(), pytest.raises(EncoderError, match=message):
        program({"x": torch.eye(3)})


def test_plain_torch_is_reported(tmp_path: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"^'starter' runs by torch alone, got engine='openvino': leave it out$"
    ):
        mm.load("starter", engine="openvino")
    mm.load("starter", device="cpu", engine="torch").select("text").save_pretrained(tmp_path / "s")
    with pytest.raises(InvalidInput, match=r"runs by torch alone, got engine='openvino': leave it out$"):
        mm.load(tmp_path / "s", engine="openvino")


def test_bad_engines_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"^engine must be one of 'torch', 'openvino', got 'onnx'$"):
        Runtime(engine="onnx")  # type: ignore[arg-type]
    with pytest.raises(
        InvalidInput, match=r"^engine='openvino' runs on the CPU, got device='meta'; write 'cpu'$"
    ):
        Runtime("meta", engine="openvino")


def test_where_it_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        Runtime(engine="openvino")
    assert str(caught.value) == "engine='openvino' needs openvino: pip install 'multimodal[openvino]'"


def test_no_telemetry_is_sent() -> None:
    """openvino reports its import over the network, if openvino_telemetry is installed."""
    code = (
        "from multimodal.core.backends.openvino import openvino; import sys; openvino(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "openvino" in loaded and not any(name.startswith("openvino_telemetry") for name in loaded)
