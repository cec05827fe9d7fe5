"""The tensors in a file of weights. Nothing in a file is ever run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.hub.cache import inside
from multimodal.core.hub.torchscript import is_torchscript, torchscript_tensors

INDEX = ".index.json"
MAX_HEADER = 100_000_000  # bytes, as the safetensors library has it
ZIP, PICKLE, LFS_POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"


def load_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, a PyTorch checkpoint, or an index.json of several, by name, on the CPU.

    What a file is, its first bytes say, not its name. A checkpoint is a pickle and is read with `weights_only=True`:
    one that asks for more is refused. It may hold a wrapper, {"state_dict": {…}, "epoch": 3}, returned as it is. Of a
    TorchScript archive the weights are read and the program is not.
    Raises CheckpointError for a file that is missing, damaged, of another kind, or asks to run code.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"load_tensors takes a file of weights, got the folder {path}")
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"there are no weights at {path}: the file is missing") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); check who may read it") from error
    if path.name.endswith(INDEX):
        return _sharded(path)
    if not start:
        raise CheckpointError(f"{path} is empty; fetch or copy it again")
    if start.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} holds no weights but git's note of where they are: run 'git lfs pull' in its folder"
        )
    # Before the others: the length of its header comes first, and may begin with the byte that a pickle begins with
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        return _safetensors(path)
    if start.startswith((ZIP, PICKLE)):
        return _checkpoint(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    raise CheckpointError(
        f"{path} is neither safetensors nor a PyTorch checkpoint (it begins with {start[:8]!r})"
    )


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch or copy it again") from error


def _checkpoint(path: Path) -> dict[str, Any]:
    import torch

    try:
        if is_torchscript(path):
            return torchscript_tensors(path)
        with path.open("rb") as stream:  # given a path, torch.load goes by its name and not by what is inside
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle fails in every way there is
        if not isinstance(error, pickle.UnpicklingError) or "eights only load failed" not in str(error):
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{path} is damaged ({first}); fetch or copy it again") from error
        raise CheckpointError(
            f"{path} is refused: more than tensors is pickled in it, and reading it could run code. Ask its publisher "
            "for safetensors or, if you trust it, convert it once with torch.load(…, weights_only=False) and "
            "safetensors.torch.save_file"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected tensors by name; save a model's state_dict()"
        )
    return dict(content)


def _sharded(path: Path) -> dict[str, Any]:
    """The tensors of every file that an index (`{"weight_map": {tensor: file}}`) names, which lie beside it."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(inside(name)) for name in files.values()})
        if any(name.endswith(INDEX) for name in names):
            raise ValueError("it names an index")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no index of weights ({error!r}); fetch or copy it again") from error
    tensors: dict[str, Any] = {}
    for name in names:
        tensors |= load_tensors(path.parent / name)
    if missing := sorted(set(files) - set(tensors)):
        raise CheckpointError(
            f"{path} names {len(missing)} tensors that its files lack, the first is {missing[0]!r}; fetch them again"
        )
    return tensors
