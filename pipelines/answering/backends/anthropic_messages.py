"""Claude, by the official SDK `anthropic`, with the citations that its API reports itself.

Each source is a `search_result` block whose content is its sentences: a block is the smallest part that can be cited.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from multimodal.core.modality import Modality
from multimodal.pipelines.answering import extractive, prompt
from multimodal.pipelines.answering.addresses import RemoteModel
from multimodal.pipelines.answering.backends.remote import (
    MAX_RETRIES,
    http_client,
    require_sdk,
    translated,
    unusable,
)
from multimodal.pipelines.answering.interface import (
    AnsweringBackend,
    Draft,
    Finish,
    NativeCitation,
    PreparedSource,
    PromptPart,
    Request,
)
from multimodal.pipelines.answering.result import Usage

FINISHES: dict[str, Finish] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "refusal": "refusal", "pause_turn": "cut", "tool_use": "refusal",
}  # fmt: skip


class AnthropicBackend(AnsweringBackend):
    """A Claude model. It takes words and images; audio is transcribed.

    Args:
        remote: Its address.
        modalities: What it takes as it is.
        timeout_s: Seconds to wait for a response.
    """

    def __init__(self, remote: RemoteModel, modalities: tuple[Modality, ...], timeout_s: float) -> None:
        require_sdk("anthropic", remote.name)
        import anthropic

        self.name, self.remote, self.modalities = remote.name, remote, modalities
        self._key = remote.key()
        self._client = anthropic.Anthropic(
            api_key=self._key,
            base_url=remote.base_url,
            timeout=timeout_s,
            max_retries=MAX_RETRIES,
            http_client=http_client(anthropic, remote, timeout_s),
        )

    def complete(self, request: Request) -> Draft:
        response = self._create(request)
        writing = _Writing(request)
        try:
            for number, block in enumerate(response.content):
                writing.open(number, block)
            reason, usage = response.stop_reason, response.usage
        except (AttributeError, TypeError):
            raise unusable(self.remote, response) from None
        return writing.draft(reason, _usage(usage))

    def stream(self, request: Request) -> Iterator[str | Draft]:
        writing, reason, usage, n_events = _Writing(request), None, None, 0
        n_input = 0
        events = self._create(request, stream=True)
        try:
            with events:
                for event in events:
                    n_events += 1
                    if event.type == "message_start":
                        n_input = event.message.usage.input_tokens
                    elif event.type == "content_block_start":
                        yield from filter(None, [writing.open(event.index, event.content_block)])
                    elif event.type == "content_block_delta":
                        yield from filter(None, [writing.add(event.index, event.delta)])
                    elif event.type == "message_delta":
                        reason = event.delta.stop_reason or reason
                        usage = Usage(n_input, event.usage.output_tokens)
        except Exception as error:
            raise self._translated(error) from error
        if not n_events:
            raise unusable(self.remote, "an empty stream")
        yield writing.draft(reason, usage)

    def count_tokens(self, request: Request) -> int | None:
        arguments = _arguments(request)
        del arguments["max_tokens"]
        try:
            counted = self._client.messages.count_tokens(model=self.remote.model, **arguments)
            return int(counted.input_tokens)
        except Exception:  # a server without this endpoint: the estimate has to do
            return None

    def _create(self, request: Request, **options: Any) -> Any:
        try:
            return self._client.messages.create(model=self.remote.model, **_arguments(request), **options)
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        import anthropic

        return translated(anthropic, self.remote, error, self._key)


class _Writing:
    """Collects the text blocks of a message and their citations."""

    def __init__(self, request: Request) -> None:
        # search results are numbered in their own order, without images
        self._numbers = [source.sent.number for source in request.sources if _is_text(source)]
        self.text = ""
        self._starts: dict[int, int] = {}
        self._cited: list[tuple[int, int, str]] = []  # block, number of the source, quotation
        self._ends: dict[int, int] = {}

    def open(self, index: int, block: Any) -> str:
        """A new block, whole or still empty; returns its words."""
        if getattr(block, "type", "") != "text":
            return ""
        self._starts[index] = len(self.text)
        self.text += block.text or ""
        self._ends[index] = len(self.text)
        for citation in block.citations or ():
            self._cite(index, citation)
        return block.text or ""

    def add(self, index: int, delta: Any) -> str:
        """A delta of a block; returns its words."""
        if delta.type == "text_delta":
            self._starts.setdefault(index, len(self.text))
            self.text += delta.text
            self._ends[index] = len(self.text)
            return str(delta.text)
        if delta.type == "citations_delta":
            self._cite(index, delta.citation)
        return ""

    def draft(self, reason: str | None, usage: Usage | None) -> Draft:
        """What was written."""
        finish: Finish = "cut" if reason is None else FINISHES.get(reason, "stop")
        citations = tuple(
            NativeCitation(number, quote, self._starts.get(index, 0), self._ends.get(index, len(self.text)))
            for index, number, quote in self._cited
        )
        return Draft(self.text, finish, usage, citations)

    def _cite(self, index: int, citation: Any) -> None:
        position = getattr(citation, "search_result_index", None)
        is_known = isinstance(position, int) and 0 <= position < len(self._numbers)
        number = self._numbers[position] if is_known else 0  # type: ignore[index]
        self._cited.append((index, number, getattr(citation, "cited_text", "") or ""))


def _arguments(request: Request) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for question, answer in request.examples:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    content: list[dict[str, Any]] = []
    for source in request.sources:
        if _is_text(source):
            content.append(_search_result(source))
        else:
            content += map(_block, prompt.joined(prompt.fence(source, request.tag)))
    content += map(_block, prompt.joined([PromptPart("text", "Question:"), *request.question]))
    messages.append({"role": "user", "content": content})
    return {"system": request.system, "messages": messages, "max_tokens": request.max_tokens}


def _is_text(source: PreparedSource) -> bool:
    return all(part.kind == "text" for part in source.parts)


def _search_result(source: PreparedSource) -> dict[str, Any]:
    text = "\n".join(part.text for part in source.parts)
    spans = extractive.split_sentences(text)
    title = f"[{source.sent.number}] {source.label}"
    return {
        "type": "search_result",
        "source": source.label,
        "title": title if source.sent.form == "text" else f"{title} ({source.sent.form})",
        "content": [{"type": "text", "text": text[start:end]} for start, end in spans],
        "citations": {"enabled": True},
    }


def _block(part: PromptPart) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": data}}


def _usage(usage: Any) -> Usage | None:
    counts = (getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None))
    return None if counts[0] is None else Usage(int(counts[0]), int(counts[1] or 0))
