"""Encoders that run an exported tower by ONNX Runtime or OpenVINO. None of them needs torch.

`config` of an encoder is its entry in export.json:

    modality, dim       of its vectors
    model               file name of the model, .onnx or OpenVINO's .xml, whose output is (rows, dim) of length one
    files               every file, the model among them
    preprocessing       what `preprocessing` needs to turn items into the model's inputs
    precision           of the stored weights
    fingerprint         of the source tower if the vectors are its own, else of this file
    space_id, max_input as of the source
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.onnx import preprocessing
from multimodal.encoders.onnx.sessions import open_session

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from multimodal.encoders.onnx.preprocessing import Preprocessing


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
        self._session = open_session(self._files, config["model"], threads)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """That of the source if the export changed no vector."""
        return str(self._config["fingerprint"])

    @property
    def runtime_info(self) -> str:
        """For example "cpu float32 by ONNX Runtime (weights int8)"."""
        return f"cpu float32 by {self._session.runtime} (weights {self._config['precision']})"

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
        rows = self._session(batch)
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

    @property
    def query_encoder(self) -> OnnxText:
        """This one, or with the model's prompt for queries."""
        settings = dict(self._config["preprocessing"])
        prompt = settings.pop("query_prompt", None)
        if prompt is None:
            return self
        settings["prompt"] = prompt
        digest = hashlib.sha256(f"{self.fingerprint} for queries {prompt}".encode()).hexdigest()
        other = object.__new__(type(self))
        vars(other).update(vars(self))  # shares the session, which copy.copy would load again
        other._config = self._config | {"preprocessing": settings, "fingerprint": digest}
        other._preprocessing = preprocessing_of(self.modality, settings, self._files)
        return other


class OnnxImage(OnnxEncoder):
    """Pixels -> image tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]] = {
        "square": preprocessing.Square,
        "resize": preprocessing.Resize,
    }


class OnnxAudio(OnnxEncoder):
    """Log-mel spectrograms or waveforms -> audio tower."""

    kinds: ClassVar[Mapping[str, type[Preprocessing]]] = {
        "speech-mels": preprocessing.SpeechMels,
        "waveform": preprocessing.Waveform,
    }


_BY_MODALITY: dict[Modality, type[OnnxEncoder]] = {
    Modality.TEXT: OnnxText,
    Modality.IMAGE: OnnxImage,
    Modality.AUDIO: OnnxAudio,
}


def _rebuild(
    config: Mapping[str, Any], files: Mapping[str, bytes], runtime: Runtime, threads: int | None
) -> Encoder:
    return build(config, files, runtime=runtime, threads=threads)
