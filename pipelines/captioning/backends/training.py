"""The loss of captions, for fine-tuning a captioning model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.items import Item


def caption_losses(
    model: Any, inputs_of: Any, pairs: Sequence[tuple[Item, Item]], *, is_encoder_decoder: bool
) -> Tensor:
    """Mean cross-entropy per token of each caption; pairs are run one by one, so nothing is padded.

    Args:
        model: The model.
        inputs_of: (items, prompt) -> the inputs of `generate`, see `hf_inputs.Inputs`.
        pairs: (image, audio or video; text).
        is_encoder_decoder: Whether the caption is written by a decoder with its own sequence.

    Returns:
        (n,) with gradients.
    """
    tokenizer = inputs_of.processor.tokenizer
    losses = []
    for item, text in pairs:
        inputs = inputs_of([item], None).to(model.device, dtype=model.dtype)
        caption = list(tokenizer(str(text.load()), add_special_tokens=False)["input_ids"])
        end = _first(model.generation_config.eos_token_id, tokenizer.sep_token_id, tokenizer.eos_token_id)
        if is_encoder_decoder:
            labels = torch.tensor([[*caption, end]], device=model.device)
            logits = model(**inputs, labels=labels).logits
            losses.append(F.cross_entropy(logits[0].float(), labels[0]))
        else:
            losses.append(_causal_loss(model, dict(inputs), caption, end))
    return torch.stack(losses)


def _causal_loss(model: Any, inputs: dict[str, Tensor], caption: list[int], end: int) -> Tensor:
    """The caption continues the input's tokens; the input itself is not trained."""
    prompt = inputs.get("input_ids")
    if prompt is None:  # BLIP begins with a token of its own
        start = _first(model.config.get_text_config(decoder=True).bos_token_id, end)
        prompt = torch.tensor([[start]], device=model.device)
    added = torch.tensor([[*caption, end]], device=model.device)
    ids = torch.cat([prompt, added], dim=1)
    extended = {
        name: torch.cat([value, value.new_full(added.shape, int(name == "attention_mask"))], dim=1)
        if value.shape == prompt.shape and name != "input_ids"
        else value
        for name, value in inputs.items()
    }
    logits = model(**(extended | {"input_ids": ids})).logits
    # A model that inserts image tokens has more logits than tokens; the caption is at the end either way
    predicted = logits[0, -added.shape[1] - 1 : -1]
    return F.cross_entropy(predicted.float(), added[0])


def _first(*values: Any) -> int:
    """The first value that is an id, or the first of a list of ids."""
    for value in values:
        if isinstance(value, list) and value:
            return int(value[0])
        if isinstance(value, int):
            return value
    raise ValueError("the model names no token that ends a text")
