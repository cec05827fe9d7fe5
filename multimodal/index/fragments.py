"""The part of an id that follows the id of a document: where a chunk is in it, such as "#page=3&chunk=1".

A fragment is a list of key=value pairs joined by "&". It alone determines the metadata of the chunk, so that a document
whose path or metadata changes needs no second look at its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import unquote

Scalar = str | int | float | bool | None

NUMBERS = ("page", "slide", "chapter")
NAMES = ("sheet", "symbol")
LINES = "lines"
ROWS = "rows"
ESCAPES = {"%": "%25", "&": "%26", "=": "%3D", "#": "%23"}
LANGUAGES: dict[str, str] = {
    suffix: language
    for language, suffixes in {
        "python": ".py .pyi", "javascript": ".js .mjs .cjs .jsx", "typescript": ".ts .mts .cts", "tsx": ".tsx",
        "java": ".java", "kotlin": ".kt .kts", "scala": ".scala", "go": ".go", "rust": ".rs", "c": ".c .h",
        "cpp": ".cc .cpp .cxx .hpp .hh .hxx", "csharp": ".cs", "objc": ".m", "swift": ".swift", "ruby": ".rb",
        "php": ".php", "perl": ".pl .pm", "lua": ".lua", "bash": ".sh .bash", "r": ".r", "julia": ".jl",
        "dart": ".dart", "elixir": ".ex .exs", "haskell": ".hs", "ocaml": ".ml", "sql": ".sql", "css": ".css",
        "scss": ".scss", "cuda": ".cu .cuh", "zig": ".zig",
    }.items()
    for suffix in suffixes.split()
}  # fmt: skip


def join(locator: Mapping[str, str | int]) -> str:
    """The fragment of a locator: {"page": 3, "chunk": 1} -> "page=3&chunk=1"."""
    return "&".join(f"{key}={_escape(str(value))}" for key, value in locator.items())


def split(fragment: str) -> dict[str, str]:
    """The locator of a fragment, with all values as text; {} for what is no fragment."""
    pairs = (pair.partition("=") for pair in fragment.removeprefix("#").split("&"))
    return {key: unquote(value) for key, sign, value in pairs if sign}


def metadata_of(fragment: str, uri: str | None) -> dict[str, str | int]:
    """The metadata that a fragment gives a chunk: page, slide, chapter, sheet, rows, symbol, lines and language.

    Args:
        fragment: What follows the id of the document in the id of the chunk; "" for a whole document.
        uri: The file, whose suffix names the language of source code.
    """
    metadata: dict[str, str | int] = {}
    for key, value in split(fragment).items():
        if key in NUMBERS and value.isdecimal():
            metadata[key] = int(value)
        elif key in NAMES or key == ROWS:
            metadata[key] = value
        elif key == LINES and (lines := _range(value)) is not None:
            metadata["start_line"], metadata["end_line"] = lines
            if language := LANGUAGES.get(PurePath(uri or "").suffix.lower()):
                metadata["language"] = language
    return metadata


def shared_metadata(
    metadata: Mapping[str, Scalar], id_: str, source: str, uri: str | None
) -> dict[str, Scalar]:
    """The metadata that the rows of a document share: that of one row, without its own, such as its page.

    Args:
        metadata: Of the row.
        id_: The id of the row.
        source: The id of the document.
        uri: The file of the document.
    """
    own = metadata_of(id_.removeprefix(source), uri)
    return {key: value for key, value in metadata.items() if key not in own}


def describe(id_: str) -> str:
    """Where a chunk is in its document, in words, such as "page 3" or "lines 10 to 25, Parser.next"; "" if its id does
    not say."""
    if "#" not in id_:
        return ""
    locator = split(id_.rpartition("#")[2])
    words = [f"{key} {locator[key]}" for key in (*NUMBERS, "sheet") if locator.get(key)]
    for key in (ROWS, LINES):
        if (span := _range(locator.get(key, ""))) is not None:
            words.append(f"{key} {span[0]:,} to {span[1]:,}")
    return ", ".join([*words, *filter(None, [locator.get("symbol")])])


def _range(value: str) -> tuple[int, int] | None:
    first, _, last = value.partition("-")
    return (int(first), int(last)) if first.isdecimal() and last.isdecimal() else None


def _escape(value: str) -> str:
    return "".join(ESCAPES.get(char, char) for char in value)
