from __future__ import annotations

import contextvars
import json
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.core.card import Card
from multimodal.core.errors import InvalidInput, MediaTooLarge, MissingExtra, PathLikeTextWarning
from multimodal.core.items import Audio, Image, Text, Video, as_item
from multimodal.core.limits import Limits, get_limits, limits, set_limits
from multimodal.core.modality import Modality

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SOUND = {"array": np.zeros(8, dtype=np.float32), "sampling_rate": 8_000}


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "without_suffix"
    PIL.Image.fromarray(PIXELS).save(path, "PNG")
    return path


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "sound.jpg"
    soundfile.write(path, np.zeros(100), 8_000, format="WAV")
    return path


def test_a_str_is_text_even_if_a_file_has_that_name(png: Path) -> None:
    with pytest.warns(PathLikeTextWarning):
        item = as_item(str(png))
    assert isinstance(item, Text) and item.modality == "text" and item.load() == str(png)


def test_a_path_is_recognised_by_its_content_and_not_its_name(png: Path, wav: Path) -> None:
    assert isinstance(as_item(png), Image)
    assert isinstance(as_item(wav), Audio)
    assert as_item(png).uri == str(png)


def test_plain_values_become_items_by_their_type() -> None:
    assert isinstance(as_item(PIL.Image.new("L", (1, 1))), Image)
    assert isinstance(as_item(PIXELS), Image)
    assert isinstance(as_item(SOUND), Audio)
    assert isinstance(as_item(SOUND | {"path": None}), Audio)  # the datasets convention has one more key
    text = Text("a")
    assert as_item(text) is text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            b"\x89PNG",
            "cannot tell whether a value of type bytes is text, image, audio or video: pass a str (text)",
        ),
        (None, "cannot tell whether a value of type NoneType is text"),
        (["a"], "cannot tell whether a list of 1 is text"),
        ({"array": 1}, "cannot tell whether a mapping with keys ['array'] is text"),
        (
            np.zeros(9),
            "an array of float64 with shape (9,) is neither an image (uint8 or floats in 0 to 1, (h, w, 3)) nor audio",
        ),
        (np.zeros((2, 2, 4), np.uint8), "an array of uint8 with shape (2, 2, 4) is neither an image"),
    ],
)
def test_a_value_that_could_be_anything_is_refused(value: object, text: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(text)):
        as_item(value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Text(b"a"), "Text takes a str, got bytes"),  # type: ignore[arg-type]
        (
            lambda: Image(3),
            "Image takes a path, the bytes of a file, a PIL image or an array (h, w, 3) of uint8 or of floats",
        ),
        (lambda: Image(""), "Image got '', which cannot be a path"),
        (lambda: Image("a\0b"), "Image got 'a\\x00b', which cannot be a path"),
        (
            lambda: Audio(np.zeros(3)),
            "Audio takes a path, the bytes of a file, {'array': samples, 'sampling_rate': Hz} or (samples, Hz)",
        ),
        (
            lambda: Audio({"array": [0.0]}),
            "Audio takes a path, the bytes of a file, {'array': samples, 'sampling",
        ),
    ],
)
def test_a_source_of_the_wrong_type_is_refused_at_once(make: object, text: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(text)):
        make()  # type: ignore[operator]


def test_items_are_lazy_and_load_anew_each_time(png: Path) -> None:
    Image("nowhere.png"), Audio("nowhere.wav")  # no file is touched
    item = Image(png)
    first = item.load()
    first[:] = 0
    assert (item.load() == PIXELS).all()
    of_array = Image(PIXELS)
    of_array.load()[:] = 0
    assert PIXELS.any()


@pytest.mark.parametrize("empty", ["", " ", "\n\t\u3000"])
def test_an_empty_text_is_refused(empty: str) -> None:
    with pytest.raises(InvalidInput, match=r"^the text is empty \(.*\); there is nothing to encode$"):
        Text(empty).load()


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"^the text holds a lone surrogate at position 2, which is not valid Unicode"
    ):
        Text("ab\ud800").load()


