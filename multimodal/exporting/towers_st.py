"""Text models of the `st` family."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.core.modality import Modality
from multimodal.encoders.st.encoders import STEncoder
from multimodal.encoders.st.prompts import ROUTERS
from multimodal.exporting.towers import TOKENIZER_FILE, TowerSpec, truncated_tokens

EXAMPLE = ("a photo of a small dog", "a cat")


class _Tower(nn.Module):
    """A SentenceTransformer's modules on tokens."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], dim: int) -> None:
        super().__init__()
        self.model, self.names, self.dim = model, names, dim

    def forward(self, *inputs: Tensor) -> Tensor:
        features: Any = self.model(dict(zip(self.names, inputs, strict=True)))
        return nn.functional.normalize(features["sentence_embedding"][:, : self.dim].float(), dim=-1)


def spec(encoder: Encoder) -> TowerSpec:
    """See `towers.spec`."""
    if not isinstance(encoder, STEncoder) or encoder.modality != Modality.TEXT:
        raise InvalidInput("of the 'st' family only text can be exported: export space.select('text')")
    model, role = encoder.shared.model, encoder.settings.role
    tokenizer: Any = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    query = encoder.settings.query
    if backend is None or _depends_on_prompts(model):
        raise InvalidInput(
            "a model that routes queries and documents apart, that leaves prompts out of its pooling, or without a "
            "tokenizer.json is not exported"
        )
    (features,) = encoder.prepare([Text(text) for text in EXAMPLE])["groups"]
    names = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in features)
    if "token_type_ids" in names:  # zeros, which the model takes when they are left out
        names = names[:-1]
    preprocessing = truncated_tokens(
        int(model.max_seq_length or tokenizer.model_max_length),
        padding="longest",
        pad_id=tokenizer.pad_token_id,
        pad_left=tokenizer.padding_side == "left",
        ids="input_ids",
        mask="attention_mask" if "attention_mask" in names else None,
    )
    if role.prompt:
        preprocessing["prompt"] = role.prompt
    if query is not None:
        preprocessing["query_prompt"] = query.prompt or ""
    inputs = {name: features[name] for name in names}
    files = {TOKENIZER_FILE: backend.to_str().encode()}
    net = _Tower(model, names, encoder.dim)
    return TowerSpec(net.eval(), inputs, dict.fromkeys(names, (1,)), preprocessing, files)


def _depends_on_prompts(model: nn.Module) -> bool:
    """Whether a prompt changes more than the text: the modules that run, or the tokens that are averaged."""
    return any(
        type(module).__name__ in ROUTERS or getattr(module, "include_prompt", True) is False
        for module in model.modules()
    )
