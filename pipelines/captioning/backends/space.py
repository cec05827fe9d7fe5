"""Captions out of the vectors of a shared space, whatever they were made from: the decoder that ships with the starter.

A decoder belongs to the encoders whose vectors it learned, and their fingerprints stand beside its weights
(`caption.json`); `recipes/starter/captioner/train_captions.py` makes both files for any space of that world.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CorruptSpace, SpaceMismatch
from multimodal.core.items import Audio, Item
from multimodal.core.space import Space
from multimodal.pipelines.captioning.options import (
    CaptioningBackend,
    CaptioningOptions,
    CaptioningOutput,
    load_audible,
    seeded_generator,
)

if TYPE_CHECKING:
    import torch

    from multimodal.pipelines.captioning.decoding import DecodedSequence

WEIGHTS, ABOUT = "caption.safetensors", "caption.json"
FORMAT = 1
BEAMS = 3
TOP_P = 0.9  # it was trained to leave a little chance to every word (label smoothing)
AGAIN = "train one with 'python -m recipes.starter.captioner.train_captions', or copy the folder again"


class SpaceCaptioningBackend(CaptioningBackend):
    """A space and the decoder that was trained for it."""

    prompts = False

    def __init__(self, space: Space, folder: str | os.PathLike[str]) -> None:
        """folder: with caption.safetensors and caption.json.

        Raises CorruptSpace if they are missing or damaged, SpaceMismatch if they were made for another space.
        """
        from multimodal.pipelines.captioning.backends.networks import CaptionNet

        about, tensors = _read(Path(folder))
        self.space, self.name, self.words = space, space.name, list(about["words"])
        self.modalities = space.modalities
        self.dim = space.dim
        _check_made_for(space, about["encoders"], Path(folder))
        runtime = next(iter(space.encoders.values())).runtime
        self.net = CaptionNet(len(self.words), space.dim)
        try:
            self.net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise CorruptSpace(
                f"the tensors of {Path(folder) / WEIGHTS} do not fit the captioner that {ABOUT} describes; {AGAIN}"
            ) from error
        self._device: torch.device = runtime.torch_device
        self.net.eval().requires_grad_(False).to(self._device, runtime.dtype)

    @property
    def device(self) -> torch.device:
        return self._device

    def to(self, device: torch.device) -> None:
        """Moves the decoder; the space's encoders stay where they were loaded."""
        self._device = device
        self.net.to(device)

    def generate(self, items: Sequence[Any], asked: CaptioningOptions) -> list[CaptioningOutput]:
        return self.tell(self._vectors(items), asked)

    def tell(self, vectors: torch.Tensor, asked: CaptioningOptions) -> list[CaptioningOutput]:
        """(n, dim) unit rows -> what is said of each."""
        import torch

        from multimodal.pipelines.captioning import decoding
        from multimodal.pipelines.captioning.backends.networks import END, LONGEST

        vectors = vectors.to(self._device, self.net.positions.dtype)

        def next_log_probs(owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
            logits = self.net(vectors[owners.to(self._device)], words.to(self._device))[:, -1]
            return torch.log_softmax(logits.float(), dim=-1)

        with torch.inference_mode():
            found = decoding.decode(
                next_log_probs,
                len(vectors),
                beams=asked.beams or BEAMS,
                max_length=min(asked.max_tokens or LONGEST, LONGEST),
                end=END,
                temperature=asked.temperature,
                top_p=asked.top_p or TOP_P,
                generator=seeded_generator(asked.seed),
            )
        return [self._written(one) for one in found]

    def _written(self, found: DecodedSequence) -> CaptioningOutput:
        said = _once([self.words[number] for number in found.words])
        return CaptioningOutput(
            " ".join(said), tuple(found.words[: len(said)]), found.mean_log_prob, found.ended
        )

    def _vectors(self, items: Sequence[Any]) -> torch.Tensor:
        import numpy as np
        import torch

        rows = np.empty((len(items), self.space.dim), dtype=np.float32)
        to_encode: dict[int, Item] = {}
        for position, item in enumerate(items):
            if isinstance(item, np.ndarray):
                rows[position] = item
            else:
                to_encode[position] = _audible(item)
        if to_encode:
            rows[list(to_encode)] = self.space.encode(list(to_encode.values()))
        return torch.from_numpy(rows)


def _once(said: list[str]) -> list[str]:
    """Without a second time of the same: one thing seen as two is "a dog and a dog" to the decoder."""
    half = len(said) // 2
    twice = (
        half > 0
        and len(said) % 2 == 1
        and said[half : half + 1] == ["and"]
        and said[:half] == said[half + 1 :]
    )
    return said[:half] if twice else said


def _audible(item: Item) -> Item:
    """The item; of a sound what was decoded to find out that it is one."""
    if not isinstance(item, Audio):
        return item
    waveform = load_audible(item)
    return Audio({"array": waveform.samples, "sampling_rate": waveform.rate_hz}, uri=item.uri)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CorruptSpace(f"no captioner can be read from {folder} ({error}); {AGAIN}") from error
    if not isinstance(about, dict) or not {"format", "encoders", "words"} <= set(about):
        raise CorruptSpace(f"{folder / ABOUT} does not describe a captioner; {AGAIN}")
    if about["format"] > FORMAT:
        raise CorruptSpace(
            f"{folder / ABOUT} has format {about['format']}, this version reads up to {FORMAT}: upgrade multimodal"
        )
    return about, tensors


def _check_made_for(space: Space, made_for: dict[str, str], folder: Path) -> None:
    strange = [
        str(modality)
        for modality, encoder in space.encoders.items()
        if made_for.get(str(modality)) != encoder.fingerprint
    ]
    if strange:
        raise SpaceMismatch(
            f"the captioner in {folder} was not trained for the {' and '.join(strange)} encoder of {space.name!r}, so "
            "it would misread its vectors; caption with the starter ('starter'), with a model by name "
            "('hf/…', 'openclip/coca_…'), or train one with recipes/starter/captioner/train_captions.py"
        )
