"""`export_page`: writes a folder of static files that searches an index in the browser."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.pipeline import as_space
from multimodal.core.remote.path import AnyPath
from multimodal.core.space import Space
from multimodal.exporting.folders import free_folder, replaced
from multimodal.exporting.page import readme
from multimodal.exporting.page.icons import SIZES, icon
from multimodal.exporting.page.media import Media, MediaWriter
from multimodal.exporting.page.model import check_space, tower_files
from multimodal.exporting.page.report import PageExport

if TYPE_CHECKING:
    from multimodal.exporting.page.items import Vectors
    from multimodal.index import Index

FORMAT = 1
SITE = Path(__file__).parent / "site"
# Files that the page has in common with the page of the server.
SHARED = Path(__file__).parents[2] / "server" / "page"
SHARED_NAMES = ("dom.js", "icon.svg", "panels.css", "recorder.js", "style.css")
SCRIPT_COMMENTS = re.compile(r"^[ \t]*(?:/\*\*(?:(?!\*/).)*\*/|//[^\n]*)?\n", re.MULTILINE | re.DOTALL)
# What a search by text does not load.
NOT_FOR_TEXT = {"audio.js", "image.js", "mels.js", "pixels.js", "recorder.js", "README.md"}
MARKER, WORKER = "files.json", "sw.js"
MAX_NEEDED_THUMBNAILS = 4 << 20  # bytes that the first visit loads for use without a network
MAX_KEPT_MEDIA = 64 << 20  # bytes that are kept after it

Progress = Callable[[str, int, int], None]


def export_page(
    space: Space | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    index: Index | str | os.PathLike[str],
    *,
    media: Media = "copy",
    vectors: Vectors = "auto",
    progress: Progress | None = None,
) -> PageExport:
    """Writes a page that searches an index without a server. See `multimodal.export`."""
    from multimodal.exporting.page import items
    from multimodal.index import Index
    from multimodal.index.search.calibration_fit import CalibrationStore

    if media not in get_args(Media):
        raise InvalidInput(f"media must be one of {', '.join(get_args(Media))}, got {media!r}")
    target = free_folder(folder, MARKER, "an exported page")
    source = as_space(space)
    check_space(source)
    opened = _open_index(index.path if isinstance(index, Index) else index, source)
    report = progress or (lambda what, done, total: None)
    rows, matrix = items.read_rows(opened)
    kind, content = items.stored(matrix, vectors)
    fitted = CalibrationStore(opened.path, opened.fingerprint).get()
    title, modalities = opened.path.stem, [row["modality"] for row in rows]
    with replaced(target) as new:
        towers = _write_model(new, source, report)
        writer = MediaWriter(new, target, media)
        about = {
            "format": FORMAT,
            "title": title,
            "model": source.name,
            "fingerprint": source.fingerprint,
            "dim": source.dim,
            "towers": towers,
            "vectors": kind,
            "modalities": dict(Counter(modalities)),
            "calibration": items.calibration(modalities, matrix, fitted),
            "items": _items(rows, writer, report),
        }
        (new / "index.json").write_text(_json(about), encoding="utf-8")
        (new / "vectors.bin").write_bytes(content)
        _write_site(new, title)
        done = PageExport(
            str(target), source.name, source.fingerprint, len(rows), kind, _sizes(new), _text_bytes(new),
            tuple(writer.missing.items()),
        )  # fmt: skip
        (new / "README.md").write_text(readme.text(source, title, done), encoding="utf-8")
        _write_worker(new, towers, writer)
    return done


def _open_index(place: AnyPath | str | os.PathLike[str], space: Space) -> Index:
    """The index, opened with the space, or with the whole space of which it is a part (`space.select`).

    Raises IndexStateError for an index of another space.
    """
    from multimodal.index import Index
    from multimodal.index.opening import index_folder
    from multimodal.index.storage.table import ItemTable

    try:
        return Index.open(place, space)
    except IndexStateError:
        # without this check, an unrelated model would be loaded only to refuse the space
        if ItemTable.open(index_folder(place)).index_metadata.space != space.name:
            raise
        opened = Index.open(place)
        for modality, encoder in space.encoders.items():
            whole = opened.space.encoders.get(modality)
            if whole is None or whole.fingerprint != encoder.fingerprint:
                raise
        return opened


def _items(rows: Sequence[dict[str, Any]], writer: MediaWriter, report: Progress) -> list[dict[str, Any]]:
    """The items as index.json lists them; writes their files."""
    from multimodal.exporting.page.items import describe

    listed = []
    for number, row in enumerate(rows):
        listed.append(describe(row) | writer.describe(number, row))
        report("files of items", number + 1, len(rows))
    return listed


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _write_model(folder: Path, space: Space, report: Progress) -> list[str]:
    (folder / "model").mkdir()
    for done, modality in enumerate(space.modalities, 1):
        for name, content in tower_files(space.encoders[modality]).items():
            (folder / name).write_bytes(content)
        report("towers", done, len(space.modalities))
    return [str(modality) for modality in space.modalities]


def _write_site(folder: Path, title: str) -> None:
    for path in [*SITE.iterdir(), *(SHARED / name for name in SHARED_NAMES)]:
        if not path.name.endswith(".d.ts"):
            content = path.read_text(encoding="utf-8")
            # Without comments, a fifth less is loaded.
            script = SCRIPT_COMMENTS.sub("", content) if path.suffix == ".js" else content
            (folder / path.name).write_text(script, encoding="utf-8")
    for side in SIZES:
        (folder / f"icon-{side}.png").write_bytes(icon(side))
    images = [
        {"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png", "purpose": "any maskable"}
        for side in SIZES
    ]
    manifest = {
        "name": title, "short_name": title, "start_url": "./", "scope": "./", "display": "standalone",
        "background_color": "#f7f6f3", "theme_color": "#f7f6f3", "icons": images,
    }  # fmt: skip
    (folder / "manifest.webmanifest").write_text(_json(manifest), encoding="utf-8")


def _write_worker(folder: Path, towers: Sequence[str], writer: MediaWriter) -> None:
    """files.json, and the version in the service worker, which changes with any file."""

    def size(names: Sequence[str]) -> int:
        return sum((folder / name).stat().st_size for name in names)

    later = [f"model/{tower}.safetensors" for tower in towers if tower != "text"]
    if size(writer.thumbnails) > MAX_NEEDED_THUMBNAILS:
        later += writer.thumbnails
    apart = {*later, *writer.copies, WORKER}
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    needed = ["./", *(name for name in files if name not in apart)]
    if size(writer.copies) <= MAX_KEPT_MEDIA:
        later += writer.copies
    digest = hashlib.sha256()
    for name in files:
        digest.update(f"{name}\0".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    (folder / MARKER).write_text(_json({"needed": needed, "later": later}), encoding="utf-8")
    worker = folder / WORKER
    script = worker.read_text(encoding="utf-8").replace('"VERSION"', f'"{digest.hexdigest()[:16]}"')
    worker.write_text(script, encoding="utf-8")


def _sizes(folder: Path) -> dict[str, int]:
    sizes = dict.fromkeys(("page", "text", "image", "audio", "items", "vectors", "thumbnails", "media"), 0)
    for path in folder.rglob("*"):
        if path.is_file():
            sizes[_part_of(path.relative_to(folder))] += path.stat().st_size
    return sizes


def _text_bytes(folder: Path) -> int:
    """Size of what a search by text loads, without the items."""
    names = [path for path in folder.iterdir() if path.suffix in (".css", ".html", ".js", ".svg")]
    text = [*folder.glob("model/text.*"), *folder.glob("model/vocabulary.json")]
    loaded = [*(path for path in names if path.name not in NOT_FOR_TEXT), *text]
    return sum(path.stat().st_size for path in loaded)


def _part_of(path: Path) -> str:
    if path.parts[0] == "model":
        return "text" if path.stem == "vocabulary" else path.stem
    folders = {"thumbs": "thumbnails", "media": "media", "index.json": "items", "vectors.bin": "vectors"}
    return folders.get(path.parts[0], "page")
