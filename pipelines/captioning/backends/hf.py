"""Models of transformers that write about what they see or hear: image captioners, vision- and audio-language models.

Which: whatever class `AutoModelForMultimodalLM` knows (every one of `AutoModelForImageTextToText`, and those that
hear). How its inputs are made, its processor tells (`_captioning_hf_inputs`). Tokens are those of upstream's
`generate` with the same inputs; what the checkpoint's generation_config.json sets holds, but for drawing at random,
which happens only when asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.modality import Modality
from multimodal.encoders.hf.checkpoint import quiet
from multimodal.pipelines.captioning.backends.hf_inputs import Inputs
from multimodal.pipelines.captioning.options import (
    CaptioningBackend,
    CaptioningOptions,
    CaptioningOutput,
    token_budget,
)

if TYPE_CHECKING:
    import torch

DEFAULT_TOKENS = 128


class HFCaptioningBackend(CaptioningBackend):
    """A model with its processor."""

    def __init__(self, name: str, model: Any, inputs: Inputs) -> None:
        self.name, self.model, self.inputs = name, model, inputs
        self.modalities = inputs.modalities
        tokenizer = inputs.processor.tokenizer
        self.encodes = _encodes(model.config)
        if not self.encodes:  # what is written goes on from the end of what was read
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    def generate(self, items: Sequence[Any], asked: CaptioningOptions) -> list[CaptioningOutput]:
        found: dict[int, CaptioningOutput] = {}
        for modality in dict.fromkeys(item.modality for item in items):
            places = [place for place, item in enumerate(items) if item.modality is modality]
            written = self._write([items[place] for place in places], asked, modality)
            found |= dict(zip(places, written, strict=True))
        return [found[place] for place in range(len(items))]

    def _write(
        self, items: Sequence[Any], asked: CaptioningOptions, modality: Modality
    ) -> list[CaptioningOutput]:
        import torch

        inputs = self.inputs(items, asked.prompt).to(self.model.device, dtype=self.model.dtype)
        options = self._options(asked, inputs)
        with torch.inference_mode(), quiet(), _seeded(asked, self.model.device):
            out = self.model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
        ends = _ends(self.model)
        rows, logs = written_tokens(out)
        return [self._told(row, log, ends) for row, log in zip(rows, logs, strict=True)]

    def _told(self, row: list[int], logs: list[float], ends: set[int]) -> CaptioningOutput:
        place = next((k for k, token in enumerate(row) if token in ends), None)
        counted = logs if place is None else logs[: place + 1]  # the end is one of its choices
        tokens = row if place is None else row[:place]
        text = self.inputs.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return CaptioningOutput(text, tuple(tokens), sum(counted) / max(1, len(counted)), place is not None)

    def _options(self, asked: CaptioningOptions, inputs: Any) -> dict[str, Any]:
        n_read = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        options: dict[str, Any] = {"max_new_tokens": self._most(asked.max_tokens, n_read), "do_sample": False}
        if asked.beams is not None:
            options["num_beams"] = asked.beams
        if asked.temperature > 0:
            options |= {"do_sample": True, "num_beams": 1, "temperature": asked.temperature}
            options |= {} if asked.top_p is None else {"top_p": asked.top_p}
        return options

    def _most(self, max_tokens: int | None, n_read: int) -> int:
        context = _context(self.model.config)
        if context is None:
            return max_tokens or DEFAULT_TOKENS
        return token_budget(
            self.name, max_tokens, DEFAULT_TOKENS, context=context, n_read=n_read, apart=self.encodes
        )


def written_tokens(out: Any) -> tuple[list[list[int]], list[list[float]]]:
    """What `generate` wrote, without what it read: tokens, and the log-probability of each by the model's logits."""
    import torch

    beams = getattr(out, "beam_indices", None)
    steps = len(out.logits)
    if beams is not None:
        steps = int((beams >= 0).sum(dim=1).max())
        beams = beams[:, :steps].clamp(min=0)
    tokens = out.sequences[:, out.sequences.shape[1] - steps :]
    logs = torch.empty(tokens.shape, dtype=torch.float32)
    for step in range(steps):
        scores = torch.log_softmax(out.logits[step].float(), dim=-1)
        if beams is not None:
            scores = scores[beams[:, step]]
        logs[:, step] = scores.gather(1, tokens[:, step : step + 1])[:, 0].cpu()
    return tokens.tolist(), logs.tolist()


@contextlib.contextmanager
def _seeded(asked: CaptioningOptions, device: torch.device) -> Iterator[None]:
    """`generate` draws from the global generator: it is set for the time, and then as it was."""
    import torch

    if asked.seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(asked.seed)
        yield


def _ends(model: Any) -> set[int]:
    """The tokens that end what is written."""
    found: set[int] = set()
    text = model.config.get_text_config(decoder=True)
    for said in (
        model.generation_config.eos_token_id,
        text.eos_token_id,
        getattr(text, "sep_token_id", None),
    ):
        found |= {said} if isinstance(said, int) else set(said or ())
    return found


def _encodes(config: Any) -> bool:
    text = config.get_text_config()
    return bool(getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False))


def _context(config: Any) -> int | None:
    """How many tokens the language model takes; None where its positions are relative."""
    text = config.get_text_config(decoder=True)
    for key in ("max_position_embeddings", "n_positions", "max_target_positions"):
        if isinstance(found := getattr(text, key, None), int):
            return found
    return None
