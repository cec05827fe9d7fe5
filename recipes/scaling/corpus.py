"""The text of the study: a dictionary of Debian, or any text file, as characters of a small alphabet.

The default is `dict-gcide` (GNU Collaborative International Dictionary of English, 40 MB), or else the definitions of
`wordnet-base`. Only figures are kept from either.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,;:()'\"-?"
GCIDE = Path("/usr/share/dictd/gcide.dict.dz")
WORDNET = Path("/usr/share/wordnet")
BLOCK = 4096  # characters that stay together: the split into training and test text takes whole blocks
N_TEST = 100  # blocks


@dataclass(frozen=True)
class Corpus:
    """Characters as indices into ALPHABET: training text (n,) uint8, and test text (m,) uint8 from all over it."""

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]

    @property
    def fingerprint(self) -> str:
        """Of the training text."""
        return hashlib.sha256(self.train.tobytes()).hexdigest()[:12]


def clean(text: str) -> str:
    """Lower case, single spaces, and only characters of ALPHABET."""
    text = re.sub(
        r"\[[^\]]{0,200}\]|\\[^\\\n]{0,80}\\|[{}]", " ", text
    ).lower()  # sources, pronunciations, links
    text = re.sub(f"[^{re.escape(ALPHABET)}]", " ", text)
    text = re.sub(r"[ ]*\n\s*\n\s*", "\n", re.sub(r"[ ]+", " ", text))
    return re.sub(r"[ ]+", " ", re.sub(r"(?<!\n)\n(?= )", " ", text))


def read(path: Path | None = None) -> str:
    """The text of a file or of a folder's .txt files; by default of an installed dictionary.

    Raises:
        FileNotFoundError: If there is no text; the message names what to install.
    """
    if path is not None:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files or not all(file.exists() for file in files):
            raise FileNotFoundError(f"no text at {path}: name a text file, or a folder of .txt files")
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    if GCIDE.exists():
        return gzip.decompress(GCIDE.read_bytes()).decode("utf-8", errors="replace")
    definitions = [
        line.split("|", 1)[1]
        for file in sorted(WORDNET.glob("data.*"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.startswith("  ")
    ]
    if not definitions:
        raise FileNotFoundError(
            f"neither {GCIDE} nor {WORDNET} exists: install Debian's dict-gcide, or pass --text with a file"
        )
    return "\n".join(definitions)


def split(text: str, seed: int = 0) -> Corpus:
    """Shuffles blocks of the text, so that any prefix of the training text is a sample of the whole."""
    indices = np.zeros(256, np.uint8)
    indices[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(len(ALPHABET))
    characters = indices[np.frombuffer(clean(text).encode("ascii"), np.uint8)]
    blocks = characters[: len(characters) // BLOCK * BLOCK].reshape(-1, BLOCK)
    n_test = min(N_TEST, max(1, len(blocks) // 20))
    if len(blocks) < 2:
        raise ValueError(f"got {len(characters):,} characters of text; at least {2 * BLOCK:,} are needed")
    order = np.random.default_rng(seed).permutation(len(blocks))
    return Corpus(blocks[order[n_test:]].reshape(-1), blocks[order[:n_test]].reshape(-1))
