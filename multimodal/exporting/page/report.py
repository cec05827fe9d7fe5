"""What the export of a page wrote."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PageExport:
    """What `multimodal.export` wrote with format="page".

    Attributes:
        folder: Where it is.
        name: The name of the source.
        fingerprint: Of the source, and of the index.
        n_items: Items that the page searches.
        vectors: How they are stored: "float32", "float16" or "int8".
        sizes: Bytes by part: "page", "text", "image", "audio" (towers), "items", "vectors", "thumbnails", "media".
        n_text_bytes: What a search by text loads, without the items: scripts, styles and the text tower.
        missing: Files of items that could not be read, each with the reason; such items have no image or sound.
    """

    folder: str
    name: str
    fingerprint: str
    n_items: int
    vectors: str
    sizes: Mapping[str, int]
    n_text_bytes: int
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(self.sizes.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self) | {
            "sizes": dict(self.sizes),
            "missing": [{"uri": uri, "reason": reason} for uri, reason in self.missing],
            "n_bytes": self.n_bytes,
        }

    def cells(self) -> list[tuple[str, str]]:
        """(part, size) as text, and the total."""
        parts = [(part, size) for part, size in self.sizes.items() if size]
        return [(part, f"{size / 1e6:.2f} MB") for part, size in [*parts, ("total", self.n_bytes)]]

    def __str__(self) -> str:
        return "\n".join(f"{part:<12}{size:>10}" for part, size in self.cells())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{part}</td><td>{size}</td></tr>" for part, size in self.cells())
        return f"<b>Page of {self.n_items:,} items, {html.escape(self.folder)}</b><table>{rows}</table>"
