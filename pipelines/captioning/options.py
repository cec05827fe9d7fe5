"""What passes between the captioning pipeline and the models behind it: what is asked, what is written, `Caption`."""

from __future__ import annotations

import abc
import base64
import contextlib
import html
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import EncoderError, InvalidInput, MediaCorrupt
from multimodal.core.items import Audio, Image, Item, Video
from multimodal.core.modality import Modality, Waveform

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CaptioningOptions:
    """How to write. prompt: a question or a beginning, or None for the model's usual. beams, max_tokens and
    top_p: None for the model's own. temperature: 0 takes the likeliest; above, words are drawn."""

    prompt: str | None = None
    max_tokens: int | None = None
    beams: int | None = None
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class CaptioningOutput:
    """text; tokens: the numbers of what was written, as the model counts, without its end; mean_log_prob: their mean
    log-probability; ended: whether the model came to an end by itself."""

    text: str
    tokens: tuple[int, ...]
    mean_log_prob: float
    ended: bool


SILENT = 1e-4  # of full scale, -80 dB: below what a microphone hears of a quiet room


class CaptioningBackend(abc.ABC):
    """A model that writes. name: for messages. modalities: of the items it takes. dim: of the vectors it takes, or
    None if it takes none. prompts: whether it can be asked something."""

    name: str
    modalities: tuple[Modality, ...]
    dim: int | None = None
    prompts: bool = True

    @abc.abstractmethod
    def generate(self, items: Sequence[Any], asked: CaptioningOptions) -> list[CaptioningOutput]:
        """Items of its modalities, or vectors (dim,), in one batch -> what is written of each."""

    @abc.abstractmethod
    def to(self, device: torch.device) -> None:
        """Moves the model."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the model is."""


@dataclass(frozen=True)
class Caption:
    """What a model says of one thing.

    score: 0 to 1, the geometric mean of the probabilities of its tokens: how sure the model was of its words, not of
    their truth. n_tokens: how many it wrote. complete: False if max_tokens cut it off. modality: of what was captioned;
    None for a vector. item: what was captioned, to be shown beside it; None for a vector.
    """

    text: str
    score: float
    n_tokens: int
    complete: bool
    modality: Modality | None = None
    item: Item | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"text", "score", "n_tokens", "complete", "modality", "uri"}, ready for JSON."""
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
            f'<figure style="margin:0">{_shown(self.item)}'
            f"<figcaption>{caption} <small>({self.score:.2f})</small></figcaption></figure>"
        )


def make_caption(written: CaptioningOutput, thing: Any) -> Caption:
    item = thing if hasattr(thing, "modality") else None
    score = min(1.0, max(0.0, math.exp(written.mean_log_prob)))
    modality = None if item is None else item.modality
    return Caption(written.text, score, len(written.tokens), written.ended, modality, item)


def _shown(item: Item | None) -> str:
    if isinstance(item, Image):
        return f'<img src="data:image/png;base64,{base64.b64encode(item._repr_png_()).decode()}">'
    if isinstance(item, Audio | Video):
        return item._repr_html_()
    return "" if item is None else item._repr_html_()


def load_audible(item: Any, rate_hz: int | None = None) -> Waveform:
    """The sound of an Audio item. Raises MediaCorrupt for silence: a model would caption what is not there."""
    waveform: Waveform = item.load(rate_hz=rate_hz)
    if float(abs(waveform.samples).max()) < SILENT:
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
    """A CaptioningOptions. Raises InvalidInput for what can never be right."""
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InvalidInput(
            f"prompt must be a question or the beginning of a caption, got {prompt!r}; leave it out for the model's "
            "usual caption"
        )
    most, width = check_positive(max_tokens, "max_tokens"), check_positive(beams, "beams")
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
    heat = float(temperature) if sample else 0.0
    share = None if top_p is None else float(top_p)
    return CaptioningOptions(prompt, most, width, heat, share, _whole(seed))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_positive(value: Any, name: str) -> int | None:
    """A whole number above 0, or None as it is. Raises InvalidInput."""
    if value is None:
        return None
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InvalidInput(f"{name} must be a whole number of at least 1, got {value!r}")
    return number


def _whole(seed: Any) -> int | None:
    if seed is None:
        return None
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise InvalidInput(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return number


@contextlib.contextmanager
def explain_out_of_memory(captioner: CaptioningBackend, count: int) -> Iterator[None]:
    """An error of the device's memory as ours, with what to lower."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate" not in str(error):
            raise
        lower = f"batch_size={max(1, count // 2)}" if count > 1 else "a smaller max_tokens, fewer beams"
        raise EncoderError(
            f"{captioner.name!r} ran out of memory on {captioner.device} with {count} at once: try {lower}, "
            "precision='bfloat16', or another device"
        ) from error


def seeded_generator(seed: int | None) -> torch.Generator:
    """What draws: on the CPU, so that a seed gives the same words on every device; by chance without one."""
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def token_budget(
    name: str, max_tokens: int | None, default: int, *, context: int, n_read: int, apart: bool = False
) -> int:
    """How many tokens may be written. context: how many the model takes; n_read: those of the prompt and of what it is
    about, which take their part of it unless they are read by an encoder (apart). Raises InvalidInput."""
    if n_read >= context:
        raise InvalidInput(
            f"the prompt and what it is about make {n_read} tokens, and {name!r} takes {context}: shorten the prompt"
        )
    room = context - (1 if apart else n_read)
    if max_tokens is not None and max_tokens > room:
        raise InvalidInput(
            f"max_tokens={max_tokens} does not fit: {name!r} takes {context} tokens and {n_read} are read, so at most "
            f"{room} can be written"
        )
    return min(max_tokens or default, room)
