"""Image captioners, vision-language and audio-language models of transformers.

Every class of `AutoModelForMultimodalLM` is supported: those of `AutoModelForImageTextToText`, and audio-language
models. The processor determines the inputs (`hf_inputs`). The tokens are those of upstream's `generate` with the same
inputs. The checkpoint's generation_config.json applies, except that sampling happens only with `sample=True`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.progress import is_observed, step
from multimodal.encoders.hf.checkpoint import quiet
from multimodal.encoders.hf.generative import context_length, end_tokens, is_encoder_decoder
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
    """A model of transformers with its processor."""

    def __init__(self, name: str, model: Any, inputs: Inputs) -> None:
        self.name, self.model, self.inputs = name, model, inputs
        self.modalities = inputs.modalities
        self.accepts_examples = inputs.has_chat_template
        tokenizer = inputs.processor.tokenizer
        self.is_encoder_decoder = is_encoder_decoder(model.config)
        if not self.is_encoder_decoder:  # the caption continues from the end of the input
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    @property
    def decoder_network(self) -> Any:
        """See `core.decoder.TrainableBackend`."""
        return self.model

    def with_network(self, net: Any) -> Self:
        """See `core.decoder.TrainableBackend`."""
        other = copy.copy(self)
        other.model = net
        return other

    def pair_losses(self, pairs: Sequence[tuple[Any, Any]], seed: int) -> torch.Tensor:
        """See `core.decoder.TrainableBackend`."""
        from multimodal.pipelines.captioning.backends.training import caption_losses

        return caption_losses(self.model, self.inputs, pairs, is_encoder_decoder=self.is_encoder_decoder)

    def generate(self, inputs: Sequence[Any], options: CaptioningOptions) -> list[CaptioningOutput]:
        outputs: dict[int, CaptioningOutput] = {}
        for modality in dict.fromkeys(item.modality for item in inputs):
            positions = [position for position, item in enumerate(inputs) if item.modality is modality]
            batch = self._generate([inputs[position] for position in positions], options)
            outputs |= dict(zip(positions, batch, strict=True))
        return [outputs[position] for position in range(len(inputs))]

    def _generate(self, items: Sequence[Any], options: CaptioningOptions) -> list[CaptioningOutput]:
        import torch

        inputs = self.inputs(items, options.prompt, options.examples).to(
            self.model.device, dtype=self.model.dtype
        )
        arguments = self._arguments(options, inputs)
        if is_observed():
            arguments["stopping_criteria"] = [_step_and_continue]
        with torch.inference_mode(), quiet(), _seeded(options.seed, self.model.device):
            generated = self.model.generate(
                **inputs, **arguments, return_dict_in_generate=True, output_logits=True
            )
        ends = end_tokens(self.model)
        rows, log_probs = generated_tokens(generated)
        return [self._output(*pair, ends) for pair in zip(rows, log_probs, strict=True)]

    def _output(self, row: list[int], log_probs: list[float], ends: set[int]) -> CaptioningOutput:
        end = next((position for position, token in enumerate(row) if token in ends), None)
        counted = log_probs if end is None else log_probs[: end + 1]  # the end token counts too
        tokens = row if end is None else row[:end]
        text = self.inputs.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return CaptioningOutput(text, tuple(tokens), sum(counted) / max(1, len(counted)), end is not None)

    def _arguments(self, options: CaptioningOptions, inputs: Any) -> dict[str, Any]:
        n_input = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        arguments: dict[str, Any] = {
            "max_new_tokens": self._max_new_tokens(options.max_tokens, n_input),
            "do_sample": False,
        }
        if options.beams is not None:
            arguments["num_beams"] = options.beams
        if options.temperature > 0:
            arguments |= {"do_sample": True, "num_beams": 1, "temperature": options.temperature}
            arguments |= {} if options.top_p is None else {"top_p": options.top_p}
        return arguments

    def _max_new_tokens(self, max_tokens: int | None, n_input: int) -> int:
        context = context_length(self.model.config)
        if context is None:
            return max_tokens or DEFAULT_TOKENS
        return token_budget(
            self.name,
            max_tokens,
            DEFAULT_TOKENS,
            context=context,
            n_input=n_input,
            is_encoder_decoder=self.is_encoder_decoder,
        )


def _step_and_continue(input_ids: torch.Tensor, scores: object, **more: object) -> bool:
    """A stopping criterion of `generate` that never stops by itself, but reports each token as a step."""
    step()
    return False


def generated_tokens(out: Any) -> tuple[list[list[int]], list[list[float]]]:
    """The tokens that `generate` added to its input, and the log-probability of each by the model's logits."""
    import torch

    beams = getattr(out, "beam_indices", None)
    steps = len(out.logits)
    if beams is not None:
        steps = int((beams >= 0).sum(dim=1).max())
        beams = beams[:, :steps].clamp(min=0)
    tokens = out.sequences[:, out.sequences.shape[1] - steps :]
    log_probs = torch.empty(tokens.shape, dtype=torch.float32)
    for place in range(steps):
        scores = torch.log_softmax(out.logits[place].float(), dim=-1)
        if beams is not None:
            scores = scores[beams[:, place]]
        log_probs[:, place] = scores.gather(1, tokens[:, place : place + 1])[:, 0].cpu()
    return tokens.tolist(), log_probs.tolist()


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seeds the global generator, which `generate` samples from, and restores its state afterwards."""
    import torch

    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
