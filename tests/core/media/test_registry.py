"""The table of media types: a type of one's own goes through index, search and display by one registration."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput, MediaUnsupported
from multimodal.core.media import registry
from multimodal.testing import fake_space

MAGIC = b"SWATCHES\n"
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


class Swatches(mm.Image):
    """A file of colour names, one a line; as an image, a square of its first colour."""

    def names(self) -> list[str]:
        data = self.source.read_bytes() if isinstance(self.source, Path) else self.source
        assert isinstance(data, bytes)
        return data.removeprefix(MAGIC).decode().split()

    def load(self, min_side: int | None = None) -> Any:
        return square(self.names()[0])


def square(name: str) -> np.ndarray:
    return np.full((20, 20, 3), COLOURS[name], np.uint8)


def one_per_colour(item: Swatches) -> Iterator[registry.ItemChunk]:
    for number, name in enumerate(item.names()):
        yield registry.ItemChunk(mm.Image(square(name), uri=item.uri), f"swatch={number}", text=name)


def shown_colour(item: Swatches, excerpt: registry.Excerpt) -> mm.Image:
    number = int(excerpt.fragment.partition("=")[2])
    return mm.Image(square(item.names()[number]), uri=item.uri)


@pytest.fixture
def swatches() -> Iterator[registry.MediaType]:
    yield mm.register_media_type(
        "swatches",
        Swatches,
        matches=lambda head: head.startswith(MAGIC),
        chunks=one_per_colour,
        excerpt=shown_colour,
    )
    mm.unregister_media_type("swatches")


def write(path: Path, *names: str) -> Path:
    path.write_bytes(MAGIC + "\n".join(names).encode())
    return path


def colours_in(page: str) -> list[tuple[int, ...]]:
    """The colours of the images in a page, in order."""
    results = []
    for rest in page.split('src="data:image/png;base64,')[1:]:
        image = PIL.Image.open(io.BytesIO(base64.b64decode(rest.partition('"')[0])))
        results.append(image.convert("RGB").getpixel((5, 5)))
    return results  # type: ignore[return-value]


def test_a_registered_type_is_indexed_searched_and_shown(
    swatches: registry.MediaType, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    path = write(folder / "a.swatches", "red", "blue")
    PIL.Image.new("RGB", (20, 20), COLOURS["green"]).save(folder / "plain.png")
    index = mm.Index.create(tmp_path / "index.lance", fake_space())
    report = index.add(folder)
    assert (report.added, len(report.failed)) == (2, 0)

    hits = index.search(mm.Image(square("blue")), k=1)
    assert [(hit.id, hit.uri, hit.modality) for hit in hits] == [(f"{path}#swatch=1", str(path), "image")]
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert colours_in(hits._repr_html_()) == [COLOURS["blue"]]

    by_file = index.search(path, k=3)  # a query of the type itself: its first colour
    assert by_file[0].id == f"{path}#swatch=0"
    assert sorted(colours_in(by_file._repr_html_())) == sorted(COLOURS.values())


def test_a_file_of_a_registered_type_is_updated_and_resumed_like_any_other(
    swatches: registry.MediaType, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.swatches", "red", "blue")
    index = mm.Index.create(tmp_path / "index.lance", fake_space())
    index.add([path])
    assert index.add([path]).unchanged == 1
    write(path, "red", "green", "blue")
    assert index.add([path]).updated == 1 and len(index) == 3


def test_without_chunks_a_type_is_one_image(tmp_path: Path) -> None:
    media_type = mm.register_media_type("swatches", Swatches, matches=lambda head: head.startswith(MAGIC))
    try:
        assert media_type.modality is mm.Modality.IMAGE and media_type in registry.media_types()
        path = write(tmp_path / "a.swatches", "green", "red")
        item = mm.as_item(path)
        assert type(item) is Swatches and repr(item) == f"Swatches({str(path)!r})"
        assert registry.type_of(item) is media_type and registry.identify(path.read_bytes()) is media_type
        assert np.asarray(registry.thumbnail(item, 10)).shape == (10, 10, 3)
        index = mm.Index.create(tmp_path / "index.lance", fake_space(["image"]))
        assert index.add([path]).added == 1
        assert index.search(path)[0].id == str(path)
    finally:
        mm.unregister_media_type("swatches")
    with pytest.raises(MediaUnsupported, match="holds text, not an image, audio or a video"):
        mm.as_item(path)


def test_a_registered_type_of_audio_is_decoded_by_its_own_load(tmp_path: Path) -> None:
    class Tone(mm.Audio):
        """A file that holds a frequency in Hz."""

        def load(self, rate_hz: int | None = None) -> mm.Waveform:
            assert isinstance(self.source, Path)
            frequency = float(self.source.read_bytes().removeprefix(b"TONE"))
            rate = rate_hz or 8_000
            times = np.arange(rate * 20) / rate
            return mm.Waveform(np.sin(2 * np.pi * frequency * times).astype(np.float32), rate)

    mm.register_media_type("tone", Tone, matches=lambda head: head.startswith(b"TONE"))
    try:
        path = tmp_path / "a.tone"
        path.write_bytes(b"TONE440")
        index = mm.Index.create(tmp_path / "index.lance", fake_space(["audio"]))
        assert index.add([path]).added == 1
        assert [(row["start_s"], row["end_s"]) for row in index.rows()] == [(0, 10), (8, 18), (10, 20)]
        page = index.search(path, k=1)._repr_html_()
        assert "<audio controls" in page and "s at 8000 Hz" in page
    finally:
        mm.unregister_media_type("tone")


@pytest.mark.parametrize("item_class", [mm.Image, int, PIL.Image.Image])
def test_an_item_class_must_be_a_subclass_of_an_item(item_class: type) -> None:
    with pytest.raises(
        InvalidInput, match=r"^the item class of media type 'x' must be a subclass of Text, Image"
    ):
        mm.register_media_type("x", item_class, matches=lambda head: True)


def test_a_name_is_registered_once_and_only_registered_names_are_removed(
    swatches: registry.MediaType,
) -> None:
    class Other(mm.Image):
        """Another class."""

    for name, item_class in (("swatches", Other), ("image", Other), ("other", Swatches)):
        with pytest.raises(InvalidInput, match="is registered already; choose another name"):
            mm.register_media_type(name, item_class, matches=lambda head: False)
    for name in ("image", "other"):
        with pytest.raises(
            InvalidInput, match=rf"^'{name}' is not a registered media type; registered: \['sw"
        ):
            mm.unregister_media_type(name)


def test_built_in_items_know_their_memory() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    sizes = [
        (mm.Text("four").nbytes, 4),
        (mm.Image("gone.png").nbytes, 0),
        (mm.Image(b"123").nbytes, 3),
        (mm.Image(pixels).nbytes, 60),
        (mm.Image(PIL.Image.new("L", (5, 4))).nbytes, 60),
        (mm.Audio({"array": np.zeros(10, np.float32), "sampling_rate": 8}).nbytes, 40),
        (mm.Video([PIL.Image.new("RGB", (5, 4))] * 2, fps=1).nbytes, 120),
        (mm.Video(np.zeros((2, 4, 5, 3), np.uint8), fps=1).nbytes, 120),
    ]
    assert [nbytes for nbytes, _ in sizes] == [expected for _, expected in sizes]


def test_text_and_audio_have_no_thumbnail() -> None:
    assert not registry.has_thumbnail(mm.Text("a word"))
    with pytest.raises(InvalidInput, match=r"^text has no thumbnail; give an image or a video"):
        registry.thumbnail(mm.Text("a word"), 10)
