from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import (
    CorruptSpace,
    InvalidInput,
    SpaceMismatch,
    UnknownModel,
    UnsupportedModality,
)
from multimodal.core.items import Audio, Image, Text
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space
from multimodal.core.vectors import logistic, unit_rows

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
RED = np.full((6, 4, 3), (255, 0, 0), dtype=np.uint8)
BEEP = {"array": np.sin(np.arange(4_000) * 0.3), "sampling_rate": 8_000}
MIXED = ["a red apple", RED, BEEP, "bell", PIL.Image.new("RGB", (3, 3), "blue"), Text("apple")]


def test_a_mixed_list_comes_back_in_the_order_given(space: Space) -> None:
    together = space.encode(MIXED)
    alone = np.stack([space.encode(item) for item in MIXED])
    assert together.shape == (6, space.dim) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_mixed_list_takes_one_encoder_call_for_each_modality(
    space: Space, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = toy.ToyText.forward
    monkeypatch.setattr(
        toy.ToyText, "forward", lambda self, batch: sizes.append(len(batch["ids"])) or original(self, batch)
    )
    space.encode(MIXED)
    assert sizes == [3]


def test_one_item_gives_one_vector_and_a_list_of_one_gives_a_matrix(space: Space) -> None:
    assert space.encode("bell").shape == (space.dim,)
    assert space.encode(["bell"]).shape == (1, space.dim)
    assert space.encode(("bell", RED)).shape == (2, space.dim)


def test_the_same_item_gives_the_same_bits_in_every_call(space: Space) -> None:
    assert space.encode(MIXED).tobytes() == space.encode(MIXED).tobytes()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=12), st.integers(1, 5)
)
@pytest.mark.filterwarnings("ignore::multimodal.core.errors.PathLikeTextWarning")
def test_the_company_an_item_keeps_does_not_change_its_vector(texts: list[str], batch_size: int) -> None:
    from tests.core.families import toy

    space = toy.load()
    np.testing.assert_allclose(
        space.encode(texts, batch_size=batch_size),
        np.stack([space.encode(t) for t in texts]),
        rtol=0,
        atol=1e-5,
    )


def test_progress_adds_up_to_the_number_of_items(space: Space) -> None:
    steps: list[int] = []
    space.encode(MIXED, batch_size=2, progress=steps.append)
    assert sum(steps) == len(MIXED) and max(steps) <= 2


def test_an_empty_list_gives_no_rows(space: Space) -> None:
    assert space.encode([]).shape == (0, space.dim)


def test_an_item_of_a_modality_the_space_lacks_names_those_it_has(toy: ModuleType) -> None:
    space = Space([toy.ToyText(), toy.ToyImage()], name="eyes")
    with pytest.raises(
        UnsupportedModality, match=r"^audio given to a space with text, image: 'eyes' cannot encode it; "
    ):
        space.encode(["a", Audio(BEEP)])


def test_similarity_is_the_cosine_of_every_pair(space: Space) -> None:
    vectors = space.encode(MIXED)
    brute = [[sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) for b in vectors] for a in vectors]
    np.testing.assert_allclose(space.similarity(MIXED, vectors), brute, atol=1e-5)
    assert space.similarity("bell", MIXED).shape == (1, 6)
    assert space.similarity(vectors[0], list(vectors)).shape == (1, 6)
    assert space.similarity(vectors * 7, vectors).max() <= 1.0  # length does not count


def test_similarity_refuses_vectors_that_cannot_be_of_this_space(space: Space) -> None:
    with pytest.raises(
        InvalidInput,
        match=re.escape(
            "vectors of shape (2, 100) given where (n, 16) or (16,) is due; were they made by another space?"
        ),
    ):
        space.similarity(np.ones((2, 100), dtype=np.float32), "bell")
    broken = np.ones((3, 16), dtype=np.float32)
    broken[1, 5] = np.nan
    with pytest.raises(InvalidInput, match=r"^vectors must be finite: NaN or infinity in row 1$"):
        space.similarity(broken, "bell")
    with pytest.raises(
        InvalidInput, match=r"^vectors must have a direction: zero \(or infinite\) length in row 0$"
    ):
        space.similarity(np.zeros(16), "bell")
    with pytest.raises(InvalidInput, match=r"^no vectors given; at least one is needed$"):
        space.similarity(np.zeros((0, 16)), "bell")