def test_equal_texts_are_one_key_and_images_are_not_compared() -> None:
    assert len({Text("a"), Text("a"), Text("b")}) == 2
    assert Image(PIXELS) != Image(PIXELS)


def test_uri_is_the_path_or_what_is_said(png: Path) -> None:
    assert Image(str(png)).uri == str(png)
    assert Image(png, uri="db://7").uri == "db://7"
    assert Image(PIXELS).uri is None and Text("a", uri="u").uri == "u"


def test_items_travel_to_other_processes(png: Path) -> None:
    for item in (Text("a", uri="u"), Image(png), Image(PIXELS), Audio(SOUND)):
        again = pickle.loads(pickle.dumps(item))
        assert type(again) is type(item) and again.uri == item.uri
    assert (pickle.loads(pickle.dumps(Image(png))).load() == PIXELS).all()


def test_errors_travel_to_other_processes() -> None:
    error = MissingExtra("reading HEIC images", package="pillow-heif", extra="heic")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "reading HEIC images needs pillow-heif: pip install 'multimodal[heic]'"
    assert isinstance(again, ImportError)


def test_items_say_what_they_hold(png: Path) -> None:
    assert repr(Image(png)) == f"Image({str(png)!r})"
    assert repr(Image(b"1234")) == "Image(4 bytes)"
    assert repr(Image(PIXELS, uri="x")) == "Image(array (2, 3, 3), uri='x')"
    assert repr(Image(PIL.Image.new("L", (4, 5)))) == "Image(PIL L (4, 5))"
    assert repr(Audio(SOUND)) == "Audio(8 samples at 8000 Hz)"


def test_items_show_themselves_in_a_notebook() -> None:
    assert Text("<b>")._repr_html_() == "<blockquote>&lt;b&gt;</blockquote>"
    assert Image(PIXELS)._repr_png_().startswith(b"\x89PNG")
    assert (
        '<audio controls title="0.00 s at 8000 Hz" src="data:audio/wav;base64,UklGR'
        in Audio(SOUND)._repr_html_()
    )


def test_a_card_survives_json() -> None:
    card = Card("a", ("text", "image"), 8, "MIT", "here", 1.5)  # type: ignore[arg-type]
    assert card.modalities == (Modality.TEXT, Modality.IMAGE)
    assert Card.from_dict(json.loads(json.dumps(card.to_dict() | {"of_a_later_version": 1}))) == card


def test_limits_hold_inside_the_block_and_nest() -> None:
    before = get_limits()
    with limits(max_pixels=5) as outer, limits(max_seconds=2) as inner:
        assert (outer.max_pixels, inner.max_pixels, inner.max_seconds) == (5, 5, 2)
        with pytest.raises(
            MediaTooLarge, match=r"^<array>: 3 x 2 pixels, more than the limit of 5; if you trust it"
        ):
            Image(PIXELS).load()
    assert get_limits() == before


def test_limits_of_one_thread_are_not_those_of_another_unless_handed_on() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(get_limits().max_pixels)

    with limits(max_pixels=5):
        context = contextvars.copy_context()
        for work in (look, lambda: context.run(look)):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert seen == [Limits().max_pixels, 5]


def test_set_limits_changes_every_thread() -> None:
    seen: list[int] = []
    set_limits(Limits(max_pixels=7))
    try:
        thread = threading.Thread(target=lambda: seen.append(get_limits().max_pixels))
        thread.start()
        thread.join()
    finally:
        set_limits(Limits())
    assert seen == [7]


def test_limits_that_allow_nothing_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^max_pixels must be a number above 0, got 0$"):
        Limits(max_pixels=0)
    with pytest.raises(
        InvalidInput, match=r"^set_limits takes a Limits, got int: set_limits\(Limits\(max_pixels="
    ):
        set_limits(5)  # type: ignore[arg-type]


def test_a_video_path_is_a_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "clip"
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5, width=16, height=16)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        container.mux(stream.encode())
    item = as_item(path)
    assert isinstance(item, Video) and item.modality is Modality.VIDEO and item.uri == str(path)
    assert as_item(item) is item
