"""What cannot be bridged is refused with what was got, what was expected and the cure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

import multimodal as mm
from multimodal.adapt import bridge
from multimodal.core.encoder import EncoderState
from multimodal.core.errors import (
    CorruptSpace,
    InvalidInput,
    MediaNotFound,
    SpaceMismatch,
    UnsupportedModality,
)
from multimodal.core.projector import Projector
from multimodal.core.space import Space
from tests.adapt.conftest import sentences

CORPUS = sentences(300)
MORE = "at least 200 are needed for training and 40 held-out items"


def refuses(kind: type[Exception], text: str):  # type: ignore[no-untyped-def]
    """The whole message, word for word."""
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_spaces_without_a_common_modality(ears: Space, eyes: Space) -> None:
    with refuses(
        SpaceMismatch,
        "these spaces have no modality in common: 'apart/ears' has audio, 'apart/eyes' has text, image; a bridge "
        "needs one that both encode",
    ):
        bridge(ears.select("audio"), eyes, corpus=CORPUS)


def test_over_a_modality_that_one_of_them_lacks(ears: Space, eyes: Space) -> None:
    with refuses(
        UnsupportedModality,
        "over='image' needs a modality that both encode, which is text: 'apart/ears' has text, audio, 'apart/eyes' has "
        "text, image",
    ):
        bridge(ears, eyes, "image", corpus=CORPUS)


def test_over_a_word_that_is_no_modality(ears: Space, eyes: Space) -> None:
    with refuses(InvalidInput, "over must be one of 'text', 'image', 'audio', 'video', got 'smell'"):
        bridge(ears, eyes, "smell", corpus=CORPUS)


def test_nothing_to_bring_over(ears: Space, eyes: Space) -> None:
    with refuses(
        InvalidInput,
        "there is nothing to add: 'apart/ears' has text, 'apart/eyes' has text, image; the first space must encode a "
        "modality that the second does not (try the other order)",
    ):
        bridge(ears.select("text"), eyes, corpus=CORPUS)


@pytest.mark.parametrize("corpus", [[], ["", "  "]])
def test_an_empty_corpus(ears: Space, eyes: Space, corpus: list[str]) -> None:
    with refuses(InvalidInput, f"the corpus is empty: {MORE}"):
        bridge(ears, eyes, corpus=corpus)


def test_a_corpus_that_is_too_small(ears: Space, eyes: Space) -> None:
    with refuses(InvalidInput, f"the corpus has 199 distinct texts: {MORE}"):
        bridge(ears, eyes, corpus=CORPUS[:199])
    assert bridge(ears, eyes, corpus=CORPUS[:200], method="ridge").report.n_texts == 200


def test_a_corpus_of_one_repeated_line(ears: Space, eyes: Space, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("a red apple\n" * 5000)
    with refuses(
        InvalidInput,
        f"the corpus has 1 distinct text in 5,000 lines ('a red apple' occurs 5,000 times): {MORE}",
    ):
        bridge(ears, eyes, corpus=tmp_path / "same.txt")


def test_a_corpus_that_most_of_cannot_be_encoded(ears: Space, eyes: Space) -> None:
    broken = [f"{text} \ud800" for text in CORPUS[:150]]
    with refuses(InvalidInput, f"only 150 of 300 corpus items could be encoded by both spaces: {MORE}"):
        bridge(ears, eyes, corpus=[*CORPUS[150:], *broken])


def test_a_corpus_with_another_modality_in_it(apart: ModuleType, ears: Space, eyes: Space) -> None:
    with refuses(
        InvalidInput,
        "corpus item 2 is audio, but the bridge is over text: use text only (pass other media, unpaired, as media=)",
    ):
        bridge(ears, eyes, corpus=["bab", "del", apart.heard("bab"), *CORPUS])


def test_a_corpus_that_is_not_there(ears: Space, eyes: Space, tmp_path: Path) -> None:
    explained = "the corpus is a text file with one text per line, or a list of texts"
    with refuses(MediaNotFound, f"{tmp_path / 'no.txt'}: no such file; {explained}"):
        bridge(ears, eyes, corpus=tmp_path / "no.txt")
    with refuses(MediaNotFound, f"{tmp_path}: a folder, not a file; {explained}"):
        bridge(ears, eyes, corpus=tmp_path)


def test_a_corpus_that_is_no_text_file(ears: Space, eyes: Space, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(
        InvalidInput, match=r"x\.txt: is not valid UTF-8 \(.*\); save it as UTF-8 with one text per line$"
    ):
        bridge(ears, eyes, corpus=tmp_path / "x.txt")


def test_a_corpus_that_is_no_list(ears: Space, eyes: Space) -> None:
    with refuses(InvalidInput, "expected a list of items or a path, got int"):
        bridge(ears, eyes, corpus=7)


def test_media_that_neither_space_can_use(apart: ModuleType, ears: Space, eyes: Space) -> None:
    with refuses(
        UnsupportedModality, "media item 1 is text, which this bridge cannot use: pass audio or image"
    ):
        bridge(ears, eyes, corpus=CORPUS, media=[apart.heard("bab"), "bab"])


def test_media_that_are_not_there(ears: Space, eyes: Space, tmp_path: Path) -> None:
    with refuses(MediaNotFound, f"{tmp_path / 'no'}: no such folder or file; check the path"):
        bridge(ears, eyes, corpus=CORPUS, media=str(tmp_path / "no"))


def test_an_unknown_method_and_a_seed_that_is_none(ears: Space, eyes: Space) -> None:
    with refuses(InvalidInput, "method must be one of 'kernel', 'mlp', 'procrustes', 'ridge', got 'magic'"):
        bridge(ears, eyes, corpus=CORPUS, method="magic")  # type: ignore[arg-type]
    with refuses(InvalidInput, "seed must be an integer of at least 0, got -1"):
        bridge(ears, eyes, corpus=CORPUS, seed=-1)


def test_an_out_folder_that_is_something_else(ears: Space, eyes: Space, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    eyes.save_pretrained(tmp_path / "space")
    for name, what in (("file", "a file"), ("photos", "a folder"), ("space", "a saved space")):
        with refuses(
            InvalidInput,
            f"{tmp_path / name} is {what} that bridge did not write; pass a new or empty folder as out=",
        ):
            bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / name)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"
    assert mm.load(tmp_path / "space").fingerprint == eyes.fingerprint


def test_an_out_folder_with_another_job(ears: Space, eyes: Space, tmp_path: Path) -> None:
    bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "done")
    with refuses(
        InvalidInput,
        f"{tmp_path / 'done'} contains a finished bridge of another job (different: corpus, seed); pass another "
        "folder as out=, or delete that one",
    ):
        bridge(ears, eyes, corpus=CORPUS[:250], method="ridge", seed=2, out=tmp_path / "done")

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bridge(ears, eyes, corpus=CORPUS, method="mlp", out=tmp_path / "begun", progress=stop)
    with pytest.raises(
        InvalidInput, match=r"begun contains an unfinished bridge of another job \(different: method\); pass"
    ):
        bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "begun")


def test_an_out_folder_whose_report_is_damaged(ears: Space, eyes: Space, tmp_path: Path) -> None:
    bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    (tmp_path / "j" / "bridge.json").write_text("{")
    with pytest.raises(
        CorruptSpace, match=r"bridge\.json is not valid JSON .*; delete its folder and build the bridge"
    ):
        bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    (tmp_path / "j" / "bridge.json").write_text("{}")
    with pytest.raises(
        CorruptSpace,
        match=r"bridge\.json does not have the expected contents; delete its folder and build the",
    ):
        bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")


def test_a_projector_of_another_size_than_the_encoders_vectors(apart: ModuleType, ears: Space) -> None:
    from multimodal.encoders.bridged import BridgedEncoder

    with refuses(
        SpaceMismatch,
        "the projector takes vectors of 32 dimensions, but EarsAudio (audio) returns 20; it was made for "
        "another encoder",
    ):
        BridgedEncoder(ears.encoders[mm.Modality.AUDIO], Projector(32, 16))


@pytest.mark.parametrize(("shape", "problem"), [((16, 7), "has shape (16, 7)"), (None, "is missing")])
def test_saved_weights_that_do_not_fit(
    ears: Space, eyes: Space, tmp_path: Path, shape: tuple[int, int] | None, problem: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    tensors = load_file(tmp_path / "j" / "audio.safetensors")
    del tensors["projector.linear.weight"]
    if shape:
        tensors["projector.linear.weight"] = torch.zeros(shape)
    save_file(tensors, tmp_path / "j" / "audio.safetensors")
    with refuses(
        CorruptSpace,
        f"the bridge's weight 'linear.weight' {problem}, expected shape (16, 20); fit the bridge again",
    ):
        mm.load(tmp_path / "j")


def test_an_encoder_within_whose_family_is_gone(ears: Space, eyes: Space, tmp_path: Path) -> None:
    bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    config = json.loads((tmp_path / "j" / "config.json").read_text())
    config["encoders"]["audio"]["config"]["encoder"]["family"] = "gone"
    (tmp_path / "j" / "config.json").write_text(json.dumps(config))
    with refuses(
        CorruptSpace,
        "the saved encoder needs the encoder family 'gone', which is not installed: upgrade multimodal, "
        "install the package that provides it, or call multimodal.register_family first",
    ):
        mm.load(tmp_path / "j")


def test_an_encoder_from_outside_the_room_cannot_be_bridged(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path
) -> None:
    class Stranger(apart.EarsAudio):  # type: ignore[name-defined, misc]
        pass

    class Onlooker(apart.EyesImage):  # type: ignore[name-defined, misc]
        pass

    cure = (
        "its module 'tests.adapt.test_bad_input' belongs to no encoder family; register it with "
        "multimodal.register_family(name, module)"
    )
    hears = Space([ears.encoders[mm.Modality.TEXT], Stranger()], name="mine")
    with refuses(InvalidInput, f"cannot bridge Stranger: {cure}"):
        bridge(hears, eyes, corpus=CORPUS, method="ridge")
    sees = Space([eyes.encoders[mm.Modality.TEXT], Onlooker()], name="mine")
    with refuses(InvalidInput, f"cannot bridge Onlooker: {cure}"):
        bridge(ears, sees, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    assert hears.encoders[mm.Modality.TEXT].seen == sees.encoders[mm.Modality.TEXT].seen == 0  # type: ignore[attr-defined]
    assert bridge(ears, sees, corpus=CORPUS, method="ridge").report.trusted


def test_a_bridge_has_no_name_of_its_own() -> None:
    with refuses(
        mm.MultimodalError,
        "'bridged/clip-hears' is not a model: create a bridge of two spaces with multimodal.adapt.bridge(a, b, "
        "corpus=…, out='my-bridge') and load it from its folder, load('./my-bridge')",
    ):
        mm.load("bridged/clip-hears")


def test_a_saved_encoder_with_stray_tensors_is_corrupt(ears: Space) -> None:
    import torch

    from multimodal.core.backends.runtime import Runtime
    from multimodal.encoders import bridged

    saved = EncoderState(mm.Modality.AUDIO, {"projector": {}, "encoder": {}}, {"stray": torch.zeros(1)})
    with pytest.raises(KeyError):  # which a saved space reports as CorruptSpace
        bridged.from_config(saved, Runtime())