def test_many_bad_rows_are_counted_and_not_all_listed() -> None:
    with pytest.raises(InvalidInput, match=r"in row 0, 1, 2, 3, 4 … \(9 in all\)$"):
        unit_rows(np.full((9, 4), np.inf), 4)


def test_unit_rows_leaves_the_callers_array_alone() -> None:
    given_rows = np.full((2, 4), 3.0, dtype=np.float32)
    rows = unit_rows(given_rows, 4)
    assert (given_rows == 3).all()
    np.testing.assert_allclose(rows, 0.5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_probabilities_use_the_models_own_scale_bias_and_kind(toy: ModuleType, kind: str) -> None:
    space = Space([toy.ToyText(), toy.ToyImage()], LogitScale(scale=7.0, bias=-2.0, activation=kind))  # type: ignore[arg-type]
    words = ["red", "blue", "green"]
    logits = 7.0 * space.similarity([RED], words).astype(np.float64) - 2.0
    expected = (
        np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        if kind == "softmax"
        else 1 / (1 + np.exp(-logits))
    )
    np.testing.assert_allclose(space.probabilities([RED], words), expected, atol=1e-6)


def test_kind_overrides_how_the_model_was_trained(toy: ModuleType) -> None:
    space = Space([toy.ToyText()], LogitScale(scale=3.0, bias=-9.0, activation="sigmoid"))
    assert space.probabilities("a", ["b", "c"]).sum() < 0.1
    np.testing.assert_allclose(space.probabilities("a", ["b", "c"], activation="softmax").sum(), 1, atol=1e-6)


def test_a_pair_of_modalities_may_have_its_own_head_in_either_order(toy: ModuleType) -> None:
    sharp, dull = LogitScale(100.0), LogitScale(0.001)
    space = Space([k() for k in toy.KINDS.values()], {(IMAGE, TEXT): sharp, None: dull})
    words = ["red", "blue"]
    assert space.logit_scale_for(TEXT, IMAGE) is sharp and space.logit_scale_for("audio", "text") is dull
    np.testing.assert_allclose(space.probabilities(BEEP, words), 0.5, atol=1e-3)
    by_item = space.probabilities(Image(RED), words)
    assert abs(by_item[0, 0] - 0.5) > 0.1
    by_vector = space.probabilities(space.encode(RED), space.encode(words), modalities=("image", "text"))
    np.testing.assert_allclose(by_vector, by_item, atol=1e-6)


def test_a_missing_head_is_refused_and_not_invented(toy: ModuleType) -> None:
    with pytest.raises(
        InvalidInput, match=r"^space 'space' has no logit scale, so only cosines are known: use similarity"
    ):
        Space([toy.ToyText()]).probabilities("a", ["b"])
    space = Space([k() for k in toy.KINDS.values()], {(IMAGE, TEXT): LogitScale(1.0)})
    with pytest.raises(
        InvalidInput, match=r"^no logit scale for audio-text in space 'space', which has image-text: use"
    ):
        space.probabilities(BEEP, ["b"])
    with pytest.raises(
        InvalidInput, match=r"^this space has a logit scale for each pair of modalities, and vectors do not"
    ):
        space.probabilities(space.encode(RED), ["b"])


def test_one_row_cannot_mix_softmax_and_sigmoid(toy: ModuleType) -> None:
    heads = {(TEXT, IMAGE): LogitScale(1.0), (TEXT, TEXT): LogitScale(1.0, activation="sigmoid")}
    space = Space([toy.ToyText(), toy.ToyImage()], heads)
    with pytest.raises(
        InvalidInput, match=r"^these pairs mix softmax and sigmoid logit scales; compare one pair"
    ):
        space.probabilities("a", ["b", RED])


def test_extreme_scores_neither_overflow_nor_warn(toy: ModuleType) -> None:
    space = Space([toy.ToyText()], LogitScale(scale=1e6))
    assert np.isfinite(space.probabilities("a", ["a", "zzz"])).all()
    np.testing.assert_array_equal(logistic(np.array([-1e9, 0.0, 1e9])), [0, 0.5, 1])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LogitScale(0.0), "scale must be finite and above 0, got 0.0; is it still a logarithm?"),
        (
            lambda: LogitScale(float("nan")),
            "scale must be finite and above 0, got nan; is it still a logarithm?",
        ),
        (lambda: LogitScale(1.0, float("inf")), "bias must be finite, got inf"),
        (lambda: LogitScale(1.0, activation="soft"), "activation must be 'softmax' or 'sigmoid', got 'soft'"),  # type: ignore[arg-type]
        (lambda: Space([]), "a space needs at least one encoder, got none"),
    ],
)
def test_impossible_heads_and_spaces_are_refused(make: object, text: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(text) + "$"):
        make()  # type: ignore[operator]


