"""Token limits of prompts in diffusers pipelines. Upstream truncates longer prompts and only logs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.generation.backends.diffusers_load import captured_logs
from multimodal.pipelines.generation.backends.signature import CallSignature

ENDLESS = 10**6  # transformers writes a number like 10^30 where a tokenizer has no limit


def check_length(name: str, what: str, text: str, call: CallSignature) -> None:
    """Raises InvalidInput if a text exceeds the limits of all text encoders of the pipeline.

    With several encoders (Flux, Stable Diffusion 3) the one with the highest limit counts: the others only contribute a
    pooled vector.
    """
    readers = list(_readers(call))
    if not readers:
        return
    with captured_logs():
        counts = [(len(tokenizer(text, truncation=False).input_ids), limit) for tokenizer, limit in readers]
    if all(count > limit for count, limit in counts):
        count, limit = max(counts, key=lambda pair: pair[1] - pair[0])
        raise InvalidInput(
            f"the {what} has {count} tokens and {name!r} reads {limit}: shorten it, or give truncate=True to use only "
            f"its beginning: {text[:60]!r}…"
        )


def _readers(call: CallSignature) -> Iterator[tuple[Any, int]]:
    """(tokenizer, limit in tokens, special tokens included) of each text encoder that has a tokenizer."""
    pipe = call.pipe
    for part, tokenizer in pipe.components.items():
        encoder = part.replace("tokenizer", "text_encoder")
        if "tokenizer" not in part or tokenizer is None or pipe.components.get(encoder) is None:
            continue
        limit = int(getattr(tokenizer, "model_max_length", ENDLESS))
        max_length = call.defaults.get("max_sequence_length")
        if isinstance(max_length, int) and not type(tokenizer).__name__.startswith("CLIP"):
            # Sana prepends instructions, which do not count, and uses one of the remaining tokens for its mark
            limit = max_length - 1 if call.has("complex_human_instruction") else max_length
        if limit < ENDLESS:
            yield tokenizer, limit
