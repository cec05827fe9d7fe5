from __future__ import annotations

import hashlib
from types import ModuleType

import numpy as np
import pytest
import torch

from multimodal.core.encoder import Encoder, fingerprint_of
from multimodal.core.errors import EncoderError, InvalidInput, UnsupportedModality
from multimodal.core.items import Image, Text

TEXTS = [Text(text) for text in ("a", "a longer text", "apple")]


def test_encode_is_prepare_then_forward_then_unit_rows(toy: ModuleType) -> None:
    encoder = toy.ToyText()
    by_hand = encoder.forward(encoder.prepare(TEXTS)).numpy()
    by_hand /= np.sqrt((by_hand**2).sum(axis=1, keepdims=True))
    rows = encoder.encode(TEXTS)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, by_hand, atol=1e-6)


def test_batches_are_no_larger_than_requested_and_keep_order(toy: ModuleType) -> None:
    steps: list[int] = []
    encoder = toy.ToyText()
    rows = encoder.encode(TEXTS, batch_size=2, progress=steps.append)
    assert steps == [2, 1]
    np.testing.assert_allclose(rows, encoder.encode(TEXTS), atol=1e-5)


def test_half_precision_output_still_gives_unit_float32(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = toy.ToyText.forward
    monkeypatch.setattr(toy.ToyText, "forward", lambda self, batch: original(self, batch).bfloat16())
    rows = toy.ToyText().encode(TEXTS)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "value"),
    [(1, float("nan")), (2, float("inf")), (0, 0.0)],
)
def test_a_model_that_gives_no_direction_is_caught(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch, row: int, value: float
) -> None:
    original = toy.ToyText.forward

    def broken(self: Encoder, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        out = original(self, batch)
        out[row] = value
        return out

    monkeypatch.setattr(toy.ToyText, "forward", broken)
    with pytest.raises(
        EncoderError, match=rf"^ToyText \(text\) gave no finite direction for item {row} \(Text\("
    ):
        toy.ToyText().encode(TEXTS)


def test_a_model_that_gives_a_wrong_shape_is_caught(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.ToyText, "forward", lambda self, batch: torch.ones(len(batch["ids"]), 5))
    with pytest.raises(
        EncoderError, match=r"^ToyText \(text\) gave shape \(3, 5\) for 3 items of dim 16; forward must"
    ):
        toy.ToyText().encode(TEXTS)


def test_wrong_arguments_are_refused(toy: ModuleType) -> None:
    encoder = toy.ToyText()
    with pytest.raises(InvalidInput, match=r"^the list of items is empty; give at least one$"):
        encoder.encode([])
    with pytest.raises(InvalidInput, match=r"^batch_size must be a whole number of at least 1, got 0$"):
        encoder.encode(TEXTS, batch_size=0)
    with pytest.raises(
        InvalidInput, match=r"^item 1 is a str; Encoder.encode takes Text, Image, Audio or Video items"
    ):
        encoder.encode([Text("a"), "b"])
    with pytest.raises(
        UnsupportedModality, match=r"^item 0 is image, given to an encoder of text: encode mixed lists"
    ):
        encoder.encode([Image("x.png")])


def test_an_encoder_that_lacks_a_part_cannot_be_made() -> None:
    class Half(Encoder):
        modality = TEXTS[0].modality
        dim = 2

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_family_is_the_module_in_the_room_unless_the_class_says_another(toy: ModuleType) -> None:
    assert toy.ToyText().family == "toy"


def test_the_fingerprint_is_sha256_over_names_types_shapes_and_bytes() -> None:
    weights = {"b": torch.ones(2, 1), "a": torch.tensor(3, dtype=torch.int16)}
    expected = hashlib.sha256(
        b'{"x": 1}\na torch.int16 ()\n\x03\x00\nb torch.float32 (2, 1)\n' + np.ones(2, "<f4").tobytes()
    )
    assert fingerprint_of({"x": 1}, weights) == expected.hexdigest()


def test_the_fingerprint_sees_any_change_of_weights() -> None:
    base = fingerprint_of({}, {"w": torch.zeros(4)})
    nudged = torch.zeros(4)
    nudged[3] = 1e-30
    others = [
        {"w": nudged},
        {"v": torch.zeros(4)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(4).bfloat16()},
        {},
    ]
    assert len({base, *(fingerprint_of({}, other) for other in others)}) == 6


def test_the_fingerprint_does_not_depend_on_how_memory_is_laid_out() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    assert fingerprint_of({}, {"w": weight.T}) == fingerprint_of({}, {"w": weight.T.contiguous()})


def test_a_config_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^a configuration must be made of JSON values: "):
        fingerprint_of({"x": torch.ones(1)}, {})
    with pytest.raises(InvalidInput, match=r"^a configuration must be made of JSON values: "):
        fingerprint_of({"x": float("nan")}, {})
