"""The options and results of captioning, and the interface between the pipeline and its backends."""

from __future__ import annotations

import abc
import base64
import contextlib
import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multimodal.core.checks import seed as check_seed
from multimodal.core.checks import whole_number
from multimodal.core.errors import EncoderError, InvalidInput, MediaCorrupt
from multimodal.core.items import Audio, Image, Item, Video, as_item
from multimodal.core.modality import Modality, Waveform

if TYPE_CHECKING:
    import torch

    from multimodal.adapt.alignment.policy import CaptionPolicy


SILENCE_PEAK = 1e-4  # of full scale, -80 dB: below the noise of a microphone in a quiet room


@dataclass(frozen=True)
class CaptioningOptions:
    """The validated options of one call.

    Attributes:
        prompt: A question or the beginning of the caption; None for the default of the model.
        max_tokens: The most tokens to write; None for the default of the model.
        beams: The beam width; None for the default of the model.
        temperature: Of the sampling; 0 is greedy decoding or beam search.
        top_p: The probability mass that is sampled from; None for the default of the model.
        seed: Of the sampling; None for a random one.
        examples: (item, caption) pairs that are shown to the model first.
    """

    prompt: str | None = None
    max_tokens: int | None = None
    beams: int | None = None
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None
    examples: tuple[tuple[Item, str], ...] = ()


@dataclass(frozen=True)
class CaptioningOutput:
    """What a backend returns for one input.

    Attributes:
        text: The caption.
        tokens: The token ids of the caption, without the end token.
        mean_log_prob: The mean log-probability of the tokens.
        ended: Whether the model produced the end token.
    """

    text: str
    tokens: tuple[int, ...]
    mean_log_prob: float
    ended: bool


class CaptioningBackend(abc.ABC):
    """A captioning model.

    Attributes:
        name: The name of the model, for messages.
        modalities: The modalities of the items it captions.
        dim: The dimension of the vectors it captions, or None if it captions none.
        prompts: Whether it accepts a prompt.
        accepts_examples: Whether it accepts examples in its context.
    """

    name: str
    modalities: tuple[Modality, ...]
    dim: int | None = None
    prompts: bool = True
    accepts_examples: bool = False

    @abc.abstractmethod
    def generate(self, inputs: Sequence[Any], options: CaptioningOptions) -> list[CaptioningOutput]:
        """Captions items of its modalities, or vectors (dim,), in one batch."""

    def trainable(self) -> CaptionPolicy | None:
        """The model as `multimodal.adapt.align` trains it; None if it cannot be aligned."""
        return None

    @abc.abstractmethod
    def to(self, device: torch.device) -> None:
        """Moves the model to a device."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """The device that the model is on."""


@dataclass(frozen=True)
class Caption:
    """A caption of one input.

    Attributes:
        text: The caption.
        score: 0 to 1: the geometric mean of the token probabilities. It measures how certain the model was of the
            wording, not whether the caption is true.
        n_tokens: The number of tokens in the caption.
        complete: False if `max_tokens` cut the caption.
        modality: Of the input; None for a vector.
        item: The input, shown beside the caption in notebooks; None for a vector.
    """

    text: str
    score: float
    n_tokens: int
    complete: bool
    modality: Modality | None = None
    item: Item | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Converts the caption to plain values.

        Returns:
            {"text", "score", "n_tokens", "complete", "modality", "uri"}, ready for JSON.
        """
        return {
            "text": self.text,
            "score": self.score,
            "n_tokens": self.n_tokens,
            "complete": self.complete,
            "modality": None if self.modality is None else str(self.modality),
            "uri": None if self.item is None else self.item.uri,
        }

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        caption = html.escape(self.text) + ("" if self.complete else " …")
        return (
            f'<figure style="margin:0">{_item_html(self.item)}'
            f"<figcaption>{caption} <small>({self.score:.2f})</small></figcaption></figure>"
        )


def make_caption(output: CaptioningOutput, source: Any) -> Caption:
    """The public result for the output of a backend. source: the item or vector that was captioned."""
    item = source if hasattr(source, "modality") else None
    score = min(1.0, max(0.0, math.exp(output.mean_log_prob)))
    modality = None if item is None else item.modality
    return Caption(output.text, score, len(output.tokens), output.ended, modality, item)


def _item_html(item: Item | None) -> str:
    if isinstance(item, Image):
        return f'<img src="data:image/png;base64,{base64.b64encode(item._repr_png_()).decode()}">'
    if isinstance(item, Audio | Video):
        return item._repr_html_()
    return "" if item is None else item._repr_html_()


