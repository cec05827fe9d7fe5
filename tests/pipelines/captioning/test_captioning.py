"""Captions of the starter: out of a picture, a clip, a text or a vector, by one decoder; and what is refused."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import CorruptSpace, EncoderError, InvalidInput, SpaceMismatch
from multimodal.core.paths import assets
from multimodal.core.space import Space
from multimodal.pipelines.captioning.backends import space as space_backend
from multimodal.pipelines.captioning.options import Caption

GALLERY = assets() / "gallery"
DECODER = assets() / "starter" / "decoders"


@pytest.fixture(scope="module")
def tell() -> mm.CaptioningPipeline:
    """The starter's captioner; not to be changed."""
    result: mm.CaptioningPipeline = mm.pipeline("captioning", device="cpu")
    return result


@pytest.fixture(scope="module")
def space(tell: mm.CaptioningPipeline) -> Space:
    return tell.backend.space  # type: ignore[attr-defined, no-any-return]


def items(folder: str) -> list[tuple[Path, str]]:
    """The files of the gallery that show or say one thing, and its name."""
    files = sorted(path for path in (GALLERY / folder).iterdir() if path.suffix in (".jpg", ".flac", ".png"))
    return [(path, path.stem.replace("-", " ")) for path in files]


def test_what_captions_an_image_captions_a_clip_a_text_and_a_vector(
    tell: mm.CaptioningPipeline, space: Space
) -> None:
    image, clip = mm.Image(GALLERY / "pictures/trumpet.jpg"), mm.Audio(GALLERY / "sounds/trumpet.flac")
    result = tell([image, clip, "a trumpet", space.encode("a picture of a trumpet")])
    assert [item.text for item in result] == ["trumpet"] * 4
    assert [item.modality for item in result] == ["image", "audio", "text", None]


def test_most_clips_of_the_gallery_are_called_by_their_name(tell: mm.CaptioningPipeline) -> None:
    clips = [(path, name) for path, name in items("sounds")]
    result = tell([mm.Audio(path) for path, _ in clips])
    right = sum(name.split()[-1] in item.text.split() for item, (_, name) in zip(result, clips, strict=True))
    assert right >= 0.8 * len(clips), [
        (item.text, name) for item, (_, name) in zip(result, clips, strict=True)
    ]


def test_most_images_of_the_gallery_are_called_by_their_name(tell: mm.CaptioningPipeline) -> None:
    images = items("pictures")
    result = tell([mm.Image(path) for path, _ in images])
    named = [(item.text, name) for item, (_, name) in zip(result, images, strict=True)]
    right = sum(any(word in text.split() for word in name.split() if len(word) > 2) for text, name in named)
    assert right >= 0.7 * len(images), named


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a small blue strawberry", "a small blue strawberry"),
        ("one tiny blue strawberry", "a small blue strawberry"),
        ("a picture of a purple elephant", "a purple elephant"),
        ("this is a musical keyboard", "musical keyboard"),
    ],
)
def test_words_are_said_in_the_captioners_own(tell: mm.CaptioningPipeline, text: str, caption: str) -> None:
    assert tell(text).text == caption


def test_nothing_is_said_twice() -> None:
    for said, expected in (
        ("a dog and a dog", "a dog"), ("a dog and a cat", "a dog and a cat"), ("and", "and"), ("dog", "dog"), ("", ""),
        ("fish and chips", "fish and chips"),
    ):  # fmt: skip
        assert space_backend._drop_repetition(said.split()) == expected.split()


def test_one_in_one_out_and_rows_in_rows_out(tell: mm.CaptioningPipeline, space: Space) -> None:
    vectors = space.encode(["a dog", "a cat"])
    assert isinstance(tell(vectors[0]), Caption)
    assert [item.text for item in tell(vectors)] == ["dog", "cat"]
    assert [item.text for item in tell(["a dog"])] == ["dog"]
    assert [item.text for item in tell(list(vectors))] == ["dog", "cat"]
    scaled, unit = tell(7.0 * vectors[0].astype(np.float64)), tell(vectors[0])  # only its direction counts
    assert (scaled.text, scaled.score) == (unit.text, pytest.approx(unit.score, abs=1e-6))


