"""The emoji world: pictures of emoji over varied backgrounds, their names, and the names spoken.

Needs Debian's fonts-noto-color-emoji, unicode-data and libraqm0, and libespeak-ng1 for speech.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image as Pillow

from multimodal.core.items import Audio, Image, Text
from recipes.pretrain.samples import Sample
from recipes.starter.data import backgrounds, glyphs
from recipes.starter.data.concepts import EMOJI_TEST, VS16, is_duplicate, plain
from recipes.starter.data.voices import Espeak, training_voice

SIDE = 64
N_BACKGROUNDS = 400
SCALE = (0.55, 1.0)  # of the picture's side
ANGLE = 25  # degrees


def names() -> list[tuple[str, str]]:
    """(emoji, name) of each emoji that looks unlike the others, from Unicode's emoji-test.txt."""
    if not EMOJI_TEST.exists():
        raise FileNotFoundError(f"{EMOJI_TEST} is missing: install Debian's unicode-data")
    found = []
    for line in EMOJI_TEST.read_text(encoding="utf-8").splitlines():
        codes, _, rest = line.partition(";")
        if not rest.strip().startswith("fully-qualified"):
            continue
        points = [int(code, 16) for code in codes.split()]
        if not is_duplicate(points):
            name = rest.partition("#")[2].split(maxsplit=2)[2]
            found.append(("".join(map(chr, points)), plain(name)))
    return found


class EmojiWorld:
    """`renders` pictures of each of `concepts` emoji (0: all), drawn when they are asked for.

    The concepts are spread over all groups of emoji. A sample's picture and voice depend on its key alone.
    """

    def __init__(self, concepts: int = 0, renders: int = 30) -> None:
        everything = names()
        random.Random(0).shuffle(everything)
        self.drawings: list[tuple[str, Pillow.Image]] = []
        for emoji, name in everything:
            glyph = glyphs.noto(emoji.rstrip(chr(VS16)) or emoji)
            if glyph is not None:
                self.drawings.append((name, Pillow.fromarray(glyph)))
            if len(self.drawings) == concepts:
                break
        self.renders = renders

    @functools.cached_property
    def grounds(self) -> np.ndarray:
        """(N_BACKGROUNDS, 3, SIDE, SIDE) uint8."""
        return backgrounds.pool(backgrounds.TRAINED, N_BACKGROUNDS, SIDE, 0)

    @functools.cached_property
    def espeak(self) -> Espeak:
        return Espeak()

    def epoch(self, seed: int) -> Iterator[Sample]:
        order = [(row, take) for row in range(len(self.drawings)) for take in range(self.renders)]
        random.Random(seed).shuffle(order)
        for row, take in order:
            name = self.drawings[row][0]
            yield Sample(
                f"{name}/{take}",
                {
                    "text": functools.partial(Text, name),
                    "image": functools.partial(self.picture, row, take),
                    "audio": functools.partial(self.speech, name, take),
                },
            )

    def picture(self, row: int, take: int) -> Image:
        """One emoji, scaled, turned and moved over a background."""
        rng = random.Random(row * 10_007 + take)
        ground = self.grounds[rng.randrange(N_BACKGROUNDS)].transpose(1, 2, 0)
        canvas = Pillow.fromarray(np.ascontiguousarray(ground)).convert("RGBA")
        side = round(SIDE * rng.uniform(*SCALE))
        glyph = self.drawings[row][1].rotate(rng.uniform(-ANGLE, ANGLE), Pillow.Resampling.BILINEAR)
        glyph = glyph.resize((side, side), Pillow.Resampling.BILINEAR)
        canvas.alpha_composite(glyph, (rng.randint(0, SIDE - side), rng.randint(0, SIDE - side)))
        return Image(np.asarray(canvas.convert("RGB")))

    def speech(self, name: str, take: int) -> Audio:
        """The name in a random voice."""
        samples = self.espeak.say(name, training_voice(random.Random(f"{name}/{take}")))
        return Audio({"array": samples, "sampling_rate": self.espeak.rate_hz})
