"""`load("starter")`: the small model that ships inside; English phrases, pictures and speech in one space of 256.

It was trained from nothing on the emoji world by `recipes/starter`; what it knows and does not know, with measured
figures, stands in `assets/starter/README.md`. Weights are kept in half precision and run in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, Saved
from multimodal.core.errors import UnknownModel
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.core.space import Space

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from multimodal.encoders.starter.networks import AudioTower, ImageTower, TextTower

DIM = 256
EXACT = Runtime()
CARDS = (
    Card(
        name="starter",
        modalities=(Modality.TEXT, Modality.IMAGE, Modality.AUDIO),
        dim=DIM,
        licence="Apache-2.0",
        source="ships inside; recipes/starter",
        size_mb=11.9,
        description="English phrases, emoji-like pictures and speech; 5.9 M parameters, for trying things offline",
    ),
)


def load(
    rest: str = "", *, device: str = "auto", precision: Precision = "float32", decode: Decode = "exact"
) -> Space:
    """The starter space. There is only one, so `rest` must be empty; for the options see `core.runtime.Runtime`."""
    if rest:
        raise UnknownModel(f"got 'starter/{rest}', but there is only one starter: use load('starter')")
    return Space.from_pretrained(assets() / "starter", device=device, precision=precision, decode=decode)


def from_config(saved: Saved, runtime: Runtime) -> Encoder:
    """Rebuild an encoder from what it saved."""
    if saved.modality == Modality.TEXT:
        return StarterText(saved.config["vocabulary"], saved.tensors, runtime)
    kind = StarterImage if saved.modality == Modality.IMAGE else StarterAudio
    return kind(saved.tensors, runtime)


class _Starter(Encoder):
    """A tower and the device it is on. What differs between modalities is `prepare` and how `forward` calls it."""

    dim = DIM
    net: nn.Module

    def _settle(self, net: nn.Module, tensors: Mapping[str, Tensor], runtime: Runtime) -> None:
        # BatchNorm counts its training batches in a buffer that no inference reads; it is not kept
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()} | _counters(net))
        self.runtime, self.device = runtime, runtime.torch_device
        self.net = net.eval().requires_grad_(False).to(self.device, runtime.cast)

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights in half precision, exactly as they were shipped."""
        return {name: t.half() for name, t in self.net.state_dict().items() if t.is_floating_point()}

    def _per_item(self, vectors: Tensor, owners: Tensor) -> Tensor:
        """The mean of each item's windows."""
        owners = owners.to(self.device)
        rows = vectors.new_zeros(int(owners.max()) + 1, self.dim)
        return rows.index_add_(0, owners, vectors)


def _counters(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not tensor.is_floating_point()}


class StarterText(_Starter):
    """Word pieces -> transformer. Texts of more than 48 pieces are cut into equal windows, and those averaged."""

    modality = Modality.TEXT
    takes = 200  # characters: 48 word pieces of a little more than four
    net: TextTower

    def __init__(
        self, vocabulary: Sequence[str], tensors: Mapping[str, Tensor], runtime: Runtime = EXACT
    ) -> None:
        from multimodal.encoders.starter.networks import TextTower
        from multimodal.encoders.starter.preprocessing import Tokenizer

        self.vocabulary = list(vocabulary)
        self.tokenizer = Tokenizer(self.vocabulary)
        self._settle(TextTower(len(self.vocabulary)), tensors, runtime)

    def config(self) -> dict[str, Any]:
        from multimodal.encoders.starter.networks import MAX_TOKENS

        return {"max_tokens": MAX_TOKENS, "lowercase": True, "vocabulary": self.vocabulary}

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """tokens (windows, t) int64, lengths (windows,), owners (windows,): the item each window is of."""
        import torch

        from multimodal.encoders.starter.networks import MAX_TOKENS
        from multimodal.encoders.starter.preprocessing import pad, windows

        rows = self.tokenizer([str(item.load()) for item in items])
        cut = [(owner, row[a:b]) for owner, row in enumerate(rows) for a, b in windows(len(row), MAX_TOKENS)]
        tokens, lengths = pad([row for _, row in cut])
        return {"tokens": tokens, "lengths": lengths, "owners": torch.tensor([owner for owner, _ in cut])}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        vectors = self.net(batch["tokens"].to(self.device), batch["lengths"].to(self.device))
        return self._per_item(vectors, batch["owners"])


class StarterImage(_Starter):
    """A ConvNet on 64-pixel squares; other shapes are filled up with their border's mean colour."""

    modality = Modality.IMAGE
    net: ImageTower

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = EXACT) -> None:
        from multimodal.encoders.starter.networks import ImageTower

        self._settle(ImageTower(), tensors, runtime)

    def config(self) -> dict[str, Any]:
        from multimodal.encoders.starter.networks import SIDE

        return {"side": SIDE, "resize": "bicubic, longest edge, border-mean fill"}

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """pictures (n, 3, 64, 64) uint8."""
        import torch

        from multimodal.encoders.starter.networks import SIDE
        from multimodal.encoders.starter.preprocessing import picture

        min_side = SIDE if self.runtime.decode == "fast" else None
        pixels = [item.load(min_side=min_side) for item in items]  # type: ignore[call-arg, union-attr]
        return {"pictures": torch.stack([picture(one) for one in pixels])}  # type: ignore[arg-type]

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        vectors: torch.Tensor = self.net(batch["pictures"].to(self.device))
        return vectors


class StarterAudio(_Starter):
    """Log-mels of speech -> transformer. Clips of more than 6 s are cut into equal windows, and those averaged."""

    modality = Modality.AUDIO
    takes = 6
    net: AudioTower

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = EXACT) -> None:
        from multimodal.encoders.starter.networks import AudioTower

        self._settle(AudioTower(), tensors, runtime)

    def config(self) -> dict[str, Any]:
        from multimodal.encoders.starter import preprocessing as features
        from multimodal.encoders.starter.networks import N_MELS

        return {
            "rate_hz": features.RATE_HZ, "n_fft": features.N_FFT, "hop": features.HOP, "n_mels": N_MELS,
            "floor_db": features.FLOOR_DB, "silence_db": features.SILENCE_DB, "quiet_db": features.QUIET_DB,
            "margin": features.MARGIN, "window_samples": features.WINDOW_SAMPLES,
        }  # fmt: skip

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """mels (windows, frames, 64) float32, lengths (windows,), owners (windows,)."""
        import torch

        from multimodal.encoders.starter.preprocessing import RATE_HZ, speech_windows

        cut = []
        for owner, item in enumerate(items):
            waveform = item.load(rate_hz=RATE_HZ)  # type: ignore[call-arg, union-attr]
            cut += [(owner, mel) for mel in speech_windows(waveform.samples)]  # type: ignore[union-attr]
        mels = [mel for _, mel in cut]
        return {
            "mels": torch.nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "lengths": torch.tensor([len(mel) for mel in mels]),
            "owners": torch.tensor([owner for owner, _ in cut]),
        }

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        vectors = self.net(batch["mels"].to(self.device), batch["lengths"].to(self.device))
        return self._per_item(vectors, batch["owners"])
