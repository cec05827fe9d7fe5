"""The weights in a TorchScript archive, such as OpenAI published CLIP in, without the program that lies beside them.

    <name>/data.pkl                    the module: a pickle of objects whose attributes are modules, tensors and numbers
          /data/0, /data/1, …          the bytes of its tensors
          /code/__torch__/….py         the program; of it only the lists of each class's parameters and buffers are read

`torch.jit.load` would compile that program. Here the pickle may name nothing but the classes of such modules, which
become empty ones, and tensors; so nothing it says can run.
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
    """Whether a file is such an archive. A checkpoint is a zip archive too, but has no constants of a program."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def torchscript_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the module in an archive, by name, as its `state_dict()` would give them.

    Raises CheckpointError if it asks for more than modules and tensors; what a damaged one raises passes through.
    """
    import zipfile

    with zipfile.ZipFile(path) as archive:
        root = next(one for one in archive.namelist() if one.endswith("/constants.pkl")).rpartition("/")[0]
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise CheckpointError(
                f"{path} was written on a big-endian machine; save its weights as safetensors there"
            )
        reader = _Reader(archive, root, path)
        tensors: dict[str, torch.Tensor] = {}
        _collect(reader, reader.load(), "", tensors)
        return tensors


class _Module:
    """What a module of the archive becomes: its attributes. home: the file of the program that defines its class."""

    home: str


class _Reader(pickle.Unpickler):
    """Reads data.pkl, and allows nothing but what such a file is made of."""

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
            f"{self.path} is refused: it asks for {module}.{name}, and calling that could run code. Ask its publisher "
            "for safetensors"
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
        """The names of a module's parameters and buffers. Other tensors it keeps are no weights."""
        code = self.archive.read(module.home).decode()
        for name, parameters, buffers in CLASS.findall(code):
            if name == type(module).__name__:
                return re.findall(r'"([^"]+)"', f"{parameters} {buffers}")
        raise CheckpointError(
            f"{self.path} does not say what {type(module).__name__} is made of; fetch it again"
        )


def _collect(reader: _Reader, module: Any, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    attributes = vars(module)
    for name in reader.declared(module):
        if attributes.get(name) is not None:
            tensors[prefix + name] = attributes[name]
    for name, value in attributes.items():
        if isinstance(value, _Module):
            _collect(reader, value, f"{prefix}{name}.", tensors)
