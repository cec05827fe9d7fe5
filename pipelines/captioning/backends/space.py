"""Captions from the vectors of a shared space, whatever their modality: the decoder that ships with the starter.

A decoder is valid only for the encoders whose vectors it was trained on. Their fingerprints are stored beside its
weights (`caption.json`); `recipes/starter/captioner/train_captions.py` writes both files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CorruptSpace, SpaceMismatch
from multimodal.core.items import Audio, Item
from multimodal.core.space import Space
from multimodal.pipelines.captioning.backends.space_files import CURE, METADATA, WEIGHTS, read_decoder
from multimodal.pipelines.captioning.options import (
    CaptioningBackend,
    CaptioningOptions,
    CaptioningOutput,
    load_audible,
    seeded_generator,
)

if TYPE_CHECKING:
    import torch

    from multimodal.adapt.alignment.policy import CaptionPolicy
    from multimodal.core.backends.decoding import DecodedSequence, NextLogProbs
    from multimodal.pipelines.captioning.backends.nearest_captions import NearestCaptions

BEAMS = 3
TOP_P = 0.9  # trained with label smoothing, it gives every word some probability


class SpaceCaptioningBackend(CaptioningBackend):
    """A space with the decoder that was trained for it."""

    prompts = False
    accepts_examples = True

    def __init__(self, space: Space, folder: str | os.PathLike[str]) -> None:
        """Loads the decoder.

        Args:
            space: The space whose vectors are captioned.
            folder: Holds caption.safetensors and caption.json.

        Raises:
            CorruptSpace: The files are missing or damaged.
            SpaceMismatch: The decoder was trained for another space.
        """
        from multimodal.pipelines.captioning.backends.networks import CaptionNet

        metadata, tensors = read_decoder(Path(folder))
        self.space, self.name, self.words = space, space.name, list(metadata["words"])
        self.modalities = space.modalities
        self.dim = space.dim
        _check_trained_for(space, metadata["encoders"], Path(folder))
        runtime = next(iter(space.encoders.values())).runtime
        self.net = CaptionNet(len(self.words), space.dim)
        try:
            self.net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise CorruptSpace(
                f"the tensors of {Path(folder) / WEIGHTS} do not fit the captioning decoder that {METADATA} "
                f"describes; {CURE}"
            ) from error
        self._device: torch.device = runtime.torch_device
        self._encoded: tuple[tuple[tuple[Item, str], ...], NearestCaptions] | None = None
        self.net.eval().requires_grad_(False).to(self._device, runtime.dtype)

    @property
    def device(self) -> torch.device:
        return self._device

    def to(self, device: torch.device) -> None:
        """Moves the decoder; the space's encoders stay where they were loaded."""
        self._device = device
        self.net.to(device)

    def generate(self, inputs: Sequence[Any], options: CaptioningOptions) -> list[CaptioningOutput]:
        return self.caption_vectors(self.vectors(inputs), options)

    def _examples(self, examples: tuple[tuple[Item, str], ...]) -> NearestCaptions:
        """The encoded examples, kept for the next batch of the same call."""
        from multimodal.pipelines.captioning.backends.nearest_captions import NearestCaptions, caption_tokens

        if self._encoded is None or self._encoded[0] is not examples:
            ids = {word: number for number, word in enumerate(self.words)}
            tokens = [caption_tokens(caption, ids, number) for number, (_, caption) in enumerate(examples)]
            vectors = self.vectors([item for item, _ in examples])
            self._encoded = (examples, NearestCaptions(vectors, tokens))
        return self._encoded[1]

    def trainable(self) -> CaptionPolicy:
        from multimodal.pipelines.captioning.backends.space_policy import SpaceCaptionPolicy

        return SpaceCaptionPolicy(self)

    def caption_vectors(self, vectors: torch.Tensor, options: CaptioningOptions) -> list[CaptioningOutput]:
        """Unit vectors (n, dim) -> one output each."""
        import torch

        from multimodal.core.backends import decoding
        from multimodal.pipelines.captioning.backends.networks import END, LONGEST

        vectors = vectors.to(self._device, self.net.positions.dtype)

        def next_log_probs(owners: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            logits = self.net(vectors[owners.to(self._device)], tokens.to(self._device))[:, -1]
            return torch.log_softmax(logits.float(), dim=-1)

        predict: NextLogProbs = next_log_probs
        if options.examples:
            predict = self._examples(options.examples).mixed(next_log_probs, vectors.float().cpu())
        with torch.inference_mode():
            sequences = decoding.decode(
                predict,
                len(vectors),
                beams=options.beams or BEAMS,
                max_length=min(options.max_tokens or LONGEST, LONGEST),
                end=END,
                temperature=options.temperature,
                top_p=options.top_p or TOP_P,
                generator=seeded_generator(options.seed),
            )
        return [self._output(sequence) for sequence in sequences]

    def _output(self, sequence: DecodedSequence) -> CaptioningOutput:
        words = _drop_repetition([self.words[token] for token in sequence.tokens])
        return CaptioningOutput(
            " ".join(words), tuple(sequence.tokens[: len(words)]), sequence.mean_log_prob, sequence.ended
        )

    def vectors(self, inputs: Sequence[Any]) -> torch.Tensor:
        """Items and unit vectors (dim,) -> unit vectors (n, dim)."""
        import numpy as np
        import torch

        rows = np.empty((len(inputs), self.space.dim), dtype=np.float32)
        to_encode: dict[int, Item] = {}
        for position, item in enumerate(inputs):
            if isinstance(item, np.ndarray):
                rows[position] = item
            else:
                to_encode[position] = _decode_audio(item)
        if to_encode:
            rows[list(to_encode)] = self.space.encode(list(to_encode.values()))
        return torch.from_numpy(rows)


def _drop_repetition(words: list[str]) -> list[str]:
    """ "a dog and a dog" -> "a dog": the decoder repeats an object that it takes for two."""
    half = len(words) // 2
    is_repeated = (
        half > 0
        and len(words) % 2 == 1
        and words[half : half + 1] == ["and"]
        and words[:half] == words[half + 1 :]
    )
    return words[:half] if is_repeated else words


def _decode_audio(item: Item) -> Item:
    """The item; an audio as its decoded samples, checked for silence."""
    if not isinstance(item, Audio):
        return item
    waveform = load_audible(item)
    return Audio({"array": waveform.samples, "sampling_rate": waveform.rate_hz}, uri=item.uri)


def _check_trained_for(space: Space, trained_for: dict[str, str], folder: Path) -> None:
    mismatched = [
        str(modality)
        for modality, encoder in space.encoders.items()
        if trained_for.get(str(modality)) not in encoder.decoder_fingerprints
    ]
    if mismatched:
        raise SpaceMismatch(
            f"the captioning decoder in {folder} was not trained for the {' and '.join(mismatched)} encoder of "
            f"{space.name!r}, so "
            "its captions would be wrong; caption with the starter ('starter'), with a model by name "
            "('hf/…', 'openclip/coca_…'), or train one with recipes/starter/captioner/train_captions.py"
        )
