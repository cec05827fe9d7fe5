"""The towers of the starter."""

from __future__ import annotations

import torch
from torch import nn

from multimodal.core.encoder import Encoder
from multimodal.core.modality import Modality
from multimodal.encoders.starter import parameters
from multimodal.encoders.starter.encoders import StarterText
from multimodal.encoders.starter.networks import AudioTower, ImageTower, TextTower
from multimodal.exporting.towers import TOKENIZER_FILE, TowerSpec


def spec(encoder: Encoder) -> TowerSpec:
    """See `towers.spec`."""
    if isinstance(encoder, StarterText):
        return _text(encoder)
    if encoder.modality == Modality.IMAGE:
        pixels = torch.randint(0, 256, (2, 3, parameters.SIDE, parameters.SIDE), dtype=torch.uint8)
        preprocessing = {"kind": "square", "side": parameters.SIDE, "pixels": "pixels"}
        return TowerSpec(
            _plain(ImageTower(), encoder), {"pixels": pixels}, {}, preprocessing, projection="project"
        )
    mels = torch.rand(2, 120, parameters.N_MELS) * 2 - 1
    inputs = {"mels": mels, "lengths": torch.tensor([120, 80])}
    return TowerSpec(_plain(AudioTower(), encoder), inputs, {"mels": (1,)}, _audio_preprocessing())


def _text(encoder: StarterText) -> TowerSpec:
    tokens = torch.randint(1, len(encoder.vocabulary), (2, 9))
    preprocessing = {
        "kind": "tokens", "tokenizer": TOKENIZER_FILE, "special": False, "max_length": parameters.MAX_TOKENS,
        "overflow": "windows", "padding": "longest", "pad_id": 0, "pad_left": False,
        "ids": "tokens", "mask": None, "lengths": "lengths",
    }  # fmt: skip
    return TowerSpec(
        _plain(TextTower(len(encoder.vocabulary)), encoder),
        {"tokens": tokens, "lengths": torch.tensor([9, 4])},
        {"tokens": (1,)},
        preprocessing,
        {TOKENIZER_FILE: encoder.tokenizer.backend.to_str().encode()},
    )


def _audio_preprocessing() -> dict[str, object]:
    return {
        "kind": "speech-mels", "mels": "mels", "lengths": "lengths", "rate_hz": parameters.RATE_HZ,
        "n_fft": parameters.N_FFT, "hop": parameters.HOP, "n_mels": parameters.N_MELS,
        "min_hz": parameters.MIN_HZ, "max_hz": parameters.MAX_HZ, "floor_db": parameters.FLOOR_DB,
        "silence_db": parameters.SILENCE_DB, "quiet_db": parameters.QUIET_DB, "margin": parameters.MARGIN,
        "window_samples": parameters.WINDOW_SAMPLES,
    }  # fmt: skip


def _plain(net: nn.Module, encoder: Encoder) -> nn.Module:
    """The tower with PyTorch's own layers, whatever layers the encoder has exchanged for speed."""
    buffers = {name: tensor for name, tensor in net.state_dict().items() if not tensor.is_floating_point()}
    net.load_state_dict({name: tensor.float() for name, tensor in encoder.state_dict().items()} | buffers)
    return net.eval().requires_grad_(False)
