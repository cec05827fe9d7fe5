"""The files of a sentence-transformers model: small files in folders, some with a weights file.

sentence-transformers loads models from folders only. A saved space stores the small files by name ("/" is written as
"%2F", because names must be plain) and tensors as "<folder>/<name>". This module converts between the two.
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

ORGANIZATION = "sentence-transformers"  # default owner: "all-MiniLM-L6-v2"
EXTRA = "st"
MODULES, CONFIG = "modules.json", "config.json"
SAFETENSORS = "model.safetensors"
WEIGHTS = (
    SAFETENSORS,
    f"{SAFETENSORS}.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)  # in order of preference
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
SETTINGS = (".json", ".txt", ".model", ".jinja", ".spm", ".vocab", ".bpe", ".tiktoken")
# Weights for other engines, and artefacts of training. Code (.py) is never downloaded.
OTHER_FOLDERS = re.compile(r"(\..*|onnx|openvino|coreml|tflite|gguf|flax|eval|runs|checkpoint-\d+)(/|$)")


@dataclass(frozen=True)
class ModelFiles:
    """A model as a saved space stores it. `tensors` reads them on demand; running the model does not need them."""

    files: Mapping[str, bytes]
    tensors: Callable[[], Mapping[str, Tensor]]


def select_files(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Selects a model's files: (the small files it needs, the weights of each folder in the preferred format)."""
    relevant = [name for name in sorted(names) if not OTHER_FOLDERS.match(name)]
    settings = [
        name
        for name in relevant
        if name.endswith(SETTINGS) and posixpath.basename(name) not in WEIGHTS and "README" not in name
    ]
    weights = []
    for folder in sorted({posixpath.dirname(name) for name in relevant}):
        inside = {posixpath.basename(name) for name in relevant if posixpath.dirname(name) == folder}
        best = next((name for name in WEIGHTS if name in inside), None)
        if best is not None:
            suffix = ".safetensors" if best.startswith(SAFETENSORS) else ".bin"
            shards = [name for name in sorted(inside) if SHARD.fullmatch(name) and name.endswith(suffix)]
            weights += [posixpath.join(folder, name) for name in (best, *(shards if "index" in best else ()))]
    return settings, weights


def is_folder(rest: str) -> bool:
    """Whether `rest` names a folder rather than a repository."""
    return rest.startswith(FOLDER_PREFIXES) or rest in (".", "..")


def find(rest: str, *, revision: str | None, offline: bool) -> Path:
    """The folder of a model, downloaded if necessary.

    Raises:
        UnknownModel: If it does not exist.
        CheckpointError: If the folder does not contain a model.
        DownloadError: If a file cannot be downloaded.
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
            raise UnknownModel(f"{name!r} names the folder {rest!r}, which does not exist")
    else:
        folder = _download(name, rest if "/" in rest else f"{ORGANIZATION}/{rest}", revision, offline)
    if not (folder / MODULES).is_file() and not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{name!r} has neither {MODULES} nor {CONFIG}, so it is not a model of sentence-transformers; pass a "
            "folder written by SentenceTransformer.save(), or the id of a model"
        )
    return folder


def _download(name: str, repo: str, revision: str | None, offline: bool) -> Path:
    pinned = next((card.revision for card in CARDS if card.name == name), "")
    options: dict[str, Any] = {"revision": revision or pinned or None, "offline": offline, "extra": EXTRA}
    try:
        settings, weights = select_files(hub.listing(repo, **options))
        return hub.snapshot(repo, patterns=[*settings, *weights], **options)
    except (UnknownModel, DownloadError) as error:
        names = [card.name for card in CARDS if card.name != name]
        hint = close_matches(name, names) if isinstance(error, UnknownModel) else ""
        if Path(name.removeprefix("st/")).is_dir():
            hint += f"there is a folder of that name: write 'st/./{name.removeprefix('st/')}'. "
        if not hint:
            raise
        raise type(error)(f"{error}; {hint.strip()}") from error


def files_in(folder: Path) -> ModelFiles:
    """The files of a model in a folder."""
    present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    settings, weights = select_files(present)
    files = {quote(name, safe=""): (folder / name).read_bytes() for name in settings}
    return ModelFiles(files, lambda: _tensors(folder, weights))


def _tensors(folder: Path, weights: Iterable[str]) -> dict[str, Tensor]:
    import torch

    tensors: dict[str, Tensor] = {}
    for name in weights:
        if posixpath.basename(name) not in WEIGHTS:
            continue  # a shard, which is read with its index
        parent = posixpath.dirname(name)
        for key, tensor in hub.load_tensors(folder / name).items():
            if not isinstance(tensor, torch.Tensor):
                raise CheckpointError(f"{folder / name} contains {key!r}, which is not a tensor")
            tensors[posixpath.join(parent, key)] = tensor
    return tensors


def unpack(files: Mapping[str, bytes], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes saved files and tensors as a model folder. Raises CorruptSpace for a name outside the folder."""
    from safetensors.torch import save_file

    for quoted, content in files.items():
        path = _inside(folder, unquote(quoted))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    by_folder: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        by_folder.setdefault(posixpath.dirname(name), {})[posixpath.basename(name)] = tensor
    for name, group in by_folder.items():
        path = _inside(folder, posixpath.join(name, SAFETENSORS))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(group, path, metadata={"format": "pt"})


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or ":" in name:
        raise CorruptSpace(f"the saved space names the file {name!r}, which is not inside a model's folder")
    return folder.joinpath(*parts)
