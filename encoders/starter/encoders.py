"""The starter's three encoders: text, image and audio.

Those of the shipped files are deferred: torch is imported, and a tower built, at the first batch that needs it. A few
texts are encoded without torch (`numpy_text`), so that a search from the command line does not wait for its import.
"""

from __future__ import annotations

import abc
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder, fingerprint_of_arrays
from multimodal.core.items import Item
from multimodal.core.media.windows import equal_windows
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.core.serialization import StoredTensors
from multimodal.encoders.starter import parameters
from multimodal.encoders.starter.numpy_text import NumpyTextTower
from multimodal.encoders.starter.parameters import DIM, EARLIER_FINGERPRINTS, MAX_TOKENS, N_MELS, SIDE
from multimodal.encoders.starter.tokenizer import Tokenizer, token_arrays

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

CPU_FLOAT32 = Runtime()
MAX_NUMPY_TEXTS = 16  # above, importing torch takes less time than it saves


class _StarterEncoder(Encoder):
    """A tower on its device. Subclasses differ in `prepare`, in their net, and in how `forward` calls it."""

    dim = DIM

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime) -> None:
        self.runtime = runtime
        is_shipped = isinstance(tensors, StoredTensors) and tensors.path.parent == assets() / "starter"
        self.is_deferred = is_shipped and (runtime.precision, runtime.engine) == ("float32", "torch")
        self._tensors = tensors if self.is_deferred else dict(tensors)
        if not self.is_deferred:
            _ = self.net  # a wrong tensor is reported when the space is loaded

    @abc.abstractmethod
    def _network(self) -> nn.Module:
        """The tower, with random weights."""

    @functools.cached_property
    def net(self) -> Any:
        """The tower, on its device."""
        net = self._network()
        # BatchNorm counts its training batches in a buffer that inference does not read and that is not saved.
        buffers = {
            name: tensor for name, tensor in net.state_dict().items() if not tensor.is_floating_point()
        }
        net.load_state_dict({name: tensor.float() for name, tensor in self._tensors.items()} | buffers)
        net = net.eval().requires_grad_(False).to(self.device, self.runtime.cast)
        if self.is_deferred and self.device.type == "cpu":
            from multimodal.core.backends.onednn import use_onednn

            use_onednn([net])
        return net

    @property
    def device(self) -> torch.device:
        return self.runtime.torch_device

    @property
    def fingerprint(self) -> str:
        """See Encoder. Of the shipped files it is computed without torch."""
        if not isinstance(self._tensors, StoredTensors) or "net" in vars(self):  # which may have been trained
            return super().fingerprint
        known: str | None = vars(self).get("_stored_fingerprint")
        if known is None:
            known = fingerprint_of_arrays(self._described(), self._tensors.arrays())
            vars(self)["_stored_fingerprint"] = known
        return known

    @property
    def accepted_fingerprints(self) -> tuple[str, ...]:
        """See Encoder. A tower trained further against the fixed text tower keeps the space."""
        return (self.fingerprint, *EARLIER_FINGERPRINTS.get(self.fingerprint, ()))

    def state_dict(self) -> Mapping[str, Tensor]:
        """The float16 weights, identical to the shipped ones; float32 where fine-tuning made them finer."""
        tensors = self.net.state_dict().items()
        return {name: _as_stored(tensor) for name, tensor in tensors if tensor.is_floating_point()}

    def _sum_by_item(self, vectors: Tensor, owners: Tensor) -> Tensor:
        """Window vectors (windows, dim) -> their sum per item (n, dim), which has the direction of the mean."""
        owners = owners.to(self.device)
        rows = vectors.new_zeros(int(owners.max()) + 1, self.dim)
        return rows.index_add_(0, owners, vectors)


