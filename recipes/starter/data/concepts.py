"""The concepts: emoji, their names, and the names that are held out from training.

A concept is one fully-qualified emoji. Skin tones, gendered and role duplicates, families and country flags are left
out: their images differ by a few pixels and their names by one word, which a tower of 64 pixels cannot resolve.

Sources: emoji-test.txt (Debian `unicode-data`), CLDR annotations (npm `cldr-annotations-full`,
`cldr-annotations-derived-full`), Unicode character names (Python's `unicodedata`).
"""

from __future__ import annotations

import json
import random
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
SKIN_TONES = range(0x1F3FB, 0x1F400)
REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
TAGS = range(0xE0020, 0xE0080)
ZWJ, VS16 = 0x200D, 0xFE0F
GENDER_SIGNS = {0x2640, 0x2642}
ADULTS = {
    0x1F468,
    0x1F469,
}  # man, woman: as the first of a ZWJ sequence the person form 0x1F9D1 stands for both
FAMILY_PARTS = {0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F9D1, 0x1F9D2}
HELD_OUT_KEYWORD_SHARE = 0.12
SEED = 20261123


@dataclass(frozen=True)
class Concept:
    """One emoji: its characters, CLDR short name, trained keywords, held-out keywords, Unicode name if it differs."""

    emoji: str
    name: str
    keywords: tuple[str, ...]
    held_out: tuple[str, ...]
    unicode_name: str | None
    group: str


def is_duplicate(codes: list[int]) -> bool:
    """Whether an emoji repeats another picture but for skin, gender, family make-up or nation."""
    kept = [code for code in codes if code != VS16]
    if any(code in SKIN_TONES or code in REGIONAL_INDICATORS or code in TAGS for code in kept):
        return True
    if ZWJ not in kept:
        return False
    parts = [code for code in kept if code != ZWJ]
    if GENDER_SIGNS & set(parts) or parts[0] in ADULTS:
        return True
    return sum(part in FAMILY_PARTS for part in parts) > 1


def fully_qualified(path: Path = EMOJI_TEST) -> list[tuple[str, str]]:
    """(emoji, group) for every fully-qualified line of emoji-test.txt."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install Debian's unicode-data")
    group, results = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif "; fully-qualified" in line:
            codes = [int(code, 16) for code in line.split(";")[0].split()]
            results.append(("".join(map(chr, codes)), group))
    return results


def annotations(npm: Path, language: str = "en") -> dict[str, dict[str, list[str]]]:
    """CLDR's names (`tts`) and keywords (`default`) by emoji; CLDR's keys leave out U+FE0F."""
    merged: dict[str, dict[str, list[str]]] = {}
    for package, folder, root in (
        ("cldr-annotations-derived-full", "annotationsDerived", "annotationsDerived"),
        ("cldr-annotations-full", "annotations", "annotations"),
    ):
        file = npm / package / folder / language / "annotations.json"
        merged |= json.loads(file.read_text(encoding="utf-8"))[root]["annotations"]
    return merged


def unicode_name(emoji: str) -> str | None:
    """The Unicode name of a single-character emoji, lower case; None for sequences."""
    characters = emoji.replace(chr(VS16), "")
    return unicodedata.name(characters, "").lower() or None if len(characters) == 1 else None


def plain(text: str) -> str:
    """How names are compared: lower case, hyphens and curly quotes as people type them."""
    return " ".join(
        text.lower().replace("“", "").replace("”", "").replace("’", "'").replace("-", " ").split()
    )


def speakable(keyword: str) -> bool:
    """A keyword people would say: has a letter and is not an emoticon."""
    return sum(ch.isalpha() for ch in keyword) >= 2 and keyword.isascii()


def concepts(npm: Path, has_glyph: set[str] | None = None) -> list[Concept]:
    """Every concept with its split of keywords, the same on every run.

    A held-out keyword is a string taken from training for *all* concepts, and is never a word of a trained name.
    """
    table = annotations(npm)
    rows = []
    for emoji, group in fully_qualified():
        codes = [ord(ch) for ch in emoji]
        note = table.get(emoji) or table.get(emoji.replace(chr(VS16), ""))
        if (
            group == "Component"
            or is_duplicate(codes)
            or not note
            or (has_glyph is not None and emoji not in has_glyph)
        ):
            continue
        name = plain(note["tts"][0])
        keywords = sorted({plain(word) for word in note.get("default", []) if speakable(word)} - {name})
        rows.append((emoji, name, keywords, group))
    held = held_out_keywords([(name, keywords) for _, name, keywords, _ in rows])
    names = {name for _, name, _, _ in rows}
    world = []
    for emoji, name, keywords, group in rows:
        official = unicode_name(emoji)
        if official is not None and (plain(official) == name or plain(official) in {*keywords, *names}):
            official = None  # nothing new to ask, or another concept's name
        world.append(
            Concept(
                emoji, name,
                tuple(word for word in keywords if word not in held),
                tuple(word for word in keywords if word in held),
                plain(official) if official else None, group,
            )
        )  # fmt: skip
    return world


def held_out_keywords(rows: list[tuple[str, list[str]]]) -> set[str]:
    """Keyword strings never trained on, drawn from those that fit few concepts and are the name of none."""
    names = {name for name, _ in rows}
    uses: dict[str, int] = {}
    for _, keywords in rows:
        for word in keywords:
            uses[word] = uses.get(word, 0) + 1
    pool = sorted(word for word, count in uses.items() if count <= 5 and word not in names)
    return set(random.Random(SEED).sample(pool, round(HELD_OUT_KEYWORD_SHARE * len(pool))))


def save(world: list[Concept], path: Path) -> None:
    """Write concepts as JSON, one line a concept."""
    path.write_text(
        "\n".join(json.dumps(asdict(concept), ensure_ascii=False) for concept in world), encoding="utf-8"
    )


def read(path: Path) -> list[Concept]:
    """The concepts that `save` wrote."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Concept(**{**row, "keywords": tuple(row["keywords"]), "held_out": tuple(row["held_out"])})
        for row in rows
    ]
