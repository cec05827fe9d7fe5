"""How many tokens a pipeline of diffusers reads of a prompt. Upstream cuts what is more and only logs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.generation.backends.diffusers_load import captured_logs
from multimodal.pipelines.generation.backends.signature import CallSignature

ENDLESS = 10**6  # transformers writes a number like 10^30 where a tokenizer has no limit


def check_length(name: str, what: str, text: str, call: CallSignature) -> None:
    """Raises InvalidInput if no text encoder of the pipeline reads all of a text.

    Where several read it (Flux, Stable Diffusion 3) the one that reads most decides: the others only give a summary.
    """
    read = list(_readers(call))
    if not read:
        return
    with captured_logs():
        counts = [(len(tokenizer(text, truncation=False).input_ids), limit) for tokenizer, limit in read]
    if all(count > limit for count, limit in counts):
        count, limit = max(counts, key=lambda one: one[1] - one[0])
        raise InvalidInput(
            f"the {what} has {count} tokens and {name!r} reads {limit}: shorten it, or give truncate=True to have it "
            f"read only the beginning: {text[:60]!r}…"
        )


def _readers(call: CallSignature) -> Iterator[tuple[Any, int]]:
    """(tokenizer, limit in tokens with its marks of begin and end) of each text encoder that is there and has one."""
    pipe = call.pipe
    for part, tokenizer in pipe.components.items():
        encoder = part.replace("tokenizer", "text_encoder")
        if "tokenizer" not in part or tokenizer is None or pipe.components.get(encoder) is None:
            continue
        limit = int(getattr(tokenizer, "model_max_length", ENDLESS))
        told = call.defaults.get("max_sequence_length")
        if isinstance(told, int) and not type(tokenizer).__name__.startswith("CLIP"):
            # Sana puts a prompt behind instructions, which are not counted, and spends one of the rest on its mark
            limit = told - 1 if call.has("complex_human_instruction") else told
        if limit < ENDLESS:
            yield tokenizer, limit
