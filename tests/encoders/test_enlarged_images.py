"""An image whose sides are very different needs no memory without bounds where a model enlarges its shorter side."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import MediaTooLarge
from multimodal.core.limits import Limits
from tests.encoders.hf import hf_tiny
from tests.encoders.openclip import openclip_checkpoints
from tests.encoders.st import st_models

EXTRA_BYTES = 700 << 20  # what the decoded images may add; without the limit these were gigabytes


def png(width: int, height: int) -> mm.Image:
    buffer = io.BytesIO()
    PIL.Image.new("L", (width, height)).save(buffer, "PNG")
    return mm.Image(buffer.getvalue())


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A model of each family that resizes images by code of its own."""
    folder = tmp_path_factory.mktemp("models")
    hf_tiny.saved("clip", folder / "hf")
    recipe = openclip_checkpoints.RECIPES["ViT-B-32"]
    return [
        f"st/{st_models.clip(folder / 'st')}",
        f"hf/{folder / 'hf'}",
        f"openclip/local-dir:{openclip_checkpoints.write(recipe, folder / 'openclip')}",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells how much memory a process took at most")
def test_a_strip_is_refused_before_it_takes_memory(models: list[str]) -> None:
    for name in models:
        space = mm.load(name, device="cpu")
        space.encode(png(64, 48))
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident_bytes("VmRSS")
        for strip in (png(200_000, 1), png(1, 200_000)):
            with pytest.raises(MediaTooLarge, match="which the model would enlarge to"):
                space.encode([strip] * 4)
        space.encode([png(512, 32)] * 4)  # 16 to 1
        assert resident_bytes("VmHWM") - before < EXTRA_BYTES, name


def test_a_png_of_143_bytes_is_refused_at_224_pixels() -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros((1, 20_000), np.uint8)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 200
    with pytest.raises(
        MediaTooLarge,
        match=r"^x\.png: 20,000 x 1 pixels, which the model would enlarge to 1,003,520,000 before it crops them, .*"
        r"allow it with multimodal\.limits\(max_pixels=32112640000\)$",
    ):
        Limits().check_resized(20_000, 1, 224, "x.png")
    Limits(max_pixels=32_112_640_000).check_resized(20_000, 1, 224, "x.png")  # the cure in the message


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from([64, 224, 336, 448, 1_024]))
def test_the_resized_image_is_never_much_larger_than_the_original_or_the_limit(
    width: int, height: int, edge: int
) -> None:
    resized = edge * edge * max(width, height) / min(width, height)
    try:
        Limits().check_resized(width, height, edge, "x")
    except MediaTooLarge:
        assert resized > width * height and max(width, height) > 15 * min(width, height)
    else:
        assert resized <= 1.02 * max(width * height, 16 * edge * edge, Limits().max_pixels / 32)
