"""Writes captions and transcripts: beam search over the decoder's characters."""

from __future__ import annotations

import torch
from torch import Tensor

from multimodal.core.backends.decoding import DecodedSequence, decode
from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.vocabulary import END, MAX_TOKENS, TASK_TOKEN

BEAMS = 3


def write_texts(
    net: OmniNet,
    task: str,
    memory: tuple[Tensor, Tensor],
    blocked: Tensor | None = None,
    *,
    beams: int = BEAMS,
    max_length: int = MAX_TOKENS - 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[DecodedSequence]:
    """Writes one text for each input of a batch.

    Args:
        net: The network.
        task: "describe" or "transcribe".
        memory: Keys and values (n, heads, s, d) of the encoder.
        blocked: (n, 1, 1, s), -inf for padding of the encoder's states; None for no padding.
        beams: The beam width; 1 is greedy decoding.
        max_length: The most characters, the end included.
        temperature: Of sampling; 0 searches.
        top_p: The probability mass that is sampled from.
        generator: Of sampling, on the CPU.

    Returns:
        The tokens of each text, which `vocabulary.to_text` spells.
    """
    keys, values = memory
    device = keys.device

    def next_log_probs(owners: Tensor, tokens: Tensor) -> Tensor:
        owners = owners.to(device)
        start = torch.full((len(owners), 1), TASK_TOKEN[task], device=device)
        hidden = None if blocked is None else blocked[owners]
        prefix = torch.cat([start, tokens.to(device)], dim=1)
        logits, _ = net.decoder(prefix, None, (keys[owners], values[owners]), hidden)
        return torch.log_softmax(logits[:, -1].float(), dim=-1)

    with torch.inference_mode():
        return decode(
            next_log_probs,
            len(keys),
            beams=beams,
            max_length=min(max_length, MAX_TOKENS - 1),
            end=END,
            temperature=temperature,
            top_p=top_p,
            generator=generator,
        )
