"""Images of the concepts as square RGBA arrays: Noto and Twemoji for training, OpenMoji for evaluation only.

Licences: Noto Emoji font OFL-1.1; Twemoji artwork CC-BY-4.0; OpenMoji CC-BY-SA-4.0 (not used in training, not
shipped).
"""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
NOTO_SIZE = 109  # the only bitmap size in the font
SIDE = 80  # pixels kept: scenes are 64 px, glyphs are drawn into them at up to 1.15 of that
VS16 = chr(0xFE0F)


def square(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """Crop to the drawn part, centre on a square, resize: uint8 (side, side, 4) with straight alpha."""
    box = image.getchannel("A").getbbox()
    if box is None:
        raise ValueError("got a blank glyph; the font has no drawing for it")
    image = image.crop(box)
    edge = max(image.size)
    canvas = Image.new("RGBA", (edge, edge), (0, 0, 0, 0))
    canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    # premultiplied alpha, or the resize drags the colour of invisible pixels into the rim
    return np.asarray(canvas.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA"))


def noto(emoji: str, font: ImageFont.FreeTypeFont | None = None) -> np.ndarray | None:
    """The Noto Color Emoji glyph, or None where the font has none."""
    if not features.check("raqm"):
        raise RuntimeError(
            "Pillow has no raqm: joined emoji would be split without an error; install libraqm0"
        )
    font = font or ImageFont.truetype(str(NOTO), NOTO_SIZE)
    canvas = Image.new("RGBA", (420, 200), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((20, 20), emoji, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None or box[2] - box[0] > 150:  # blank, or a sequence the font draws as several glyphs
        return None
    return square(canvas)


def hexes(emoji: str, *, keep_vs16: bool) -> str:
    """Code points joined by hyphens, the way both drawing sets name their files."""
    return "-".join(f"{ord(ch):x}" for ch in emoji if keep_vs16 or ch != VS16)


def twemoji(emoji: str, folder: Path) -> np.ndarray | None:
    """Twitter's drawing of the emoji; None where there is none."""
    return from_svg([folder / f"{hexes(emoji, keep_vs16=keep)}.svg" for keep in (False, True)])


def openmoji(emoji: str, folder: Path) -> np.ndarray | None:
    """OpenMoji's drawing; None where there is none."""
    return from_svg([folder / f"{hexes(emoji, keep_vs16=keep).upper()}.svg" for keep in (True, False)])


def from_svg(candidates: list[Path]) -> np.ndarray | None:
    """The first file that exists, rasterised by librsvg."""
    for file in candidates:
        if file.exists():
            png = subprocess.run(
                ["rsvg-convert", "-w", "144", "-h", "144", str(file)], check=True, capture_output=True
            )
            return square(Image.open(BytesIO(png.stdout)).convert("RGBA"))
    return None


def noto_coverage(emojis: list[str]) -> dict[str, np.ndarray]:
    """Every emoji that Noto draws, with its drawing."""
    font = ImageFont.truetype(str(NOTO), NOTO_SIZE)
    drawn = {emoji: noto(emoji, font) for emoji in emojis}
    return {emoji: glyph for emoji, glyph in drawn.items() if glyph is not None}


def stack(emojis: list[str], drawings: dict[str, np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, SIDE, SIDE, 4) and bool (n,): a drawing for each emoji, zeros and False where one is missing."""
    glyphs = np.zeros((len(emojis), SIDE, SIDE, 4), np.uint8)
    present = np.zeros(len(emojis), bool)
    for row, emoji in enumerate(emojis):
        if (glyph := drawings.get(emoji)) is not None:
            glyphs[row], present[row] = glyph, True
    return glyphs, present