def _as_stored(tensor: Tensor) -> Tensor:
    import torch

    half = tensor.half()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _as_tensors(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    import torch

    return {name: torch.as_tensor(values) for name, values in batch.items()}


class StarterText(_StarterEncoder):
    """WordPiece tokens -> transformer.

    Texts of more than 48 tokens are split into equal windows whose vectors are averaged.
    """

    modality = Modality.TEXT
    max_input = 200  # characters: 48 tokens of a little more than four characters

    def __init__(
        self, vocabulary: Sequence[str], tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.tokenizer = Tokenizer(self.vocabulary)
        super().__init__(tensors, runtime)

    def _network(self) -> nn.Module:
        from multimodal.encoders.starter.networks import TextTower

        return TextTower(len(self.vocabulary))

    @functools.cached_property
    def _numpy_tower(self) -> NumpyTextTower:
        arrays = self._tensors.arrays() if isinstance(self._tensors, StoredTensors) else {}
        return NumpyTextTower(arrays)

    def _runs_without_torch(self, n_texts: int) -> bool:
        return (
            self.is_deferred
            and "net" not in vars(self)
            and n_texts <= MAX_NUMPY_TEXTS
            and "torch" not in sys.modules
            and self.runtime.device in ("cpu", "auto")
        )

    def config(self) -> dict[str, Any]:
        return {"max_tokens": MAX_TOKENS, "lowercase": True, "vocabulary": self.vocabulary}

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Tokenises texts.

        Returns:
            tokens (windows, t) int64, lengths (windows,) int64, and owners (windows,) int64, the item of each window;
            as numpy arrays if they are to be encoded without torch.
        """
        token_rows = self.tokenizer([str(item.load()) for item in items])
        owners, windows = [], []
        for owner, row in enumerate(token_rows):
            for start, stop in equal_windows(len(row), MAX_TOKENS):
                owners.append(owner)
                windows.append(row[start:stop])
        tokens, lengths = token_arrays(windows)
        batch: dict[str, Any] = {"tokens": tokens, "lengths": lengths, "owners": np.array(owners)}
        return batch if self._runs_without_torch(len(items)) else _as_tensors(batch)

    def _compute(self, batch: dict[str, Any]) -> NDArray[np.float32]:
        if not isinstance(batch["tokens"], np.ndarray):
            return super()._compute(batch)
        vectors = self._numpy_tower(batch["tokens"], batch["lengths"])
        rows = np.zeros((int(batch["owners"].max()) + 1, self.dim), np.float32)
        np.add.at(rows, batch["owners"], vectors)
        return rows

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        batch = _as_tensors(batch)
        vectors = self.net(batch["tokens"].to(self.device), batch["lengths"].to(self.device))
        return self._sum_by_item(vectors, batch["owners"])


class StarterImage(_StarterEncoder):
    """A ConvNet on 64 × 64 pixels; other aspect ratios are padded with the mean colour of the border."""

    modality = Modality.IMAGE

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32) -> None:
        super().__init__(tensors, runtime)

    def _network(self) -> nn.Module:
        from multimodal.encoders.starter.networks import ImageTower

        return ImageTower()

    def config(self) -> dict[str, Any]:
        return {"side": SIDE, "resize": "bicubic, longest edge, border-mean fill"}

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Decodes and resizes images.

        Returns:
            pixels (n, 3, 64, 64) uint8.
        """
        import torch

        from multimodal.encoders.starter import preprocessing

        min_side = SIDE if self.runtime.decode == "fast" else None
        decoded = [item.load(min_side=min_side) for item in items]  # type: ignore[call-arg, union-attr]
        return {"pixels": torch.stack([preprocessing.resize_to_square(rgb) for rgb in decoded])}  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors: Tensor = self.net(batch["pixels"].to(self.device))
        return vectors


class StarterAudio(_StarterEncoder):
    """Log-mel spectrograms of speech -> transformer.

    Clips of more than 6 s are split into equal windows whose vectors are averaged.
    """

    modality = Modality.AUDIO
    max_input = 6

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32) -> None:
        super().__init__(tensors, runtime)

    def _network(self) -> nn.Module:
        from multimodal.encoders.starter.networks import AudioTower

        return AudioTower()

    def config(self) -> dict[str, Any]:
        return {
            "rate_hz": parameters.RATE_HZ, "n_fft": parameters.N_FFT, "hop": parameters.HOP, "n_mels": N_MELS,
            "floor_db": parameters.FLOOR_DB, "silence_db": parameters.SILENCE_DB,
            "quiet_db": parameters.QUIET_DB, "margin": parameters.MARGIN,
            "window_samples": parameters.WINDOW_SAMPLES,
        }  # fmt: skip

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Decodes audio and computes log-mel windows.

        Returns:
            mels (windows, frames, 64) float32, lengths (windows,) int64 in frames, and owners (windows,) int64, the
            item of each window.
        """
        import torch

        from multimodal.encoders.starter import preprocessing

        owners, mels = [], []
        for owner, item in enumerate(items):
            waveform = item.load(rate_hz=parameters.RATE_HZ)  # type: ignore[call-arg, union-attr]
            for mel in preprocessing.speech_windows(waveform.samples):  # type: ignore[union-attr]
                owners.append(owner)
                mels.append(mel)
        return {
            "mels": torch.nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "lengths": torch.tensor([len(mel) for mel in mels]),
            "owners": torch.tensor(owners),
        }

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors = self.net(batch["mels"].to(self.device), batch["lengths"].to(self.device))
        return self._sum_by_item(vectors, batch["owners"])
