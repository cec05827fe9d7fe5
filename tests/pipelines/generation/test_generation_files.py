"""What is made says how: in a result, in a file, and in a file read back."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import multimodal
from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaNotFound, MediaUnsupported
from multimodal.pipelines.generation import files as files
from multimodal.pipelines.generation.pipeline import Generation

RNG = np.random.default_rng(0)
IMAGE = PIL.Image.fromarray(RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8))
TOLD: dict[str, Any] = {
    "model": "diffusers/a/b", "prompt": "ein blaues Herz ♥", "seed": 2**40, "steps": 20, "guidance": 7.5,
    "negative": "rain", "strength": 0.5, "flagged": False, "made_by": "StableDiffusionPipeline", "version": "0.1.0",
}  # fmt: skip


def image(**more: Any) -> Generation:
    return Generation(image=IMAGE, **(TOLD | more))


def sound(channels: int = 1, n: int = 4001, **more: Any) -> Generation:
    samples = RNG.uniform(-1, 1, (n, channels)).astype(np.float32)
    return Generation(samples=samples[:, 0] if channels == 1 else samples, rate_hz=16_000, **(TOLD | more))


def chunks(file: Any) -> dict[str, str]:
    """The text in a PNG, as Pillow reads it."""
    with PIL.Image.open(file) as image:
        result: dict[str, str] = dict(vars(image)["text"]) if "text" in vars(image) else dict(image.info)
    return result


def test_an_image_comes_back_with_all_of_its_metadata(tmp_path: Path) -> None:
    place = image().save(tmp_path / "heart.png")
    again = Generation.load(place)
    assert again.metadata == TOLD == image().metadata
    assert again.image is not None and np.array_equal(np.asarray(again.image), np.asarray(IMAGE))
    text = chunks(place)  # what other programs see
    assert (text["Description"], text["Software"]) == (TOLD["prompt"], "multimodal 0.1.0")
    assert json.loads(text["multimodal"]) == TOLD


@pytest.mark.parametrize("channels", [1, 2])
def test_audio_comes_back_with_all_of_its_metadata(channels: int, tmp_path: Path) -> None:
    made = sound(channels)
    place = made.save(tmp_path / "rain.WAV")
    again = Generation.load(place)
    assert again.metadata == TOLD
    assert (again.rate_hz, again.seconds) == (16_000, 4001 / 16_000)
    assert again.samples is not None and again.samples.shape == made.samples.shape
    assert np.abs(again.samples - made.samples).max() <= 2 / 2**15
    with soundfile.SoundFile(place) as seen:  # what other programs see
        assert (seen.title, json.loads(seen.comment)) == (TOLD["prompt"], TOLD)
        assert seen.software.startswith("multimodal 0.1.0")
    assert multimodal.Audio(place).load().rate_hz == 16_000


@given(prompt=st.text(min_size=1, max_size=80).filter(str.strip), seed=st.integers(0, 2**63 - 1))
def test_whatever_is_written_is_read_back(prompt: str, seed: int) -> None:
    if any(0xD800 <= ord(letter) < 0xE000 for letter in prompt):
        prompt = "half a pair of surrogates is no text"
    metadata = image(prompt=prompt.replace("\0", " "), seed=seed).metadata
    content = files.wav_bytes(np.zeros(3, np.float32), 8_000, metadata)
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    result = files._from_wav(_after_head(content))
    assert result is not None and json.loads(result) == metadata
    assert json.loads(chunks(io.BytesIO(files.png_bytes(IMAGE, metadata)))["multimodal"]) == metadata


def _after_head(content: bytes) -> io.BytesIO:
    stream = io.BytesIO(content)
    stream.seek(12)
    return stream


def test_a_result_shows_and_tells_itself() -> None:
    made = image(flagged=True)
    assert (
        repr(made) == f"Generation({TOLD['prompt']!r}, 30x20, seed={2**40}, model='diffusers/a/b', flagged)"
    )
    assert made.to_dict() == TOLD | {"flagged": True, "width": 30, "height": 20}
    shown = made._repr_png_()
    assert shown is not None and PIL.Image.open(io.BytesIO(shown)).size == (30, 20)
    assert (made._repr_html_(), made.audio, made.seconds, made.suffix) == (None, None, None, ".png")
    heard = sound(prompt="<b>rain</b>")
    assert repr(heard).startswith("Generation('<b>rain</b>', 0.25 s at 16000 Hz, seed=")
    assert heard.to_dict()["rate_hz"] == 16_000 and heard.suffix == ".wav"
    html = heard._repr_html_()
    assert html is not None and "<audio" in html and "&lt;b&gt;rain" in html
    assert heard._repr_png_() is None
    assert heard.audio is not None and len(heard.audio.load().samples) == 4001
    json.dumps(made.to_dict() | heard.to_dict())


def test_another_ending_is_refused_with_the_name_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        image().save(tmp_path / "heart.gif")
    assert str(caught.value) == (
        f"the image is saved as .png, .jpg, .jpeg, .webp with its metadata, got {str(tmp_path / 'heart.gif')!r}; write "
        "'heart.png', or .image.save() for another format without that"
    )
    with pytest.raises(
        InvalidInput,
        match=r"^the audio file is saved as \.wav with .*; write 'a\.wav', or soundfile\.write\(\)",
    ):
        sound().save("a.png")
    with pytest.raises(InvalidInput, match=r"^the folder '.*gone' does not exist; create it first$"):
        image().save(tmp_path / "gone" / "a.png")


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = image().save(tmp_path / "heart.png")
    before = place.read_bytes()

    def stopped(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        image(seed=1).save(place)
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["heart.png"]


def test_files_that_say_nothing_of_it_are_distinguished(tmp_path: Path) -> None:
    place = tmp_path / "x.png"
    with pytest.raises(MediaNotFound, match=r"x\.png: no such file$"):
        Generation.load(place)
    place.write_bytes(b"a text")
    with pytest.raises(
        MediaUnsupported, match=r"x\.png: no PNG, JPEG, WebP or WAV; only these hold metadata$"
    ):
        Generation.load(place)
    IMAGE.save(place)
    with pytest.raises(
        MediaUnsupported, match=r"x\.png: has no generation metadata; multimodal did not save it$"
    ):
        Generation.load(place)
    plain = tmp_path / "x.wav"
    soundfile.write(plain, np.zeros(10), 8_000)
    with pytest.raises(
        MediaUnsupported, match=r"x\.wav: has no generation metadata; multimodal did not save it$"
    ):
        Generation.load(plain)
    whole = image().save(place).read_bytes()
    place.write_bytes(whole[:200])
    with pytest.raises(MediaCorrupt, match=r"x\.png: a broken PNG \(.*\); copy it again$"):
        Generation.load(place)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "Expecting property name"), ("[]", "no JSON object"), ("{}", "lacks the model")],
)
def test_damaged_metadata_is_reported(text: str, reason: str, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("multimodal", text)
    IMAGE.save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(MediaCorrupt, match=reason):
        Generation.load(tmp_path / "x.png")


def test_a_cut_or_nonsensical_wav_is_read_to_its_end_and_no_further(tmp_path: Path) -> None:
    whole = sound().save(tmp_path / "x.wav").read_bytes()
    place = tmp_path / "x.wav"
    place.write_bytes(whole[:-900])  # within the comment
    with pytest.raises((MediaCorrupt, MediaUnsupported)):
        Generation.load(place)
    place.write_bytes(b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\xff")
    with pytest.raises(MediaUnsupported):
        Generation.load(place)


@pytest.mark.parametrize("name", ["heart.jpg", "heart.JPEG", "heart.webp"])
def test_a_lossy_image_comes_back_with_its_metadata(name: str, tmp_path: Path) -> None:
    image = PIL.Image.fromarray(
        np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[..., None].repeat(3, 2)
    )
    saved = Generation(image=image, **TOLD).save(tmp_path / name)
    again = Generation.load(saved)
    assert again.metadata == TOLD
    assert again.image is not None
    assert np.abs(np.asarray(again.image, int) - np.asarray(image, int)).max() <= 4
    with PIL.Image.open(saved) as seen:  # what other programs see
        assert seen.format == ("WEBP" if name.endswith("webp") else "JPEG")
        assert seen.getexif()[0x0131] == f"multimodal {TOLD['version']}"
        assert seen.getexif()[0x010E].startswith("ein blaues Herz")


def test_metadata_too_long_for_a_jpeg_say_so(tmp_path: Path) -> None:
    made = Generation(image=IMAGE, **(TOLD | {"prompt": "word " * 20_000}))
    with pytest.raises(InvalidInput, match=r"do not fit into a JPEG file .*; save it as \.png"):
        made.save(tmp_path / "heart.jpg")
    assert not list(tmp_path.iterdir())


def test_a_lossy_image_of_another_program_has_no_metadata(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.webp"):
        IMAGE.save(tmp_path / name)
        with pytest.raises(MediaUnsupported, match="has no generation metadata"):
            Generation.load(tmp_path / name)
