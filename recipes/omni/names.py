"""Names of the items of charts: words, made-up words, years and codes; some words are held out of training."""

from __future__ import annotations

import json
import random
import zlib
from functools import lru_cache
from pathlib import Path

CONFIG = Path(__file__).parent.parent.parent / "assets" / "starter" / "config.json"


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


USUAL = listed(
    "jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun monday tuesday wednesday thursday "
    "friday saturday sunday january february march april june july august september october november december north "
    "south east west red blue green yes no other total men women boys girls cats dogs apples pears plums tea coffee "
    "milk water wine beer bread rice a b c d e f g h q1 q2 q3 q4 paris rome berlin london madrid oslo"
)
ONSETS = listed(
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kn l m n p pl pr qu r s sc sh sk sl sp st t th tr v w wh x y z"
)
VOWELS = listed("a e i o u ai ea ee ie oa oo ou y")
CODAS = ["", "", "", *listed("b ck d f g l ll m n nd ng nt p r rd rk rt s ss st t tch th v w x z")]


def is_held_out(word: str) -> bool:
    """Whether a word is kept for the evaluation: one in ten."""
    return zlib.crc32(word.encode()) % 10 == 0


@lru_cache(maxsize=2)
def words(*, held_out: bool) -> list[str]:
    """Whole words of the starter's vocabulary, of 2 to 12 letters."""
    vocabulary = json.loads(CONFIG.read_text())["encoders"]["text"]["config"]["vocabulary"]
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and 2 <= len(word) <= 12]
    return [word for word in known if is_held_out(word) == held_out]


def made_up(rng: random.Random) -> str:
    """A pronounceable word of one to three syllables that no dictionary holds, or hardly any."""
    return "".join(
        rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.choice((1, 2, 2, 3)))
    )


def code(rng: random.Random) -> str:
    """A year, or letters and digits."""
    if rng.random() < 0.4:
        return str(rng.randint(1950, 2030))
    kind = rng.choice(("a", "a0", "a00", "aa", "aaa", "aaaa", "aaaaa", "aaaaaa"))
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz" if c == "a" else "0123456789") for c in kind)


def name(rng: random.Random, *, held_out: bool = False) -> str:
    """A name, in lower case. held_out: only words that training never draws."""
    if held_out:
        return rng.choice(words(held_out=True))
    draw = rng.random()
    if draw < 0.45:
        return rng.choice(words(held_out=False))
    if draw < 0.6:
        return rng.choice([usual for usual in USUAL if not is_held_out(usual)])
    return made_up(rng) if draw < 0.85 else code(rng)


def cased(text: str, rng: random.Random) -> str:
    """Capitalised, as it is, or in capitals."""
    draw = rng.random()
    return text.capitalize() if draw < 0.5 else text if draw < 0.85 else text.upper()
