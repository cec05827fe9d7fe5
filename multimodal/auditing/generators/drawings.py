"""Words written on images, drawn shapes, and images side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

COLOURS = {
    "red": (214, 40, 40), "blue": (38, 84, 200), "green": (40, 150, 60), "yellow": (240, 200, 30),
    "purple": (130, 50, 170), "orange": (240, 130, 20),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star")
WORD_HEIGHT = 0.16  # of the side
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def write_word(pixels: Pixels, word: str, *, share: float = WORD_HEIGHT) -> Pixels:
    """Writes a word across the lower part of an image, black on a white strip.

    Args:
        pixels: RGB (h, w, 3).
        word: What is written; it is shrunk to fit.
        share: The height of the letters, as a share of that of the image.

    Returns:
        RGB of the same shape.
    """
    import numpy as np

    picture = PIL.Image.fromarray(pixels)
    draw = PIL.ImageDraw.Draw(picture)
    size = max(6.0, share * picture.height)
    font = PIL.ImageFont.load_default(size)
    while draw.textlength(word, font) > 0.94 * picture.width and size > 6:
        size *= 0.9
        font = PIL.ImageFont.load_default(size)
    top = picture.height * (1 - 1.5 * share) - size * 0.2
    draw.rectangle((0, top, picture.width, top + size * 1.4), fill="white")
    draw.text((picture.width / 2, top + size * 0.7), word, fill="black", font=font, anchor="mm")
    return np.asarray(picture)


def nonsense(word: str, rng: np.random.Generator) -> str:
    """Letters that are no word, in the lengths of the words of another text."""
    return " ".join(
        "".join(rng.choice(list(CONSONANTS if place % 2 == 0 else VOWELS)) for place in range(len(part)))
        for part in word.split()
    )


def shape(name: str, colour: str, side: int) -> Pixels:
    """A filled shape on white.

    Args:
        name: One of SHAPES.
        colour: One of COLOURS.
        side: In pixels.

    Returns:
        RGB (side, side, 3).
    """
    import numpy as np

    fine = side * 4
    picture = PIL.Image.new("RGB", (fine, fine), "white")
    draw, fill = PIL.ImageDraw.Draw(picture), COLOURS[colour]
    near, far, middle = fine * 0.15, fine * 0.85, fine / 2
    if name == "circle":
        draw.ellipse((near, near, far, far), fill=fill)
    elif name == "square":
        draw.rectangle((near, near, far, far), fill=fill)
    elif name == "triangle":
        draw.polygon([(middle, near), (far, far), (near, far)], fill=fill)
    else:
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, fine * 0.38, fine * 0.16)
        points = [
            (middle + r * np.cos(a), middle + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)
        ]
        draw.polygon(points, fill=fill)
    return np.asarray(picture.resize((side, side), PIL.Image.Resampling.LANCZOS))


def beside(first: Pixels, second: Pixels, *, vertical: bool = False) -> Pixels:
    """Two images of one size in a square: side by side, or the first above the second, on white."""
    import numpy as np

    side = first.shape[0]
    half = side // 2
    canvas = np.full((side, side, 3), 255, np.uint8)
    small = [
        np.asarray(PIL.Image.fromarray(p).resize((half, half), PIL.Image.Resampling.LANCZOS))
        for p in (first, second)
    ]
    quarter = side // 4
    if vertical:
        canvas[:half, quarter : quarter + half], canvas[half : 2 * half, quarter : quarter + half] = small
    else:
        canvas[quarter : quarter + half, :half], canvas[quarter : quarter + half, half : 2 * half] = small
    return canvas


def repeated(pixels: Pixels, count: int) -> Pixels:
    """1 to 4 copies of an image in a square, on white."""
    import numpy as np

    side = pixels.shape[0]
    half = side // 2
    canvas = np.full((side, side, 3), 255, np.uint8)
    small = np.asarray(PIL.Image.fromarray(pixels).resize((half, half), PIL.Image.Resampling.LANCZOS))
    middle = side // 4
    places = {
        1: [(middle, middle)],
        2: [(middle, 0), (middle, half)],
        3: [(0, middle), (half, 0), (half, half)],
        4: [(0, 0), (0, half), (half, 0), (half, half)],
    }[count]
    for top, left in places:
        canvas[top : top + half, left : left + half] = small
    return canvas