def test_results_in_a_batch_equal_single_results(tell: mm.CaptioningPipeline, space: Space) -> None:
    vectors = space.encode(["a dog", "a small blue strawberry", "a cat and a pizza", "winter sports"])
    together = tell(vectors)
    assert [item.text for item in together] == [tell(row).text for row in vectors]
    assert [hit.score for hit in together] == pytest.approx([tell(row).score for row in vectors], abs=1e-5)
    assert [item.text for item in tell(vectors, batch_size=1)] == [item.text for item in together]


def test_a_sure_caption_scores_above_a_lost_one(tell: mm.CaptioningPipeline, space: Space) -> None:
    rng = np.random.default_rng(0)
    lost = tell(rng.normal(size=(20, 256)).astype(np.float32))
    sure = tell(["a dog", "a guitar", "a pizza", "a bicycle"])
    assert min(hit.score for hit in sure) > np.mean([hit.score for hit in lost])
    assert all(0 <= hit.score <= 1 for hit in [*lost, *sure])


def test_more_beams_find_nothing_worse_and_one_is_greedy(tell: mm.CaptioningPipeline, space: Space) -> None:
    vectors = space.encode(["winter sports", "a cold drink", "something to sit on"])
    scores = [[hit.score for hit in tell(vectors, beams=beams)] for beams in (1, 8)]
    assert all(wide >= narrow - 1e-6 for narrow, wide in zip(*scores, strict=True))


