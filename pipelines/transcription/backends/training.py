"""The loss of transcripts, for fine-tuning a speech model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Audio, Item

IGNORED = -100  # the label of padding


def transcript_losses(
    model: Any, extractor: Any, tokenizer: Any, pairs: Sequence[tuple[Item, Item]]
) -> Tensor:
    """Mean cross-entropy per token of each transcript.

    Args:
        model: A sequence-to-sequence model.
        extractor: Its feature extractor.
        tokenizer: Its tokenizer.
        pairs: (audio, text); of Whisper at most 30 s.

    Returns:
        (n,) with gradients.

    Raises:
        InvalidInput: If a first item is no audio, or a transcript is too long for the model.
    """
    rate_hz = int(extractor.sampling_rate)
    sounds = []
    for item, _ in pairs:
        if not isinstance(item, Audio):
            raise InvalidInput(f"a speech model is trained on pairs of audio and text, got {item.modality}")
        sounds.append(item.load(rate_hz=rate_hz).samples)
    inputs = extractor(sounds, sampling_rate=rate_hz, return_tensors="pt")
    labels = _labels(tokenizer, [str(text.load()) for _, text in pairs], model.config)
    placed = {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in inputs.items()
    }
    labels = labels.to(model.device)
    logits = model(**placed, labels=labels).logits
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(dim=1) / (labels != IGNORED).sum(dim=1)


def _labels(tokenizer: Any, texts: Sequence[str], config: Any) -> Tensor:
    rows = [list(row) for row in tokenizer(list(texts))["input_ids"]]
    start = config.decoder_start_token_id
    rows = [row[1:] if row and row[0] == start else row for row in rows]  # the model puts it first itself
    longest = getattr(config, "max_target_positions", None)
    for row, text in zip(rows, texts, strict=True):
        if longest is not None and len(row) > longest:
            raise InvalidInput(
                f"the transcript {text!r:.60} has {len(row)} tokens, and the model takes at most {longest}: shorten it"
            )
    width = max(len(row) for row in rows)
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])
