"""Answers that a language model writes: budget, request, draft, and the checks that make an answer of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

from multimodal.core.errors import AnswerError, InvalidInput, TruncatedPromptWarning
from multimodal.index import Hit
from multimodal.pipelines.answering import citations, prompt
from multimodal.pipelines.answering.guard import Guard
from multimodal.pipelines.answering.interface import (
    AnsweringBackend,
    ContextOverflow,
    Draft,
    PreparedSource,
    Request,
)
from multimodal.pipelines.answering.options import AnsweringOptions, Question
from multimodal.pipelines.answering.quoting import FILTERED, NOT_FOUND, QUESTION_FILTERED
from multimodal.pipelines.answering.result import Answer, AnswerPart, Dropped, Reason
from multimodal.pipelines.answering.retrieval import Retrieved, as_hits
from multimodal.pipelines.answering.safety import Moderate
from multimodal.pipelines.answering.sources import SourceWriter

LEAKED = "The answer was withheld: it repeated the instructions of the model."
MAX_CHARS_PER_TOKEN = 24  # of an answer: more means that a server ignores max_tokens
THINKING = ("<think>", "</think>")
TAIL_CHARS = 1_000  # of the words before a part, which the guard looks at again
TOKEN_CHARS = 5  # characters of English per token, at most; to notice a prompt that was cut
CUT_SHARE = 0.5  # of the tokens expected at least, below which the prompt was cut
MIN_NOTICED_TOKENS = 200


@dataclass(frozen=True)
class Writer:
    """Lets a model answer.

    Attributes:
        backend: The model.
        sources: Writes what was found into the prompt.
        moderate: The moderation of questions and drafts; None for none.
    """

    backend: AnsweringBackend
    sources: SourceWriter
    moderate: Moderate | None = None

    def parts(
        self, question: Question, retrieved: Retrieved, options: AnsweringOptions, *, stream: bool
    ) -> Iterator[AnswerPart]:
        """Yields the words as they come, unless they are moderated first, and the answer in the last part."""
        answer = Answer(question.text, "", hits=as_hits(retrieved), model=self.backend.name)
        if self.moderate is not None and self.moderate(question.text):
            yield _last(replace(answer, text=QUESTION_FILTERED, refused=True, reason="filter"))
            return
        hits = retrieved.relevant(options.k)
        if not hits:
            yield _last(replace(answer, text=NOT_FOUND, refused=True, reason="not found"))
            return
        prepared, unreadable = self.sources.prepare(hits)
        request = self._request(question, prepared, options)
        request, left_out = fit(self.backend, request, options.context_tokens)
        dropped = [*unreadable, *left_out]
        drafts: list[Draft] = []
        try:
            yield from self._words(request, drafts, stream=stream)
        except ContextOverflow as error:
            request, more = halve(request, error)
            dropped += more
            try:
                yield from self._words(request, drafts, stream=stream)
            except ContextOverflow as again:
                raise AnswerError(
                    f"{self.backend.name!r} refuses the prompt as too long, also with half of the sources: lower "
                    "context_tokens= or k="
                ) from again
        notice_cut_prompt(self.backend.name, request, drafts[-1])
        finished = self._finished(answer, request, drafts[-1], dropped)
        yield AnswerPart("", finished) if stream and self.moderate is None else _last(finished)

    def _request(
        self, question: Question, prepared: list[PreparedSource], options: AnsweringOptions
    ) -> Request:
        attached = [part for item in question.attachments for part in self.sources.attachment(item)]
        return Request(
            prompt.system_prompt(options.instructions),
            options.examples,
            tuple(prepared),
            (*attached, self.sources.question(question.text)),
            prompt.new_tag(),
            options.max_tokens,
        )

    def _words(self, request: Request, drafts: list[Draft], *, stream: bool) -> Iterator[AnswerPart]:
        """Yields the words of a draft and appends the draft."""
        if not stream:
            draft = self.backend.complete(request)
            if draft.finish == "cut":
                raise AnswerError(
                    f"{self.backend.name!r} ended its answer without saying why it stopped ({draft.text!r:.60}): ask "
                    "again, or stream the answer to keep what there is"
                )
            drafts.append(draft)
            return
        guard = Guard(request.system, request.tag)
        text, n_shown = "", 0
        for part in self.backend.stream(request):
            if isinstance(part, Draft):
                drafts.append(part)
                return
            text += part
            if guard.leaks(text[-TAIL_CHARS - len(part) :]):
                drafts.append(Draft(text, "filter"))
                return
            if len(text) > MAX_CHARS_PER_TOKEN * request.max_tokens:
                drafts.append(Draft(text, "length"))
                return
            shown = without_thinking(text)
            if self.moderate is None and len(shown) > n_shown:
                yield AnswerPart(shown[n_shown:])
            n_shown = len(shown)
        drafts.append(Draft(text, "cut"))

    def _finished(self, answer: Answer, request: Request, draft: Draft, dropped: list[Hit]) -> Answer:
        """The checked answer."""
        draft = draft if draft.citations else replace(draft, text=without_thinking(draft.text))
        sent = tuple(source.sent for source in request.sources)
        answer = replace(
            answer, sent=sent, usage=draft.usage, complete=draft.finish not in ("length", "cut"),
            dropped=Dropped(tuple(dropped)),
        )  # fmt: skip
        if Guard(request.system, request.tag).leaks(draft.text):
            return _refused(answer, LEAKED, "filter")
        if draft.finish == "filter":
            return _refused(answer, draft.text or FILTERED, "filter")
        if draft.finish == "refusal":
            return _refused(answer, draft.text or "The model declined to answer.", "model")
        if self.moderate is not None and self.moderate(draft.text):
            return _refused(answer, FILTERED, "filter")
        if draft.text.strip().strip(".*_`\"'").upper().startswith(prompt.NOT_FOUND_WORD):
            return _refused(answer, NOT_FOUND, "not found")
        if not draft.text.strip():
            raise AnswerError(
                f"{self.backend.name!r} returned an empty answer: raise max_tokens=, or ask again"
            )
        checked = citations.check(draft.text, sent, draft.citations)
        return replace(
            answer,
            text=checked.text,
            citations=checked.citations,
            dropped=Dropped(tuple(dropped), checked.n_citations, checked.n_quotes),
        )


def fit(backend: AnsweringBackend, request: Request, context_tokens: int) -> tuple[Request, list[Hit]]:
    """The request with as many sources as fit, and the hits that were left out, the lowest first to go.

    Raises:
        InvalidInput: Not even the best source fits.
    """
    limit = context_tokens
    if backend.window is not None:
        limit = min(limit, backend.window - request.max_tokens)
    n = _n_fitting(backend, request, limit)
    if n == 0 and request.sources:
        raise InvalidInput(
            f"the prompt of {backend.name!r} may have {limit} tokens, in which the best source does not fit: raise "
            "context_tokens=, lower max_tokens=, or index the documents in smaller chunks"
        )
    left_out = [source.sent.hit for source in request.sources[n:]]
    return replace(request, sources=request.sources[:n]), left_out


def _n_fitting(backend: AnsweringBackend, request: Request, limit: int) -> int:
    """How many of the sources fit, from the best on. A server is asked only where the estimate is too high."""
    n = len(request.sources)
    exact = backend.count_tokens(request) if backend.counts_locally else None
    if exact is not None:
        while n and exact > limit:
            n -= 1
            exact = backend.count_tokens(replace(request, sources=request.sources[:n])) or 0
        return n if exact <= limit else 0
    estimates = [prompt.estimate_source(source) for source in request.sources]
    total = prompt.estimate_frame(request) + sum(estimates)
    scale = 1.0
    if total > limit and (counted := backend.count_tokens(request)) is not None:
        scale = counted / total
    while n and scale * total > limit:
        n -= 1
        total -= estimates[n]
    return n


def without_thinking(text: str) -> str:
    """The text without the considerations that some models write before their answer; "" while they do."""
    start = text.lstrip()
    if not start.startswith(THINKING[0]):
        return "" if THINKING[0].startswith(start) else text
    return start.partition(THINKING[1])[2].lstrip()


def halve(request: Request, error: Exception) -> tuple[Request, list[Hit]]:
    """The request with the better half of its sources, after a server found it too long. Raises AnswerError."""
    n = len(request.sources) // 2
    if n == 0:
        raise AnswerError(f"the server refuses the prompt as too long: {error}") from error
    left_out = [source.sent.hit for source in request.sources[n:]]
    return replace(request, sources=request.sources[:n]), left_out


def notice_cut_prompt(name: str, request: Request, draft: Draft) -> None:
    """Warns if a server counted far fewer tokens than the words of the prompt have at least."""
    if draft.usage is None or draft.usage.input_tokens <= 0:
        return
    parts = [part.text for source in request.sources for part in source.parts]
    least = sum(map(len, [request.system, *parts])) / TOKEN_CHARS
    if least > MIN_NOTICED_TOKENS and draft.usage.input_tokens < CUT_SHARE * least:
        warnings.warn(
            f"{name!r} counted {draft.usage.input_tokens} tokens in a prompt of at least {least:.0f}: its server cuts "
            "prompts silently. Enlarge its context (Ollama: num_ctx), or lower context_tokens=",
            TruncatedPromptWarning,
            stacklevel=2,
        )


def _refused(answer: Answer, text: str, reason: Reason) -> Answer:
    return replace(answer, text=text, refused=True, reason=reason)


def _last(answer: Answer) -> AnswerPart:
    """The only part of an answer of which nothing was shown before."""
    return AnswerPart(answer.text, answer)
