"""Words: which rows hold which words, so that they can be found by them.

The words of a row are those of its text, of its file's name and folder, and of the texts in its metadata (captions,
transcripts). They are compared without case and accents. Letters and digits make words; where words are written
without spaces (Chinese, Japanese) each character is one.

LanceDB's own full-text search was tried first and left: what it finds differs before and after its index is built (it
folds case and plurals only then), and it cannot be built over metadata.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SATURATION, LENGTH_SHARE = 1.2, 0.75  # k1 and b of BM25: the usual values (Robertson & Zaragoza 2009, 3.3)
UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}])"
NO_WORD = r"[^\p{L}\p{N}]+"


def text_of(row: Row) -> str:
    """All the words of a row, as they were written; each source on a line of its own."""
    told = [value for value in row.metadata.values() if isinstance(value, str)]
    path = PurePath(row.uri or "")
    return "\n".join([row.text or "", path.stem, path.parent.name, *told])


def split(texts: Sequence[str]) -> Any:
    """Texts -> an Arrow list of words for each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_normalize(pa.array(texts, pa.large_string()), "NFKD")
    plain = pc.utf8_lower(pc.replace_substring_regex(plain, r"\p{M}", ""))
    plain = pc.replace_substring_regex(plain, UNSPACED, r" \1 ")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, NO_WORD, " "), " ")
    return pc.split_pattern(plain, " ")


def words_in(text: str) -> list[str]:
    """The words of one text, in order."""
    return [word for word in split([text])[0].as_py() if word]


@dataclass(frozen=True)
class Sought:
    """What a text asks for: `words`, each once; what stands in double quotes must be there as it stands."""

    words: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, text: object) -> Sought:
        """Raises InvalidInput if there is no word in it."""
        if not isinstance(text, str):
            raise InvalidInput(f"the words to look for must be a str, got {type(text).__name__}")
        words = words_in(text)
        if not words:
            raise InvalidInput(f"there is no word to look for in {text!r}; give at least one letter or digit")
        phrases = (tuple(words_in(phrase)) for phrase in re.findall(r'"([^"]*)"', text))
        return cls(tuple(dict.fromkeys(words)), tuple(phrase for phrase in phrases if phrase))

    def met_by(self, row: Row) -> bool:
        """Whether all phrases stand in one source of the row's words each."""
        lines = [f" {' '.join(words_in(line))} " for line in text_of(row).splitlines()]
        return all(any(f" {' '.join(phrase)} " in line for line in lines) for phrase in self.phrases)


@dataclass(frozen=True, eq=False)
class Words:
    """Of n texts, which hold a word, and how often.

    letters: all words in UTF-8, sorted, one behind the other. ends: (words,) where each ends in `letters`. starts:
    (words + 1,) where its texts begin in `places` (p,) and `counts` (p,). lengths: (n,) words in each text.
    """

    letters: NDArray[np.uint8]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, batches: Iterable[tuple[NDArray[np.intp], Sequence[str]]], n: int) -> Words:
        """Batches of places below n and the texts that stand there; other places hold no words.

        Memory: some 30 bytes for each different word of a text.
        """
        import numpy as np

        known: dict[str, int] = {}
        empty = np.empty(0, np.int32)
        words, places, counts = [empty], [empty], [empty]
        lengths = np.zeros(n, np.int32)
        for where, texts in batches:
            owner, word, count = _counted(texts, known)
            words.append(word)
            places.append(where[owner].astype(np.int32))
            counts.append(count)
            lengths[where] = np.bincount(owner, count, minlength=len(where))
        ordered = sorted(known)  # by code points, which is the order of their UTF-8 too
        rank = np.empty(len(known), np.int32)
        rank[[known[word] for word in ordered]] = np.arange(len(known), dtype=np.int32)
        ranks = rank[np.concatenate(words)]
        order = np.argsort(ranks, kind="stable")
        encoded = [word.encode() for word in ordered]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.cumsum([len(word) for word in encoded], dtype=np.int64),
            np.concatenate([[0], np.cumsum(np.bincount(ranks, minlength=len(known)))]).astype(np.int64),
            np.concatenate(places)[order],
            np.concatenate(counts)[order],
            lengths,
        )

    @classmethod
    def read(cls, folder: Path) -> Words:
        """What `write` wrote; read in place. Raises OSError, ValueError."""
        import numpy as np

        return cls(**{one.name: np.load(folder / f"{one.name}.npy", mmap_mode="r") for one in fields(cls)})

    def write(self, folder: Path) -> None:
        import numpy as np

        for one in fields(self):
            np.save(folder / f"{one.name}.npy", getattr(self, one.name))

    def having(self, word: str) -> slice:
        """Where in `places` and `counts` the texts are that hold a word."""
        wanted = word.encode()
        at = bisect.bisect_left(range(len(self.ends)), wanted, key=self._word)
        if at == len(self.ends) or self._word(at) != wanted:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def _word(self, at: int) -> bytes:
        return self.letters[int(self.ends[at - 1]) if at else 0 : int(self.ends[at])].tobytes()


def _counted(texts: Sequence[str], known: dict[str, int]) -> tuple[Any, Any, Any]:
    """Which text holds which word how often: (p,) each. Words are numbered by `known`, which grows."""
    import numpy as np

    lists = split(texts)
    found = lists.flatten().dictionary_encode()
    owner = np.repeat(np.arange(len(texts)), np.diff(lists.offsets.to_numpy()))
    here = found.dictionary.to_pylist()
    n = max(1, len(here))
    pairs, counts = np.unique(owner * n + found.indices.to_numpy(), return_counts=True)
    ids = np.array([known.setdefault(word, len(known)) if word else -1 for word in here], np.int32)
    words = ids[pairs % n] if here else np.empty(0, np.int32)
    kept = words >= 0
    return (pairs // n)[kept], words[kept], counts[kept].astype(np.int32)


def scores(parts: Sequence[Words], sought: Sequence[str]) -> list[NDArray[np.float32]]:
    """BM25 of every text of each part, (n,): 0 for those without any of the words.

    How rare a word is, and how long texts are, is taken over all parts.
    """
    import numpy as np

    n = sum(len(part.lengths) for part in parts)
    mean = max(1.0, sum(float(part.lengths.sum()) for part in parts) / max(1, n))
    out = [np.zeros(len(part.lengths), np.float32) for part in parts]
    for word in sought:
        where = [part.having(word) for part in parts]
        holding = sum(one.stop - one.start for one in where)
        rarity = math.log(1 + (n - holding + 0.5) / (holding + 0.5))
        for part, one, total in zip(parts, where, out, strict=True):
            places, counts = part.places[one], part.counts[one].astype(np.float32)
            length = 1 - LENGTH_SHARE + LENGTH_SHARE * part.lengths[places] / np.float32(mean)
            total[places] += np.float32(rarity) * counts * (SATURATION + 1) / (counts + SATURATION * length)
    return out


def holding_all(part: Words, sought: Iterable[str]) -> NDArray[np.bool_]:
    """Which texts hold every one of these words, (n,)."""
    import numpy as np

    mask = np.ones(len(part.lengths), bool)
    for word in sought:
        one = np.zeros(len(part.lengths), bool)
        one[part.places[part.having(word)]] = True
        mask &= one
    return mask
