"""Encoders that run an exported tower by ONNX Runtime. None of them needs torch.

`config` of an encoder is its entry in export.json:

    modality, dim       of its vectors
    model               file name of the ONNX model, whose output "vectors" is (rows, dim) of length one
    files               every file, the model among them
    preprocessing       what `preprocessing` needs to turn items into the model's inputs
    precision           of the stored weights
    fingerprint         of the source tower if the vectors are its own, else of this file
    space_id, max_input as of the source
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.onnx import preprocessing

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from multimodal.encoders.onnx.preprocessing import Preprocessing

OUTPUT = "vectors"


def build(
    config: Mapping[str, Any], files: Mapping[str, bytes], *, runtime: Runtime, threads: int | None = None
) -> Encoder:
    """The encoder of a tower from its entry in export.json and the files that it names."""
    return _BY_MODALITY[Modality(config["modality"])](config, files, runtime, threads)


def preprocessing_of(
    modality: Modality, config: Mapping[str, Any], files: Mapping[str, bytes]
) -> Preprocessing:
    """The preprocessing that an entry in export.json describes. Raises ValueError for an unknown kind."""
    settings = dict(config)
    kind, kinds = settings.pop("kind"), _BY_MODALITY[modality].kinds
    if kind not in kinds:
        raise ValueError(f"unknown preprocessing {kind!r} of {modality}")
    return kinds[kind](settings, files)


class OnnxEncoder(Encoder):
    """One exported tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]]

    def __init__(
        self, config: Mapping[str, Any], files: Mapping[str, bytes], runtime: Runtime, threads: int | None
    ) -> None:
        self._config, self._files = dict(config), dict(files)
        self.modality, self.dim = Modality(config["modality"]), int(config["dim"])
        self.space_id, self.max_input = config.get("space_id"), config.get("max_input")
        self.runtime, self._threads = runtime, threads
        self._preprocessing = preprocessing_of(self.modality, config["preprocessing"], self._files)
        self._session = _session(self._files[config["model"]], config["model"], threads)
        self._inputs = {node.name: _TYPES[node.type] for node in self._session.get_inputs()}

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """That of the source if the export changed no vector."""
        return str(self._config["fingerprint"])

    @property
    def runtime_info(self) -> str:
        """For example "cpu float32 by ONNX Runtime (weights int8)"."""
        return f"cpu float32 by ONNX Runtime (weights {self._config['precision']})"

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Empty: the weights are in the model file."""
        return {}

    def files(self) -> Mapping[str, bytes]:
        return self._files

    def prepare(self, items: Sequence[Item]) -> Any:
        """Preprocesses items.

        Returns:
            The model's inputs as numpy arrays, and "owners", the item of each row.
        """
        return self._preprocessing(items)

    def _compute(self, batch: Any) -> NDArray[np.float32]:
        inputs = {name: np.asarray(batch[name], dtype) for name, dtype in self._inputs.items()}
        rows: NDArray[np.float32] = self._session.run([OUTPUT], inputs)[0]
        owners = np.asarray(batch["owners"])
        if len(owners) == owners.max() + 1:
            return rows
        sums = np.zeros((int(owners.max()) + 1, self.dim), np.float32)
        np.add.at(sums, owners, rows)
        return sums

    def forward(self, batch: Any) -> torch.Tensor:
        """As `Encoder.forward`; only this method needs torch."""
        import torch

        return torch.from_numpy(self._compute({name: np.asarray(value) for name, value in batch.items()}))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._config, self._files, self.runtime, self._threads)


class OnnxText(OnnxEncoder):
    """Tokens -> text tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]] = {"tokens": preprocessing.Tokens}


class OnnxImage(OnnxEncoder):
    """Pixels -> image tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]] = {
        "square": preprocessing.Square,
        "resize": preprocessing.Resize,
    }


class OnnxAudio(OnnxEncoder):
    """Log-mel spectrograms -> audio tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]] = {"speech-mels": preprocessing.SpeechMels}


_BY_MODALITY: dict[Modality, type[OnnxEncoder]] = {
    Modality.TEXT: OnnxText,
    Modality.IMAGE: OnnxImage,
    Modality.AUDIO: OnnxAudio,
}
_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def _rebuild(
    config: Mapping[str, Any], files: Mapping[str, bytes], runtime: Runtime, threads: int | None
) -> Encoder:
    return build(config, files, runtime=runtime, threads=threads)


def _session(model: bytes, name: str, threads: int | None) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra("running an exported space ('onnx/…')", package="onnxruntime", extra="onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime defines no common type
        line = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise CheckpointError(f"ONNX Runtime cannot load {name} ({line}); export the space again") from error
