"""Reads the weights of a TorchScript archive, such as OpenAI's CLIP, without running the program in it.

    <name>/data.pkl                    the module: a pickle of objects whose attributes are modules, tensors and numbers
          /data/0, /data/1, …          the bytes of its tensors
          /code/__torch__/….py         the program; only each class's lists of parameters and buffers are read

`torch.jit.load` would compile that program. Here the pickle may only name classes of modules, which become empty
classes, and tensors; so it cannot run code.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError

if TYPE_CHECKING:
    import zipfile

    import torch

DTYPES = {
    "BFloat16": "bfloat16", "Bool": "bool", "Byte": "uint8", "Char": "int8", "Double": "float64", "Float": "float32",
    "Half": "float16", "Int": "int32", "Long": "int64", "Short": "int16",
}  # fmt: skip
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*?)\]\n  __buffers__ = \[(.*?)\]", re.M | re.S
)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive. A checkpoint is a zip archive too, but without constants.pkl."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def torchscript_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the module in an archive by name, as its `state_dict()` returns them.

    Raises CheckpointError if it holds more than modules and tensors. Errors of a damaged archive pass through.
    """
    import zipfile

    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).rpartition("/")[0]
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise CheckpointError(
                f"{path} was written on a big-endian machine; save its weights as safetensors there"
            )
        reader = _Reader(archive, root, path)
        tensors: dict[str, torch.Tensor] = {}
        _collect(reader, reader.load(), "", tensors)
        return tensors


class _Module:
    """A module of the archive, with its attributes. home: the file of the program that defines its class."""

    home: str


class _Reader(pickle.Unpickler):
    """Reads data.pkl; refuses any class or function that such a file does not need."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root, self.path = archive, root, path
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        import torch

        if module.partition(".")[0] == "__torch__":
            return type(name, (_Module,), {"home": f"{self.root}/code/{module.replace('.', '/')}.py"})
        if module == "torch" and name.removesuffix("Storage") in DTYPES:
            return getattr(torch, DTYPES[name.removesuffix("Storage")])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in LISTS:
            return list
        raise CheckpointError(
            f"{self.path} is refused: its pickle names {module}.{name}, and calling that could run code. Ask its "
            "publisher for safetensors"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        import torch

        _, dtype, key, *_ = pid
        if key not in self._storages:
            content = bytearray(self.archive.read(f"{self.root}/data/{key}"))
            self._storages[key] = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]

    def declared(self, module: _Module) -> list[str]:
        """The names of a module's parameters and buffers. Its other tensors are not weights."""
        code = self.archive.read(module.home).decode()
        for name, parameters, buffers in CLASS.findall(code):
            if name == type(module).__name__:
                return re.findall(r'"([^"]+)"', f"{parameters} {buffers}")
        raise CheckpointError(f"{self.path} has no definition of {type(module).__name__}; fetch it again")


def _collect(reader: _Reader, module: Any, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    attributes = vars(module)
    for name in reader.declared(module):
        if attributes.get(name) is not None:
            tensors[prefix + name] = attributes[name]
    for name, value in attributes.items():
        if isinstance(value, _Module):
            _collect(reader, value, f"{prefix}{name}.", tensors)