def test_encoders_that_cannot_share_a_space_are_refused(toy: ModuleType) -> None:
    wide = type("Wide", (toy.ToyImage,), {"dim": 99})()
    with pytest.raises(
        SpaceMismatch, match=r"^these encoders do not share one space, .* size: text 16, image 99$"
    ):
        Space([toy.ToyText(), wide])
    with pytest.raises(
        InvalidInput, match=r"^two encoders of text given; a space has one for each modality$"
    ):
        Space([toy.ToyText(), toy.ToyText()])
    with pytest.raises(InvalidInput, match=r"^the encoder given for image encodes text$"):
        Space({IMAGE: toy.ToyText()})


def test_a_saved_space_gives_the_same_bits_again(space: Space, tmp_path: Path) -> None:
    space.logit_scales = {(IMAGE, TEXT): LogitScale(3.0, 1.0, "sigmoid"), None: LogitScale(4.0)}
    space.save_pretrained(tmp_path / "deep" / "saved")
    again = Space.from_pretrained(tmp_path / "deep" / "saved")
    assert again.encode(MIXED).tobytes() == space.encode(MIXED).tobytes()
    assert again.fingerprint == space.fingerprint
    assert (again.name, again.card, again.logit_scales, again.modalities) == (
        space.name,
        space.card,
        space.logit_scales,
        space.modalities,
    )
    files = sorted(path.name for path in (tmp_path / "deep" / "saved").iterdir())
    assert files == ["audio.safetensors", "config.json", "image.safetensors", "text.safetensors"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["saved"]  # no scratch left behind


def test_preprocessing_that_is_not_the_default_survives_saving(toy: ModuleType, tmp_path: Path) -> None:
    space = Space([toy.ToyText({"lower": False})])
    space.save_pretrained(tmp_path / "s")
    again = Space.from_pretrained(tmp_path / "s")
    assert (
        again.encode("APPLE").tobytes()
        == space.encode("APPLE").tobytes()
        != toy.load().encode("APPLE").tobytes()
    )


def test_a_save_that_fails_leaves_the_old_one_whole(
    space: Space, toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    space.save_pretrained(folder)

    def fail(self: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(toy.ToyAudio, "state_dict", fail)
    with pytest.raises(OSError, match="disk full"):
        Space([toy.ToyText(), toy.ToyAudio()], name="other").save_pretrained(folder)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert json.loads((folder / "config.json").read_text())["name"] == "toy"


def test_saving_again_replaces_the_whole_folder(space: Space, toy: ModuleType, tmp_path: Path) -> None:
    space.save_pretrained(tmp_path / "saved")
    Space([toy.ToyText()], name="words").save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "text.safetensors"]
    assert Space.from_pretrained(tmp_path / "saved").modalities == (TEXT,)


def test_saving_never_replaces_what_is_not_a_space(space: Space, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        InvalidInput, match=r"exists and is not a saved space; save to a new or empty folder$"
    ):
        space.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_tied_weights_can_be_saved(
    space: Space, toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.ToyText, "state_dict", lambda self: {"weight": self.weight, "tied": self.weight})
    space.save_pretrained(tmp_path / "s")
    assert Space.from_pretrained(tmp_path / "s").encode("a").tobytes() == space.encode("a").tobytes()


def test_an_encoder_from_outside_the_families_cannot_be_saved(tmp_path: Path) -> None:
    from tests.core.families import toy as stranger

    with pytest.raises(
        InvalidInput,
        match=r"^ToyText cannot be rebuilt from a saved space: its module 'tests.core",
    ):
        Space([stranger.ToyText()]).save_pretrained(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_damaged_folder_says_what_is_wrong(space: Space, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with pytest.raises(
        UnknownModel, match=r"^no space is saved in .*: it has no config.json; Space.save_pretrained"
    ):
        Space.from_pretrained(folder)
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(
        UnknownModel, match=r"holds an adapter, not a space: load the model .* with adapter='"
    ):
        Space.from_pretrained(folder)
    (folder / "adapter_config.json").unlink()
    space.save_pretrained(folder)
    weights = folder / "text.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(
        CorruptSpace, match=r"^the weights .*text.safetensors are missing or damaged \(.*; copy or save"
    ):
        Space.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(CorruptSpace, match=r"^the weights .*text.safetensors are missing or damaged"):
        Space.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda c: c["encoders"]["text"].update(family="os.path"),
            "names the family 'os.path', which is not a valid family name",
        ),
        (
            lambda c: c["encoders"]["text"].update(family="gone"),
            "needs the encoder family 'gone', which is not installed",
        ),
        (lambda c: c.update(format=99), "has format 99, this version reads up to 2: upgrade multimodal"),
        (lambda c: c.pop("format"), "is not the configuration of a space: it has no 'format'"),
        (lambda c: c.pop("logit_scales"), "is not as Space.save_pretrained writes it: KeyError"),
        (lambda c: c["encoders"].update(smell={}), "is not as Space.save_pretrained writes it: InvalidInput"),
    ],
)
def test_a_config_that_was_tampered_with_is_refused(
    space: Space, tmp_path: Path, change: object, text: str
) -> None:
    space.save_pretrained(tmp_path / "s")
    path = tmp_path / "s" / "config.json"
    config = json.loads(path.read_text())
    change(config)  # type: ignore[operator]
    path.write_text(json.dumps(config))
    with pytest.raises(CorruptSpace, match=re.escape(text)):
        Space.from_pretrained(tmp_path / "s")


