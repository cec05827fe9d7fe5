"""Part: what a reader yields of a document, and the options it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from multimodal.core.errors import MediaCorrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Source = Path | bytes
Pages = Literal["auto", "text", "image"]

CODE_CHARS = (
    4000  # benchmarks/code_search.py prints the share of longer functions; encoders read the beginning
)

# Control characters carry no meaning in a text, and lone surrogates cannot be stored.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
BLANK_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")
SPACES = re.compile(r"[ \t\u00a0]{2,}")


class NoText(MediaCorrupt):
    """A document that can be read, and holds nothing to index."""


@dataclass(frozen=True)
class Part:
    """One part of a document, such as a page.

    Attributes:
        text: The words of the part; "" without any.
        locator: Where it is, as the id says it: {"page": 3}. Unique within a document.
        image: The part as an image, uint8 RGB (h, w, 3), which is encoded instead of the text.
        start_s: Start in seconds, of a subtitle.
        end_s: End in seconds.
    """

    text: str
    locator: Mapping[str, str | int] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How a document is read.

    Attributes:
        pages: Whether a page of a PDF is text, an image, or ("auto") an image if it has hardly any text.
        encodes_text: Whether the space encodes text.
        encodes_images: Whether the space encodes images; without it, no page is rendered.
        passage_chars: Characters that the encoder of text takes, for readers that group short lines.
        code_chars: Characters of the longest function that stays whole.
        max_text_bytes: Size of the largest text.
        max_pages: Pages of the longest PDF.
    """

    pages: Pages = "auto"
    encodes_text: bool = True
    encodes_images: bool = True
    passage_chars: int = 300
    code_chars: int = CODE_CHARS
    max_text_bytes: int = 8 << 20
    max_pages: int = 10_000


def tidy(text: str) -> str:
    """A text without control characters, runs of spaces and more than one empty line in a row."""
    text = UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return BLANK_LINES.sub("\n\n", SPACES.sub(" ", text)).strip()
