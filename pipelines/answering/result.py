"""Results of answering: the answer, its citations, and what was sent to the model. Frozen, and ready for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from multimodal.index import Hit, Hits
from multimodal.pipelines.answering.labels import source_label

Reason = Literal["", "not found", "model", "filter"]
Form = Literal["text", "image", "audio", "caption", "transcript"]


@dataclass(frozen=True)
class Citation:
    """A part of an answer and the source that it is from.

    Attributes:
        hit: The source.
        quote: The words of the source, exactly as they stand there; "" for a citation without a quotation.
        start: Start of the part of `Answer.text` that the source supports, in characters.
        end: End of that part.
        verified: True if `quote` was found in the text of the source. False for a citation without a quotation, and
            for an image or audio, which have no text to compare: only its number was checked.
        number: The number of the source in the answer's text and in `Answer.sent`.
    """

    hit: Hit
    quote: str
    start: int
    end: int
    verified: bool
    number: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Converts the citation to plain values.

        Returns:
            {"number", "hit", "quote", "start", "end", "verified"}, ready for JSON.
        """
        values = {"quote": self.quote, "start": self.start, "end": self.end, "verified": self.verified}
        return {"number": self.number, "hit": self.hit.to_dict()} | values

    def __str__(self) -> str:
        return f"[{self.number}] {source_label(self.hit)}"


@dataclass(frozen=True)
class Sent:
    """A source as the model received it.

    Attributes:
        number: Its number in the prompt.
        hit: The source.
        form: "text", "image" or "audio"; "caption" or "transcript" if the model takes no such media, so that words
            were sent in their place.
        text: The words that were sent; "" for an image or audio.
    """

    number: int
    hit: Hit
    form: Form
    text: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Converts the source to plain values.

        Returns:
            {"number", "hit", "form", "text"}, ready for JSON.
        """
        return {"number": self.number, "hit": self.hit.to_dict(), "form": self.form, "text": self.text}


@dataclass(frozen=True)
class Dropped:
    """What was left out or removed. False if nothing was.

    Attributes:
        hits: Found, but not sent: they did not fit into the token budget, or could not be read.
        citations: Number of citations removed: of sources that were not sent, or of quotations that the source does
            not contain.
        quotes: Number of quotations that the cited source does not contain; their quotation marks were removed.
    """

    hits: tuple[Hit, ...] = ()
    citations: int = 0
    quotes: int = 0

    def __bool__(self) -> bool:
        return bool(self.hits or self.citations or self.quotes)

    def to_dict(self) -> dict[str, Any]:
        """Converts the counts to plain values.

        Returns:
            {"hits", "citations", "quotes"}, ready for JSON.
        """
        hits = [hit.to_dict() for hit in self.hits]
        return {"hits": hits, "citations": self.citations, "quotes": self.quotes}


@dataclass(frozen=True)
class Usage:
    """Tokens that the model reports.

    Attributes:
        input_tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer.
    """

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: The question in words; for a spoken one its transcription.
        text: The answer; if refused, why, or what the model said instead.
        citations: The sources of the answer, in the order of the text. Each was sent to the model, and each quotation
            stands in its source.
        refused: True if there is no answer.
        reason: Why there is none: "not found" (no source answers the question), "model" (the model declined) or
            "filter" (the moderation hook, the provider's filter, or the guard of the system prompt).
        complete: False if the answer was cut: by `max_tokens`, or because the stream ended early.
        usage: Tokens by the model's report; None if it reports none.
        sent: The sources as the model received them.
        dropped: What was left out or removed.
        hits: Everything the search found, best first.
        model: The model that answered; "extractive" for quotations.
    """

    question: str
    text: str
    citations: tuple[Citation, ...] = ()
    refused: bool = False
    reason: Reason = ""
    complete: bool = True
    usage: Usage | None = None
    sent: tuple[Sent, ...] = ()
    dropped: Dropped = field(default_factory=Dropped)
    hits: Hits = field(default_factory=Hits, repr=False, hash=False)
    model: str = "extractive"

    @property
    def verified(self) -> bool:
        """Whether at least one citation is left after checking."""
        return bool(self.citations)

    def to_dict(self) -> dict[str, Any]:
        """Converts the answer to plain values.

        Returns:
            All fields and `verified`, ready for JSON.
        """
        return {
            "question": self.question,
            "text": self.text,
            "citations": [citation.to_dict() for citation in self.citations],
            "verified": self.verified,
            "refused": self.refused,
            "reason": self.reason,
            "complete": self.complete,
            "usage": None if self.usage is None else asdict(self.usage),
            "sent": [source.to_dict() for source in self.sent],
            "dropped": self.dropped.to_dict(),
            "hits": [hit.to_dict() for hit in self.hits],
            "model": self.model,
        }

    def __str__(self) -> str:
        lines = [self.text + ("" if self.complete else " […]")]
        lines += list(dict.fromkeys(map(str, self.citations)))
        if not self.refused and not self.verified:
            lines.append("(not verified: no citation of a source)")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from multimodal.pipelines.answering.html import answer_html

        return answer_html(self)


@dataclass(frozen=True)
class AnswerPart:
    """A part of an answer that is still being written.

    Attributes:
        text: The words that were added. They are unchecked: citations are checked when the answer ends.
        answer: The checked answer, in the last part; None before.
    """

    text: str
    answer: Answer | None = None
