"""Videos in an index of a space with a video encoder, and of one without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from multimodal.core.encoder import Encoder
from multimodal.core.items import Image, Item, Video
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index import Index
from tests.core.media.clips import clip

pytest.importorskip("av")

RED, BLUE = (220, 20, 20), (20, 30, 210)


class _Colours(Encoder):
    """The mean colour of what is shown, and its spread."""

    dim = 3

    def pixels(self, item: Any) -> np.ndarray:
        raise NotImplementedError

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        rows = [self.pixels(item).reshape(-1, 3).mean(axis=0) / 255 for item in items]
        return {"rows": torch.tensor(np.stack(rows), dtype=torch.float32)}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"nothing": torch.zeros(1)}


class ImageEncoder(_Colours):
    modality = Modality.IMAGE

    def pixels(self, item: Any) -> np.ndarray:
        return item.load()


class VideoEncoder(_Colours):
    modality = Modality.VIDEO

    def pixels(self, item: Any) -> np.ndarray:
        return item.load(n_frames=4).frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red image, a video, and a truncated video."""
    folder = tmp_path / "media"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), RED).save(folder / "red.png")
    (folder / "moving.mp4").write_bytes(clip(n=6))
    (folder / "cut.mp4").write_bytes(clip(n=6)[:400])
    return folder


def test_a_space_with_video_indexes_and_finds_videos(folder: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", Space([ImageEncoder(), VideoEncoder()]))
    report = index.add(folder)
    assert (report.added, len(report.failed)) == (2, 1)
    assert Path(report.failed[0].uri).name == "cut.mp4"
    assert "cannot be opened" in report.failed[0].reason
    modalities = {Path(row["uri"]).name: row["modality"] for row in index.rows()}
    assert modalities == {"red.png": "image", "moving.mp4": "video"}
    hits = index.search(Image(np.full((4, 4, 3), RED, np.uint8)), modality="video")
    assert [Path(hit.uri or "").name for hit in hits] == ["moving.mp4"]
    assert "<img" in hits._repr_html_()
    best = index.search(Video(folder / "moving.mp4"), 1)[0]
    assert (best.modality, best.score) == (Modality.VIDEO, pytest.approx(1.0, abs=1e-5))


def test_a_space_without_video_encodes_frames_of_valid_videos(folder: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", Space([ImageEncoder()], name="eyes"))
    report = index.add(folder)
    assert report.added == 2
    reasons = {Path(failure.uri).name: failure.reason for failure in report.failed}
    assert list(reasons) == ["cut.mp4"] and "cannot be opened" in reasons["cut.mp4"]
    assert {row["modality"] for row in index.rows()} == {"image"}


def test_frames_in_memory_are_identified_by_their_content(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", Space([VideoEncoder()]))
    red = np.full((3, 4, 4, 3), RED, np.uint8)
    blue = np.full((3, 4, 4, 3), BLUE, np.uint8)
    assert index.add([Video(red, fps=5), Video(blue, fps=5)]).added == 2
    index.add(
        [Video(red.copy(), fps=5), Video([PIL.Image.fromarray(frame) for frame in blue], fps=5, uri="db://7")]
    )
    assert len(index) == 3  # the array is stored already; the other has its own uri
    assert sum(row["id"].startswith("video:") for row in index.rows()) == 2