def load_audible(item: Any, rate_hz: int | None = None) -> Waveform:
    """Decodes an Audio item. Raises MediaCorrupt for silence, for which models invent captions."""
    waveform: Waveform = item.load(rate_hz=rate_hz)
    if float(abs(waveform.samples).max()) < SILENCE_PEAK:
        raise MediaCorrupt(f"{item!r} is silent from beginning to end: there is nothing to caption")
    return waveform


def check_options(
    prompt: object,
    max_tokens: object,
    beams: object,
    sample: bool,
    temperature: Any,
    top_p: Any,
    seed: object,
) -> CaptioningOptions:
    """The options, validated. Raises InvalidInput for a value that no model accepts."""
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InvalidInput(
            f"prompt must be a question or the beginning of a caption, got {prompt!r}; leave it out for the model's "
            "usual caption"
        )
    max_count, width = optional_count(max_tokens, "max_tokens"), optional_count(beams, "beams")
    if not isinstance(sample, bool):
        raise InvalidInput(f"sample must be True or False, got {sample!r}")
    if sample and width is not None and width > 1:
        raise InvalidInput(f"sample=True draws one caption and beams={width} searches for the best: give one")
    if not sample and seed is not None:
        raise InvalidInput(
            f"seed={seed!r} without sample=True: nothing is drawn, so leave it out or add that"
        )
    if sample and not (_is_number(temperature) and 0 < temperature < math.inf):
        raise InvalidInput(f"temperature must be a number above 0, got {temperature!r}")
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        raise InvalidInput(f"top_p must be a number above 0 and at most 1, got {top_p!r}")
    return CaptioningOptions(
        prompt,
        max_count,
        width,
        float(temperature) if sample else 0.0,
        None if top_p is None else float(top_p),
        None if seed is None else check_seed(seed),
    )


def check_examples(examples: Any, backend: CaptioningBackend) -> tuple[tuple[Item, str], ...]:
    """(item, caption) pairs. Raises InvalidInput unless the model takes them."""
    if isinstance(examples, str) or not isinstance(examples, Iterable):
        raise InvalidInput(f"examples must be [(item, 'caption'), …], got {examples!r:.80}")
    pairs = []
    for number, example in enumerate(examples):
        if not isinstance(example, tuple | list) or len(example) != 2 or not isinstance(example[1], str):
            raise InvalidInput(f"example {number} must be (item, 'caption'), got {example!r:.80}")
        item = as_item(example[0])
        if item.modality not in (Modality.IMAGE, Modality.AUDIO) or item.modality not in backend.modalities:
            raise InvalidInput(
                f"example {number} is {item.modality}; {backend.name!r} takes examples of image or audio, where it "
                "captions these"
            )
        pairs.append((item, example[1]))
    if pairs and not backend.accepts_examples:
        raise InvalidInput(
            f"{backend.name!r} takes no examples in its context: models with a chat template ('hf/…') and "
            "'starter' do"
        )
    return tuple(pairs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def optional_count(value: Any, name: str) -> int | None:
    """The value as an int of at least 1; None stays None. Raises InvalidInput."""
    return None if value is None else whole_number(value, name)


@contextlib.contextmanager
def explain_out_of_memory(backend: CaptioningBackend, count: int) -> Iterator[None]:
    """Turns out-of-memory errors into an EncoderError that says which options to lower. count: of the batch."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate" not in str(error):
            raise
        cure = f"batch_size={max(1, count // 2)}" if count > 1 else "a smaller max_tokens, fewer beams"
        raise EncoderError(
            f"{backend.name!r} ran out of memory on {backend.device} with {count} at once: try {cure}, "
            "precision='bfloat16', or another device"
        ) from error


def seeded_generator(seed: int | None) -> torch.Generator:
    """A random generator on the CPU, so that a seed gives the same tokens on every device."""
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def token_budget(
    name: str,
    max_tokens: int | None,
    default: int,
    *,
    context: int,
    n_input: int,
    is_encoder_decoder: bool = False,
) -> int:
    """The most tokens that may be written.

    Args:
        name: The name of the model, for messages.
        max_tokens: What the caller asked for.
        default: The limit without `max_tokens`.
        context: The context length of the model, in tokens.
        n_input: The tokens of the prompt and the input.
        is_encoder_decoder: Whether the input is read by an encoder and takes no part of the decoder's context.

    Raises:
        InvalidInput: The input does not fit into the context, or `max_tokens` does not.
    """
    if n_input >= context:
        raise InvalidInput(
            f"the prompt and the input have {n_input} tokens, and {name!r} takes {context}: shorten the prompt"
        )
    room = context - (1 if is_encoder_decoder else n_input)
    if max_tokens is not None and max_tokens > room:
        raise InvalidInput(
            f"max_tokens={max_tokens} does not fit: {name!r} takes {context} tokens and the input has {n_input}, so at "
            f"most {room} can be written"
        )
    return min(max_tokens or default, room)
