"""What a model made: a picture or a sound, and all that is needed to make it again."""

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

TOLD = (
    "prompt", "model", "seed", "steps", "guidance", "negative", "strength", "flagged", "made_by", "version",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Generation:
    """image: RGB, or None for a sound. samples: float32 (n,), or (n, channels), at rate_hz; None for a picture.

    model, prompt, seed, steps, guidance, negative, strength: as it was made; None where it does not apply or the model
    keeps it to itself. flagged: whether the checkpoint's safety checker refused it, in which case the picture is black;
    None if it brings none. made_by: the class that made it, and its library. version: of multimodal.
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
        """The sound as an item, to be encoded, transcribed or captioned; None for a picture."""
        if self.samples is None:
            return None
        return Audio({"array": self.samples, "sampling_rate": self.rate_hz})

    @property
    def seconds(self) -> float | None:
        """How long the sound is; None for a picture."""
        return None if self.samples is None or not self.rate_hz else len(self.samples) / self.rate_hz

    @property
    def suffix(self) -> str:
        """How its file ends: ".png" or ".wav"."""
        return ".png" if self.samples is None else ".wav"

    @property
    def metadata(self) -> dict[str, Any]:
        """What `save` writes beside the picture or sound."""
        return {name: getattr(self, name) for name in TOLD}

    def to_dict(self) -> dict[str, Any]:
        """The metadata and the size: all but the pixels or samples themselves, ready for JSON."""
        if self.samples is not None:
            return self.metadata | {"seconds": self.seconds, "rate_hz": self.rate_hz}
        return self.metadata | {"width": self._picture.width, "height": self._picture.height}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a PNG or a 16-bit WAV with the metadata in it, all or nothing, and returns where.

        A file of that name is replaced. Raises InvalidInput for another ending or a folder that does not exist.
        """
        place = files.check_suffix(path, self.suffix)
        if self.samples is None:
            content = files.png_bytes(self._picture, self.metadata)
        else:
            content = files.wav_bytes(self.samples, self.rate_hz or 1, self.metadata)
        files.write_whole(place, content)
        return place

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What `save` wrote, read back. Raises MediaError for a file that is missing, broken, or no such file."""
        told = files.read_metadata(path)
        if not {"model", "prompt", "seed"} <= told.keys():
            raise MediaCorrupt(
                f"{path}: what it says of how it was made lacks the model, the prompt or the seed"
            )
        known = {name: told[name] for name in TOLD if name in told}
        place = Path(path).expanduser()
        if place.read_bytes()[:4] == b"RIFF":
            import soundfile

            samples, rate_hz = soundfile.read(place, dtype="float32")
            return cls(samples=samples, rate_hz=int(rate_hz), **known)
        import PIL.Image

        with PIL.Image.open(place) as image:
            return cls(image=image.convert("RGB"), **known)

    @property
    def _picture(self) -> PIL.Image.Image:
        if self.image is None:
            raise InvalidInput("this Generation holds neither a picture nor a sound; give image= or samples=")
        return self.image

    def _repr_png_(self) -> bytes | None:
        return None if self.image is None else files.png_bytes(self.image, None)

    def _repr_html_(self) -> str | None:
        """A player for a sound; a picture shows itself."""
        if self.samples is None or self.rate_hz is None:
            return None
        from multimodal.core.media import audio as media_audio

        audio = self.audio
        player = "" if audio is None else media_audio.player_html(audio.load())
        return f"<figure>{player}<figcaption>{html.escape(self.prompt or '')}</figcaption></figure>"

    def __repr__(self) -> str:
        if self.samples is None:
            size = f"{self._picture.width}x{self._picture.height}"
        else:
            size = f"{self.seconds:.2f} s at {self.rate_hz} Hz"
        flagged = ", flagged" if self.flagged else ""
        return f"Generation({self.prompt!r}, {size}, seed={self.seed}, model={self.model!r}{flagged})"
