from __future__ import annotations

import base64
import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.core.media import registry
from multimodal.core.modality import Modality
from multimodal.index import Failure, Hit, Hits, Index, IngestReport

HIT = Hit("i", "/a/b.png", 0.5, Modality.IMAGE, {"album": "x", "n": 1}, None)
REPORT = IngestReport(
    9998, 2, (Failure("/x.jpg", "encode", "/x.jpg: is <broken>"), Failure("item 3", "read", "no"))
)
EVIL = "<script>alert('x')</script>"


@pytest.mark.parametrize("result", [HIT, REPORT, REPORT.failed[0]])
def test_results_are_frozen_and_pickle(result: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, dataclasses.fields(result)[0].name, None)
    assert pickle.loads(pickle.dumps(result)) == result
    assert isinstance(hash(result), int)


def test_results_become_json() -> None:
    assert json.loads(json.dumps(HIT.to_dict())) == {
        "id": "i", "uri": "/a/b.png", "score": 0.5, "modality": "image", "metadata": {"album": "x", "n": 1},
        "text": None, "start_s": None, "end_s": None, "start_char": None, "end_char": None, "text_score": None,
        "probability": None, "fused_score": None,
    }  # fmt: skip
    assert json.loads(json.dumps(REPORT.to_dict())) == {
        "added": 9998, "updated": 2, "unchanged": 0, "moved": 0, "deleted": 0, "duplicates": 0,
        "skipped": {}, "known": [],
        "failed": [
            {"uri": "/x.jpg", "stage": "encode", "reason": "/x.jpg: is <broken>"},
            {"uri": "item 3", "stage": "read", "reason": "no"},
        ],
    }  # fmt: skip
    assert str(REPORT) == "9,998 added, 2 updated, 2 failed"


def test_a_snippet_is_one_short_line() -> None:
    assert HIT.snippet == "/a/b.png"
    assert dataclasses.replace(HIT, uri=None).snippet == "i"
    assert dataclasses.replace(HIT, text="two\n  words").snippet == "two words"
    long = dataclasses.replace(HIT, text="word " * 1000).snippet
    assert len(long) == 120 and long.endswith("…")


def test_hits_are_a_list() -> None:
    assert Hits([HIT]) == [HIT] and isinstance(Hits(), list)
    assert Hits()._repr_html_() == "<p>no hits</p>"


def test_a_notebook_shows_the_image_small_and_the_audio_playable(
    index: Index, tmp_path: Path, image: Callable[..., Path], sound: Callable[..., Path]
) -> None:
    PIL.Image.new("RGB", (600, 300), (0, 0, 255)).save(tmp_path / "big.png")
    soundfile.write(tmp_path / "long.wav", np.full(8000 * 20, 0.25), 8000)
    index.add([tmp_path / "big.png", tmp_path / "long.wav", "a word"])
    hits = index.search("1 1 1 1")
    assert sorted((hit.start_s, hit.end_s, hit.location) for hit in hits if hit.modality == "audio") == [
        (0, 10, "0 to 10 s"), (8, 18, "8 to 18 s"), (10, 20, "10 to 20 s"),
    ]  # fmt: skip
    page = hits._repr_html_()
    _, _, after = page.partition('src="data:image/png;base64,')
    shown = PIL.Image.open(io.BytesIO(base64.b64decode(after.partition('"')[0])))
    assert shown.size == (registry.THUMBNAIL_SIDE, registry.THUMBNAIL_SIDE // 2) and shown.getpixel(
        (5, 5)
    ) == (
        0,
        0,
        255,
    )
    _, _, after = page.partition("data:audio/wav;base64,")
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(after.partition('"')[0])))
    assert samples[0] == pytest.approx(0.25, abs=1e-3)
    assert len(samples) == min(registry.PLAYER_SECONDS, 20 - hits[0].start_s) * rate_hz
    assert f"long.wav · {hits[0].location}</td>" in page
    assert "<td>a word</td>" in page
    assert page.count("<tr>") == 6


def test_a_file_that_has_gone_or_changed_is_named_instead(
    index: Index, tmp_path: Path, image: Callable[..., Path]
) -> None:
    gone, broken = image(tmp_path / "gone.png"), image(tmp_path / "broken.png")
    index.add([gone, broken])
    gone.unlink()
    broken.write_bytes(b"<b>")
    page = index.search("1 0 0 0")._repr_html_()
    assert f"<td>{gone}</td>" in page and "<img" not in page
    assert "is not a picture" in page or "holds text, not an image" in page


def test_nothing_from_outside_is_taken_for_html() -> None:
    hit = Hit(EVIL, f"/{EVIL}", 1.0, Modality.TEXT, {EVIL: EVIL}, EVIL)
    failed = IngestReport(0, 0, (Failure(EVIL, EVIL, EVIL),))
    for page in (hit._repr_html_(), Hits([hit])._repr_html_(), failed._repr_html_()):
        assert "<script" not in page and "&lt;script&gt;" in page


def test_the_alternative_text_of_an_image_is_escaped(
    index: Index, tmp_path: Path, image: Callable[..., Path]
) -> None:
    index.add(image(tmp_path / '"onerror=x.png'))
    page = index.search("1 0 0 0")._repr_html_()
    assert '"onerror' not in page and 'alt="&quot;onerror=x.png"' in page


def test_the_old_name_of_a_report_warns_and_still_works() -> None:
    import multimodal.index

    with pytest.warns(DeprecationWarning, match="AddReport is deprecated; use multimodal.index.IngestReport"):
        assert multimodal.index.AddReport is IngestReport


def test_failures_of_a_report_convert_to_plain_values_and_arrow(index: Index, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    report = index.add(tmp_path / "empty.png")
    (row,) = report.failed.to_arrow().to_pylist()
    assert row == report.failed[0].to_dict() and row["uri"] == str(tmp_path / "empty.png")
    assert report.to_dict()["failed"] == [row] and report.failed == index.failures()
