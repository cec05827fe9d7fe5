"""Similarity matrices: the numbers are those of the space, and the table is self-contained."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.views import Heatmap
from multimodal.views.heatmap import HIGH, LOW, number

WORDS = ["a red apple", "the <blue> sea", "x" * 60]


def images(media: Path) -> list[mm.Image]:
    return [mm.Image(media / f"{name}.png") for name in ("red", "green", "blue", "grey")]


def test_the_cosines_are_the_spaces_own(space: Space, media: Path) -> None:
    heatmap = mm.similarity_heatmap(WORDS, images(media), space=space)
    assert np.array_equal(heatmap.cosines, space.similarity(WORDS, images(media)))
    assert [axis.label for axis in heatmap.rows] == ["a red apple", "the <blue> sea", "x" * 47 + "…"]
    assert [axis.label for axis in heatmap.columns] == ["red.png", "green.png", "blue.png", "grey.png"]
    assert repr(heatmap) == "Heatmap(3 x 4, space='toy')"


def test_one_list_is_compared_with_itself(space: Space) -> None:
    heatmap = mm.similarity_heatmap(WORDS, space=space)
    assert np.allclose(np.diagonal(heatmap.cosines), 1, atol=1e-5)
    assert heatmap.rows == heatmap.columns


def test_a_space_is_loaded_by_name_and_one_item_needs_no_list(space: Space) -> None:
    assert mm.similarity_heatmap("a dog", ["a dog", "a cat"], space="toy").cosines.shape == (1, 2)


def test_the_table_shows_every_number_and_image(space: Space, media: Path) -> None:
    heatmap = mm.similarity_heatmap([*WORDS, mm.Audio(media / "sub" / "low.wav")], images(media), space=space)
    shown = heatmap._repr_html_()
    cells = re.findall(r"<td style=[^>]*>(-?\d\.\d\d)</td>", shown)
    assert cells == [number(cosine) for cosine in heatmap.cosines.reshape(-1).tolist()]
    embedded = [
        base64.b64decode(image) for image in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', shown)
    ]
    assert [PIL.Image.open(io.BytesIO(image)).size for image in embedded] == [(72, 48)] * 4
    assert "the &lt;blue&gt; sea" in shown and "<blue>" not in shown
    assert "♪ low.wav" in shown


def test_colours_run_from_the_least_cosine_to_the_greatest(space: Space, media: Path) -> None:
    heatmap = mm.similarity_heatmap(WORDS, images(media), space=space)
    assert heatmap.shade(float(heatmap.cosines.min())) == LOW
    assert heatmap.shade(float(heatmap.cosines.max())) == HIGH
    alike = Heatmap(np.ones((1, 1), np.float32), heatmap.rows[:1], heatmap.rows[:1], "toy")
    assert alike.shade(1.0) not in (LOW, HIGH)


@pytest.mark.parametrize(
    ("cosine", "shown"), [(-0.001, "0.00"), (0.125, "0.12"), (-0.5, "-0.50"), (1.0, "1.00")]
)
def test_a_nought_has_no_minus(cosine: float, shown: str) -> None:
    assert number(cosine) == shown


def test_the_png_has_a_cell_for_every_pair_in_its_colour(space: Space, media: Path) -> None:
    heatmap = mm.similarity_heatmap(WORDS[:2], images(media), space=space)
    image = PIL.Image.open(io.BytesIO(heatmap._repr_png_()))
    pixels = np.asarray(image.convert("RGB"))
    right, bottom = image.width - 18 - 4, image.height - 18 - 4
    for row, line in enumerate(heatmap.cosines.tolist()):
        for column, cosine in enumerate(line):
            x, y = right - 80 * (4 - column) + 8 + 4, bottom - 80 * (2 - row) + 8 + 4
            assert tuple(pixels[y, x]) == heatmap.shade(cosine)


def test_it_is_saved_as_a_page_or_an_image(space: Space, media: Path, tmp_path: Path) -> None:
    heatmap = mm.similarity_heatmap(WORDS, images(media), space=space)
    assert heatmap.save(tmp_path / "h.png") == tmp_path / "h.png"
    assert (tmp_path / "h.png").read_bytes() == heatmap._repr_png_()
    page = heatmap.save(str(tmp_path / "h.HTML")).read_text(encoding="utf-8")
    assert heatmap._repr_html_() in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert "default-src 'none'; img-src data:;" in page


def test_other_files_and_folders_are_refused(space: Space, tmp_path: Path) -> None:
    heatmap = mm.similarity_heatmap(WORDS, space=space)
    with pytest.raises(InvalidInput, match=r"^a heatmap is written as \.html or \.png, got 'h\.jpg'$"):
        heatmap.save("h.jpg")
    with pytest.raises(InvalidInput, match=r"^cannot write the heatmap: the folder .*no does not exist$"):
        heatmap.save(tmp_path / "no" / "h.png")


def test_too_large_a_table_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"^101 x 100 cells are more than a heatmap shows \(10,000 at most\); give fewer items, or use "
        r"space\.similarity\(a, b\) for the numbers alone$",
    ):
        mm.similarity_heatmap(["a"] * 101, ["b"] * 100, space="no such space")


def test_an_empty_list_is_refused(space: Space) -> None:
    with pytest.raises(InvalidInput, match=r"^the list of inputs is empty; give at least one$"):
        mm.similarity_heatmap([], WORDS, space=space)


def test_it_is_plain_values_too(space: Space) -> None:
    heatmap = mm.similarity_heatmap(WORDS[:2], space=space).to_dict()
    assert json.loads(json.dumps(heatmap)) == heatmap
    assert heatmap["rows"] == WORDS[:2]


def test_a_video_is_shown_by_its_middle() -> None:
    from multimodal.core.media.registry import thumbnail

    frames = np.zeros((5, 20, 40, 3), np.uint8)
    frames[2] = (10, 200, 30)
    small = thumbnail(mm.Video(frames, fps=5.0), 10)
    assert small.size == (10, 5)
    assert (np.asarray(small) == (10, 200, 30)).all()
