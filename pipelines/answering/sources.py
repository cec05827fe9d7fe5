"""Sources as they can be sent: words as they are, images and audio as such where the model takes them, else as words.

Nothing is left out silently: what cannot be read is reported as dropped, and `Answer.sent` tells the form of the rest.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.core.errors import MediaError, MissingExtra, UnsupportedModality
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media.registry import Excerpt, has_thumbnail, open_excerpt, thumbnail
from multimodal.core.media.thumbnail import encode_image
from multimodal.core.modality import Modality
from multimodal.index import Hit
from multimodal.pipelines.answering.interface import PreparedSource, PromptPart
from multimodal.pipelines.answering.labels import source_label
from multimodal.pipelines.answering.prompt import break_special_tokens
from multimodal.pipelines.answering.result import Form, Sent
from multimodal.pipelines.answering.retrieval import hit_text

IMAGE_SIDE = 1568  # pixels: what the large providers scale images down to
IMAGE_QUALITY = 85
AUDIO_RATE_HZ = 16_000
READ_ERRORS = (MediaError, MissingExtra, OSError)

Describe = Callable[[str, Item], str]  # "captioning" or "transcription", and the item -> words


@dataclass(frozen=True)
class SourceWriter:
    """Turns hits and attachments into parts of a prompt.

    Attributes:
        name: Of the model, for messages.
        modalities: That it takes as they are.
        breaks_tokens: Whether special tokens in texts are broken up.
        special_tokens: Those of the model's tokenizer.
        describe: Words for media that the model does not take.
        items: The item of a hit that is not a file, by its id.
    """

    name: str
    modalities: Sequence[Modality]
    breaks_tokens: bool
    describe: Describe
    items: Mapping[str, Item] = field(default_factory=dict)
    special_tokens: Sequence[str] = ()

    def prepare(self, hits: Sequence[Hit]) -> tuple[list[PreparedSource], list[Hit]]:
        """The sources with their numbers, from 1, and the hits that could not be read."""
        prepared: list[PreparedSource] = []
        unreadable: list[Hit] = []
        for hit in hits:
            try:
                form, text, parts = self._content(hit)
            except READ_ERRORS:
                unreadable.append(hit)
                continue
            number = len(prepared) + 1
            numbered = tuple(PromptPart(part.kind, part.text, part.data, number) for part in parts)
            label = self._safe(source_label(hit))
            prepared.append(PreparedSource(Sent(number, hit, form, text), label, numbered))
        return prepared, unreadable

    def attachment(self, item: Item) -> list[PromptPart]:
        """A medium that belongs to the question. Raises MediaError, UnsupportedModality."""
        form, text, parts = self._media(item)
        if form in ("image", "audio"):
            return parts
        return [
            PromptPart("text", f"The question comes with an {item.modality} ({form}: {self._safe(text)}).")
        ]

    def question(self, words: str) -> PromptPart:
        """The words of the question."""
        return PromptPart("text", self._safe(words))

    def _content(self, hit: Hit) -> tuple[Form, str, list[PromptPart]]:
        """As media if the model takes them, else as the hit's own words, else as words that another model finds."""
        words = hit_text(hit)
        item = None
        if hit.modality is not Modality.TEXT:
            try:
                item = self.items.get(hit.id) or _open(hit)
            except READ_ERRORS:
                if not words:
                    raise
            if item is not None and self._takes(item.modality):
                return self._media(item)
        if words:
            form: Form = "text" if hit.text else "transcript" if hit.modality is Modality.AUDIO else "caption"
            return form, words, [PromptPart("text", self._safe(words))]
        if item is None:
            raise MediaError(f"{hit.id}: neither its file nor its words are at hand")
        return self._media(item)

    def _media(self, item: Item) -> tuple[Form, str, list[PromptPart]]:
        if isinstance(item, Text):
            return "text", item.load(), [PromptPart("text", self._safe(item.load()))]
        if self._takes(item.modality):
            if isinstance(item, Audio):
                return "audio", "", [PromptPart("audio", data=wav_bytes(item))]
            return "image", "", [PromptPart("image", data=jpeg_bytes(item))]
        task = "transcription" if isinstance(item, Audio) else "captioning"
        text = self.describe(task, item)
        if not text.strip():
            raise UnsupportedModality(
                f"{self.name!r} takes no {item.modality}, and no words were found in {item!r}: choose a model that "
                "takes it, or another transcriber= or captioner="
            )
        form: Form = "transcript" if isinstance(item, Audio) else "caption"
        return form, text, [PromptPart("text", self._safe(text))]

    def _takes(self, modality: Modality) -> bool:
        """A video is sent as one of its frames."""
        return (Modality.IMAGE if modality is Modality.VIDEO else modality) in self.modalities

    def _safe(self, text: str) -> str:
        return break_special_tokens(text, self.special_tokens) if self.breaks_tokens else text


def jpeg_bytes(item: Item) -> bytes:
    """An image, or the middle frame of a video, as a JPEG of at most IMAGE_SIDE pixels."""
    if not has_thumbnail(item):
        raise UnsupportedModality(f"{item!r} has no image to send")
    return encode_image(thumbnail(item, IMAGE_SIDE).convert("RGB"), "JPEG", quality=IMAGE_QUALITY)


def wav_bytes(item: Audio) -> bytes:
    """Audio as a WAV file of 16 bits at AUDIO_RATE_HZ."""
    import numpy as np
    import soundfile

    file = io.BytesIO()
    samples = np.clip(item.load(AUDIO_RATE_HZ).samples, -1, 1)
    soundfile.write(file, samples, AUDIO_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def still(item: Item) -> Item:
    """A video as its middle frame, for a model that captions images; other items as they are."""
    if not isinstance(item, Video):
        return item
    return Image(item.load(n_frames=1).frames[0], uri=item.uri)


def _open(hit: Hit) -> Any:
    path = Path(hit.uri) if hit.uri and "\0" not in hit.uri else None
    if path is None or not path.is_file():
        return None
    fragment = hit.id.rpartition("#")[2] if "#" in hit.id else ""
    return open_excerpt(path, Excerpt(hit.modality, hit.start_s, hit.end_s, fragment))
