"""Reads the tensors of a weights file. No code in a file is ever executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.hub.cache import relative_path
from multimodal.core.hub.torchscript import is_torchscript, torchscript_tensors

INDEX = ".index.json"
MAX_HEADER = 100_000_000  # bytes, as the safetensors library has it
ZIP, PICKLE, LFS_POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"


def load_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, a PyTorch checkpoint, or an index.json of several files.

    The format is identified by the first bytes, not by name. A checkpoint is a pickle and is read with
    `weights_only=True`; one with other objects is refused. Of a TorchScript archive the weights are read, not the
    program.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU. A wrapper such as {"state_dict": {…}, "epoch": 3} is returned as it is.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or would run code.
        InvalidInput: the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"load_tensors takes a weights file, got the folder {path}")
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there are no weights at {path}: the file does not exist; check the path"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); check its permissions") from error
    if path.name.endswith(INDEX):
        return _sharded(path)
    if not start:
        raise CheckpointError(f"{path} is empty; fetch or copy it again")
    if start.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer without the weights: run 'git lfs pull' in its folder"
        )
    # Checked first: its header length comes first and may start with the first byte of a pickle
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        return _safetensors(path)
    if start.startswith((ZIP, PICKLE)):
        return _checkpoint(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    raise CheckpointError(
        f"{path} is neither safetensors nor a PyTorch checkpoint (it starts with {start[:8]!r}); fetch or copy it again"
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
        with path.open("rb") as stream:  # given a path, torch.load goes by its suffix
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle raises almost any type
        if not isinstance(error, pickle.UnpicklingError) or "eights only load failed" not in str(error):
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{path} is damaged ({first}); fetch or copy it again") from error
        raise CheckpointError(
            f"{path} is refused: its pickle holds more than tensors, and reading it could run code. Ask its publisher "
            "for safetensors or, if you trust it, convert it once with torch.load(…, weights_only=False) and "
            "safetensors.torch.save_file"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected tensors by name; save a model's state_dict()"
        )
    return dict(content)


def _sharded(path: Path) -> dict[str, Any]:
    """The tensors of all files of an index (`{"weight_map": {tensor: file}}`), which are in the same folder."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(relative_path(name)) for name in files.values()})
        if any(name.endswith(INDEX) for name in names):
            raise ValueError("it names an index")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not an index of weights ({error!r}); fetch or copy it again"
        ) from error
    tensors: dict[str, Any] = {}
    for name in names:
        tensors |= load_tensors(path.parent / name)
    if missing := sorted(set(files) - set(tensors)):
        raise CheckpointError(
            f"{path} names {len(missing)} tensors that are not in its files, the first is {missing[0]!r}; fetch "
            f"them again"
        )
    return tensors