def test_a_config_that_is_not_json_is_refused(space: Space, tmp_path: Path) -> None:
    space.save_pretrained(tmp_path / "s")
    (tmp_path / "s" / "config.json").write_text('{"format": 1,')
    with pytest.raises(CorruptSpace, match=r"config.json is not valid JSON \(.*\); save the space again$"):
        Space.from_pretrained(tmp_path / "s")


def test_the_fingerprint_is_of_weights_and_preprocessing_and_nothing_else(toy: ModuleType) -> None:
    base = Space([toy.ToyText(), toy.ToyImage()], LogitScale(1.0), name="a").fingerprint
    assert len(base) == 64
    assert Space([toy.ToyImage(), toy.ToyText()], LogitScale(9.0), name="b").fingerprint == base
    assert Space([toy.ToyText(), toy.ToyImage(seed=1)]).fingerprint != base
    assert Space([toy.ToyText({"lower": False}), toy.ToyImage()]).fingerprint != base
    assert Space([toy.ToyText()]).fingerprint != base


def test_a_space_shows_itself(space: Space) -> None:
    assert repr(space) == "Space('toy', text + image + audio, dim=16)"
    space.name = "<script>"
    shown = space._repr_html_()
    assert "&lt;script&gt;" in shown and "<script>" not in shown and "ToyAudio" in shown


def test_a_logit_scale_says_itself_in_plain_values() -> None:
    assert json.dumps(LogitScale(2.0).to_dict()) == '{"scale": 2.0, "bias": 0.0, "activation": "softmax"}'


def test_encoding_needs_no_grad_and_leaves_the_global_state_alone(space: Space) -> None:
    space.encode("a")
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_another_librarys_checkpoint_is_not_taken_for_a_space_and_overwritten(
    toy: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(
        InvalidInput, match=r"exists and is not a saved space; save to a new or empty folder$"
    ):
        Space([toy.ToyText()]).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "clip"}'


def test_a_name_that_is_no_modality_is_refused_with_those_there_are(space: Space) -> None:
    with pytest.raises(InvalidInput, match=r"^a modality is one of text, image, audio, video, got 'smell'$"):
        space.select("smell")
