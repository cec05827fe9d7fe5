"""Generation results: an image or audio, with the metadata that reproduces it."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.errors import InvalidInput, MediaCorrupt
from multimodal.core.items import Audio
from multimodal.pipelines.generation import files as files

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

METADATA_FIELDS = (
    "prompt", "model", "seed", "steps", "guidance", "negative", "strength", "flagged", "made_by", "version",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Generation:
    """One generated image or audio.

    Attributes:
        model: The name of the model.
        prompt: The prompt, or None.
        seed: The seed; the same seed gives the same output.
        image: RGB, or None for audio.
        samples: float32 (n,) or (n, channels) in -1 to 1, or None for an image.
        rate_hz: The sampling rate of `samples`.
        steps: As used, like the fields up to `strength`; None where it does not apply or the model does not tell.
        guidance: The guidance scale.
        negative: The negative prompt.
        strength: How much of the starting image could change.
        flagged: Whether the checkpoint's safety checker rejected the output, which is then black; None without a safety
            checker.
        made_by: The class that generated it.
        version: Of multimodal.
    """

    model: str
    prompt: str | None
    seed: int
    image: PIL.Image.Image | None = None
    samples: NDArray[np.float32] | None = None
    rate_hz: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str | None = None
    strength: float | None = None
    flagged: bool | None = None
    made_by: str = ""
    version: str = ""

    @property
    def audio(self) -> Audio | None:
        """The audio as an item, to be encoded, transcribed or captioned; None for an image."""
        if self.samples is None:
            return None
        return Audio({"array": self.samples, "sampling_rate": self.rate_hz})

    @property
    def seconds(self) -> float | None:
        """The duration of the audio; None for an image."""
        return None if self.samples is None or not self.rate_hz else len(self.samples) / self.rate_hz

    @property
    def suffix(self) -> str:
        """The suffix of its file by default: ".png" or ".wav"."""
        return ".png" if self.samples is None else ".wav"

    @property
    def metadata(self) -> dict[str, Any]:
        """What `save` writes into the file beside the image or audio."""
        return {name: getattr(self, name) for name in METADATA_FIELDS}

    def to_dict(self) -> dict[str, Any]:
        """Converts everything but the pixels or samples to plain values.

        Returns:
            The metadata and the size, ready for JSON.
        """
        if self.samples is not None:
            return self.metadata | {"seconds": self.seconds, "rate_hz": self.rate_hz}
        return self.metadata | {"width": self._checked_image.width, "height": self._checked_image.height}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes an image or a 16-bit WAV with the metadata in it, atomically, replacing an existing file.

        Args:
            path: Ends in .png, .jpg, .jpeg or .webp for an image, in .wav for audio. JPEG and WebP are lossy.

        Returns:
            The path.

        Raises:
            InvalidInput: Another suffix, or a folder that does not exist.
        """
        target = files.check_suffix(path, self.suffix)
        if self.samples is None:
            content = files.image_bytes(self._checked_image, self.metadata, target.suffix)
        else:
            content = files.wav_bytes(self.samples, self.rate_hz or 1, self.metadata)
        files.write_atomically(target, content)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Returns:
            The generation with its metadata.

        Raises:
            MediaError: The file is missing, damaged, or was not written by `save`.
        """
        metadata = files.read_metadata(path)
        if not {"model", "prompt", "seed"} <= metadata.keys():
            raise MediaCorrupt(f"{path}: its metadata lacks the model, the prompt or the seed")
        known = {name: metadata[name] for name in METADATA_FIELDS if name in metadata}
        file = Path(path).expanduser()
        if file.read_bytes()[:12][8:] == b"WAVE":
            import soundfile

            samples, rate_hz = soundfile.read(file, dtype="float32")
            return cls(samples=samples, rate_hz=int(rate_hz), **known)
        import PIL.Image

        with PIL.Image.open(file) as image:
            return cls(image=image.convert("RGB"), **known)

    @property
    def _checked_image(self) -> PIL.Image.Image:
        if self.image is None:
            raise InvalidInput("this Generation holds neither an image nor audio; give image= or samples=")
        return self.image

    def _repr_png_(self) -> bytes | None:
        return None if self.image is None else files.png_bytes(self.image, None)

    def _repr_html_(self) -> str | None:
        """A player for audio; images are shown by `_repr_png_`."""
        if self.samples is None or self.rate_hz is None:
            return None
        from multimodal.core.media import audio as media_audio

        audio = self.audio
        player = "" if audio is None else media_audio.player_html(audio.load())
        return f"<figure>{player}<figcaption>{html.escape(self.prompt or '')}</figcaption></figure>"

    def __repr__(self) -> str:
        if self.samples is None:
            size = f"{self._checked_image.width}x{self._checked_image.height}"
        else:
            size = f"{self.seconds:.2f} s at {self.rate_hz} Hz"
        flagged = ", flagged" if self.flagged else ""
        return f"Generation({self.prompt!r}, {size}, seed={self.seed}, model={self.model!r}{flagged})"