def test_a_seed_draws_the_same_again(tell: mm.CaptioningPipeline, space: Space) -> None:
    vector = space.encode("something to sit on")
    drawn = [tell(vector, sample=True, temperature=3.0, seed=seed).text for seed in (5, 5, 6, 7, 8)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    cold = tell(vector, sample=True, temperature=0.01, seed=1).text
    assert cold == tell(vector, beams=1).text
    assert tell(vector, sample=True, top_p=1e-6, seed=2).text == cold


def test_progress_true_shows_a_bar_on_standard_error(
    tell: mm.CaptioningPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(["a dog", "a cat"], progress=True)
    captured = capsys.readouterr()
    assert "captioning" in captured.err and "100%" in captured.err
    assert captured.out == ""


def test_what_max_tokens_cut_says_so(tell: mm.CaptioningPipeline) -> None:
    whole, cut = tell("a small blue strawberry"), tell("a small blue strawberry", max_tokens=2)
    assert (whole.complete, whole.n_tokens) == (True, 4)
    assert (cut.complete, cut.n_tokens, cut.text) == (False, 2, "a small")


def test_a_caption_takes_less_than_50_ms_on_one_core(tell: mm.CaptioningPipeline, space: Space) -> None:
    vector = space.encode("a small blue strawberry")
    tell(vector)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = []
    for _ in range(5):
        began = time.process_time()
        tell(vector)
        spent.append(time.process_time() - began)
    torch.set_num_threads(threads)
    assert min(spent) < 0.050


def test_half_precision_says_the_same(space: Space) -> None:
    half = mm.CaptioningPipeline.from_pretrained("starter", device="cpu", precision="bfloat16")
    assert half.backend.net.positions.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert [item.text for item in half(["a dog", "a guitar"])] == ["dog", "guitar"]


def test_it_takes_a_space_and_a_folder_with_the_starters_encoders(space: Space, tmp_path: Path) -> None:
    space.select("text", "image").save_pretrained(tmp_path / "mine")
    for model in (space, space.select("image"), tmp_path / "mine"):
        tell = mm.pipeline("captioning", model=model)
        assert tell(mm.Image(GALLERY / "pictures/trumpet.jpg")).text == "trumpet"
        assert tell.device.type == "cpu"


def test_a_caption_shows_itself_and_what_it_is_of(tell: mm.CaptioningPipeline) -> None:
    path = GALLERY / "pictures/trumpet.jpg"
    caption = tell(mm.Image(path))
    assert str(caption) == "trumpet"
    assert caption.to_dict() == {
        "text": "trumpet", "score": caption.score, "n_tokens": 1, "complete": True, "modality": "image",
        "uri": str(path),
    }  # fmt: skip
    json.dumps(caption.to_dict(), allow_nan=False)
    assert caption._repr_html_().startswith('<figure style="margin:0"><img src="data:image/png;base64,')
    assert "<figcaption>trumpet <small>" in caption._repr_html_()
    assert "<audio" in tell(mm.Audio(GALLERY / "sounds/dog.flac"))._repr_html_()
    assert "<blockquote>a &lt;dog&gt;</blockquote>" in tell("a <dog>")._repr_html_()
    with pytest.raises(AttributeError):
        caption.text = "cat"  # type: ignore[misc]


def test_a_caption_of_a_stranger_cannot_write_html() -> None:
    assert "<script>" not in Caption("<script>alert(1)</script>", 0.5, 1, True)._repr_html_()


# --- what is refused -----------------------------------------------------------------------------

NEVER: list[tuple[dict[str, Any], str]] = [
    ({"prompt": " "}, "prompt must be a question or the beginning of a caption, got ' '; leave it out for the model's "
     "usual caption"),
    ({"prompt": 3}, "prompt must be a question or the beginning of a caption, got 3; leave it out for the model's "
     "usual caption"),
    ({"prompt": "what is it?"}, "'starter' takes no prompt, it only describes its input; models that answer questions "
     "are 'hf/…' vision-language models"),
    ({"beams": 0}, "beams must be a whole number of at least 1, got 0"),
    ({"beams": True}, "beams must be a whole number of at least 1, got True"),
    ({"beams": 2.5}, "beams must be a whole number of at least 1, got 2.5"),
    ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, got 0"),
    ({"max_tokens": -4}, "max_tokens must be a whole number of at least 1, got -4"),
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ({"sample": 1}, "sample must be True or False, got 1"),
    ({"sample": True, "beams": 3}, "sample=True draws one caption and beams=3 searches for the best: give one"),
    ({"seed": 3}, "seed=3 without sample=True: nothing is drawn, so leave it out or add that"),
    ({"sample": True, "seed": -1}, "seed must be a whole number from 0 to 2^63 - 1, got -1"),
    ({"sample": True, "temperature": 0}, "temperature must be a number above 0, got 0"),
    ({"sample": True, "temperature": float("nan")}, "temperature must be a number above 0, got nan"),
    ({"sample": True, "top_p": 0}, "top_p must be a number above 0 and at most 1, got 0"),
    ({"sample": True, "top_p": 1.5}, "top_p must be a number above 0 and at most 1, got 1.5"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), NEVER, ids=[str(options) for options, _ in NEVER])
def test_an_option_that_can_never_be_right_is_refused(
    tell: mm.CaptioningPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        tell("a dog", **options)
    assert str(caught.value) == message


VECTORS: list[tuple[Any, str]] = [
    (np.zeros(100, np.float32), "vectors of shape (100,) given where (n, 256) or (256,) is due; were they made by "
     "another space?"),
    (np.full(256, np.nan, np.float32), "vectors must be finite: NaN or infinity in row 0"),
    (np.zeros(256, np.float32), "vectors must have a direction: zero (or infinite) length in row 0"),
    (np.zeros((0, 256), np.float32), "no vectors given; at least one is needed"),
    ([], "the list of inputs is empty; give at least one"),
    (" ", "the text is empty (' '); there is nothing to encode"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), VECTORS, ids=[message[:30] for _, message in VECTORS])
def test_what_cannot_be_captioned_is_refused(tell: mm.CaptioningPipeline, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tell(value)
    assert str(caught.value) == message


def test_a_space_of_other_encoders_is_refused(space: Space, tmp_path: Path) -> None:
    from multimodal.core.encoder import EncoderState
    from multimodal.encoders import starter

    image = space.encoders[mm.Modality.IMAGE]
    tensors = {name: tensor * 1.5 for name, tensor in image.state_dict().items()}
    other = starter.from_config(EncoderState(mm.Modality.IMAGE, image.config(), tensors), image.runtime)
    strange = Space([space.encoders[mm.Modality.TEXT], other], space.logit_scales[None], name="mine")
    with pytest.raises(SpaceMismatch) as caught:
        mm.pipeline("captioning", model=strange)
    assert str(caught.value) == (
        f"the captioning decoder in {DECODER} was not trained for the image encoder of 'mine', so its captions "
        "would be wrong; "
        "caption with the starter ('starter'), with a model by name ('hf/…', 'openclip/coca_…'), or train one with "
        "recipes/starter/captioner/train_captions.py"
    )


def damage_json(folder: Path) -> None:
    (folder / "caption.json").write_text("{")


def leave_out(folder: Path) -> None:
    (folder / "caption.safetensors").unlink()


def cut_off(folder: Path) -> None:
    path = folder / "caption.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [damage_json, leave_out, cut_off])
def test_a_damaged_decoder_is_refused(space: Space, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = shutil.copytree(DECODER, tmp_path / "decoder")
    damage(folder)
    with pytest.raises(
        CorruptSpace,
        match=rf"^no captioning decoder can be read from {folder} \(.*\); train one with 'python -m",
    ):
        mm.CaptioningPipeline.from_pretrained(space, decoder=folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"caption\.json has format 2, this version reads up to 1: upgrade multimodal$"),
        (
            {"words": ["", "dog"]},
            r"do not fit the captioning decoder that caption\.json describes; train one",
        ),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused(
    space: Space, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(DECODER, tmp_path / "decoder")
    about = json.loads((folder / "caption.json").read_text()) | changes
    (folder / "caption.json").write_text(json.dumps(about))
    with pytest.raises(CorruptSpace, match=message):
        mm.CaptioningPipeline.from_pretrained(space, decoder=folder)


def test_options_of_another_kind_of_model_are_refused(space: Space) -> None:
    with pytest.raises(
        InvalidInput,
        match=r"^revision='main' is for a model on the Hub, which 'starter' is not; leave it out$",
    ):
        mm.CaptioningPipeline.from_pretrained("starter", revision="main")
    with pytest.raises(
        InvalidInput,
        match=r"^decoder= belongs to a space, and 'hf/a/b' has a decoder of its own; leave it out$",
    ):
        mm.CaptioningPipeline.from_pretrained("hf/a/b", decoder="x")
    with pytest.raises(TypeError, match="unexpected keyword argument 'devise'"):
        mm.CaptioningPipeline.from_pretrained("starter", devise="cpu")  # type: ignore[call-arg]
    with pytest.raises(
        InvalidInput, match=r"^CaptioningPipeline takes a captioning backend, got Space: make it with"
    ):
        mm.CaptioningPipeline(space)  # type: ignore[arg-type]


def test_memory_that_does_not_suffice_is_reported_with_what_to_lower(
    tell: mm.CaptioningPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*items: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(space_backend.SpaceCaptioningBackend, "vectors", full)
    with pytest.raises(EncoderError) as caught:
        tell(["a dog", "a cat"])
    assert str(caught.value) == (
        "'starter' ran out of memory on cpu with 2 at once: try batch_size=1, precision='bfloat16', or another device"
    )


def test_examples_lend_their_words_to_inputs_like_them_and_to_no_others() -> None:
    caption = mm.pipeline("captioning", model="starter", device="cpu")
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    item = mm.Image(ramp)
    words = "a dog and a cat"
    assert caption(item).text != words
    assert caption(item, examples=[(item, words)]).text == words
    opposite = -caption.backend.space.encode(item)
    assert caption(opposite, examples=[(item, words)]) == caption(opposite)
    with pytest.raises(
        InvalidInput, match="the caption of example 0 has the word 'zyzzyva', which is not among"
    ):
        caption(item, examples=[(item, "a zyzzyva")])
