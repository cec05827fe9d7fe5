"""What a sentence-transformers model is made of: small files in folders, and a file of weights in some of them.

The model itself is loaded by sentence-transformers from a folder. A space keeps the same parts in its own way: the
small files by name (a "/" written as "%2F", since names must be plain), the tensors as "<folder>/<name>". Both ways
are here, so that what was saved becomes a folder again.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import CheckpointError, CorruptSpace, DownloadError, UnknownModel
from multimodal.core.hub import api as hub
from multimodal.encoders.st.cards import CARDS

if TYPE_CHECKING:
    from torch import Tensor

ORGANIZATION = "sentence-transformers"  # whose models upstream finds without it: "all-MiniLM-L6-v2"
EXTRA = "st"
MODULES, CONFIG = "modules.json", "config.json"
SAFE = "model.safetensors"
WEIGHTS = (SAFE, f"{SAFE}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")  # best first
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
SETTINGS = (".json", ".txt", ".model", ".jinja", ".spm", ".vocab", ".bpe", ".tiktoken")
# The same weights for other engines, and what training left behind. Code (.py) is never taken.
OTHER_FOLDERS = re.compile(r"(\..*|onnx|openvino|coreml|tflite|gguf|flax|eval|runs|checkpoint-\d+)(/|$)")


@dataclass(frozen=True)
class Parts:
    """A model as a space keeps it. tensors: read when they are asked for, which running the model does not."""

    files: Mapping[str, bytes]
    tensors: Callable[[], Mapping[str, Tensor]]


def chosen(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the files of a model: the small ones it needs, and its weights (of each folder, in the best form there)."""
    kept = [name for name in sorted(names) if not OTHER_FOLDERS.match(name)]
    settings = [
        name
        for name in kept
        if name.endswith(SETTINGS) and posixpath.basename(name) not in WEIGHTS and "README" not in name
    ]
    weights = []
    for folder in sorted({posixpath.dirname(name) for name in kept}):
        inside = {posixpath.basename(name) for name in kept if posixpath.dirname(name) == folder}
        best = next((name for name in WEIGHTS if name in inside), None)
        if best is not None:
            kind = ".safetensors" if best.startswith(SAFE) else ".bin"
            shards = [one for one in sorted(inside) if SHARD.fullmatch(one) and one.endswith(kind)]
            weights += [posixpath.join(folder, one) for one in (best, *(shards if "index" in best else ()))]
    return settings, weights


def is_folder(rest: str) -> bool:
    """Whether `load("st/<rest>")` means a folder rather than the id of a model."""
    return rest.startswith(FOLDER_PREFIXES) or rest in (".", "..")


def find(rest: str, *, revision: str | None, offline: bool) -> Path:
    """The folder of the model that `load("st/<rest>")` means, fetched if need be.

    Raises UnknownModel if it does not exist, CheckpointError for a folder that holds no model, DownloadError.
    """
    name = f"st/{rest}"
    if not rest:
        raise UnknownModel(
            f"'st' needs the id of a model or a folder: {CARDS[0].name!r}, 'st/owner/name', 'st/./folder' "
            "(multimodal.cards() lists some)"
        )
    if is_folder(rest):
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise UnknownModel(f"{name!r} names the folder {rest!r}, and there is none")
    else:
        folder = _fetched(name, rest if "/" in rest else f"{ORGANIZATION}/{rest}", revision, offline)
    if not (folder / MODULES).is_file() and not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{name!r} has neither {MODULES} nor {CONFIG}, so it is no model of sentence-transformers; give a folder "
            "that SentenceTransformer.save() wrote, or the id of a model"
        )
    return folder


def _fetched(name: str, repo: str, revision: str | None, offline: bool) -> Path:
    pinned = next((card.revision for card in CARDS if card.name == name), "")
    how: dict[str, Any] = {"revision": revision or pinned or None, "offline": offline, "extra": EXTRA}
    try:
        settings, weights = chosen(hub.listing(repo, **how))
        return hub.snapshot(repo, patterns=[*settings, *weights], **how)
    except (UnknownModel, DownloadError) as error:
        hint = close_matches(name, [card.name for card in CARDS if card.name != name])
        if Path(name.removeprefix("st/")).is_dir():
            hint += f"a folder of that name is here: write 'st/./{name.removeprefix('st/')}'. "
        if not hint:
            raise
        raise type(error)(f"{error}; {hint.strip()}") from error


def parts_of(folder: Path) -> Parts:
    """The parts of a model in a folder."""
    present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    settings, weights = chosen(present)
    files = {quote(name, safe=""): (folder / name).read_bytes() for name in settings}
    return Parts(files, lambda: _tensors(folder, weights))


def _tensors(folder: Path, weights: Iterable[str]) -> dict[str, Tensor]:
    import torch

    found: dict[str, Tensor] = {}
    for name in weights:
        if posixpath.basename(name) not in WEIGHTS:
            continue  # a shard, which its index brings
        inside = posixpath.dirname(name)
        for key, one in hub.load_tensors(folder / name).items():
            if not isinstance(one, torch.Tensor):
                raise CheckpointError(f"{folder / name} holds {key!r}, which is no tensor")
            found[posixpath.join(inside, key)] = one
    return found


def unpack(files: Mapping[str, bytes], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes parts as the folder they came from. Raises CorruptSpace for a name that leads out of it."""
    from safetensors.torch import save_file

    for quoted, content in files.items():
        path = _inside(folder, unquote(quoted))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    by_folder: dict[str, dict[str, Tensor]] = {}
    for name, one in tensors.items():
        by_folder.setdefault(posixpath.dirname(name), {})[posixpath.basename(name)] = one
    for name, group in by_folder.items():
        path = _inside(folder, posixpath.join(name, SAFE))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(group, path, metadata={"format": "pt"})


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or ":" in name:
        raise CorruptSpace(f"the saved space names the file {name!r}, which is not inside a model's folder")
    return folder.joinpath(*parts)
