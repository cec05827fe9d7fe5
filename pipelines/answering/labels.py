"""How a source is named, in the prompt and to people."""

from __future__ import annotations

import textwrap
from pathlib import Path

from multimodal.index import Hit

LABEL_CHARS = 40


def source_label(hit: Hit) -> str:
    """The name and place of a source, as "guide.pdf, page 3"; the first words of a text without a file."""
    name = Path(hit.uri).name if hit.uri else hit.id
    if not hit.uri and hit.text is not None:
        name = textwrap.shorten(hit.snippet, LABEL_CHARS, placeholder=" …")
    return ", ".join(filter(None, (name, hit.location)))
