"""GPT, and every server that speaks OpenAI's chat protocol, by the official SDK `openai`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from multimodal.core.modality import Modality
from multimodal.pipelines.answering import prompt
from multimodal.pipelines.answering.addresses import RemoteModel
from multimodal.pipelines.answering.backends.remote import (
    MAX_RETRIES,
    http_client,
    require_sdk,
    translated,
    unusable,
)
from multimodal.pipelines.answering.interface import AnsweringBackend, Draft, Finish, PromptPart, Request
from multimodal.pipelines.answering.result import Usage

FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "filter",
    "tool_calls": "refusal",
}


class OpenAIBackend(AnsweringBackend):
    """A model behind OpenAI's chat protocol.

    Args:
        remote: Its address.
        modalities: What it takes as it is.
        timeout_s: Seconds to wait for a response.
    """

    def __init__(self, remote: RemoteModel, modalities: tuple[Modality, ...], timeout_s: float) -> None:
        require_sdk("openai", remote.name)
        self.name, self.remote, self.modalities = remote.name, remote, modalities
        self._key = remote.key()
        self._client = openai_client(remote, self._key, timeout_s)
        # OpenAI refuses max_tokens for its newer models; other servers ignore max_completion_tokens
        self._limit = "max_completion_tokens" if remote.is_official else "max_tokens"

    def complete(self, request: Request) -> Draft:
        response = self._create(request)
        try:
            choice = response.choices[0]
            message = choice.message
            content, refusal = message.content, getattr(message, "refusal", None)
        except (AttributeError, IndexError, TypeError):
            raise unusable(self.remote, response) from None
        finish: Finish = "cut" if choice.finish_reason is None else FINISHES.get(choice.finish_reason, "stop")
        if refusal:
            content, finish = refusal, "refusal"
        return Draft(content or "", finish, _usage(response.usage))

    def stream(self, request: Request) -> Iterator[str | Draft]:
        text, refusal, finish, usage, n_chunks = "", "", None, None, 0
        chunks = self._create(request, stream=True, stream_options={"include_usage": True})
        try:
            with chunks:
                for chunk in chunks:
                    n_chunks += 1
                    usage = _usage(chunk.usage) or usage
                    for choice in (chunk.choices or [])[:1]:
                        finish = choice.finish_reason or finish
                        refusal += getattr(choice.delta, "refusal", None) or ""
                        if choice.delta is not None and choice.delta.content:
                            text += choice.delta.content
                            yield choice.delta.content
        except Exception as error:
            raise self._translated(error) from error
        if not n_chunks:
            raise unusable(self.remote, "an empty stream")
        reason: Finish = "cut" if finish is None else FINISHES.get(finish, "stop")
        yield Draft(refusal or text, "refusal" if refusal else reason, usage)

    def _create(self, request: Request, **options: Any) -> Any:
        try:
            return self._client.chat.completions.create(
                model=self.remote.model,
                messages=chat_messages(request),
                **{self._limit: request.max_tokens},
                **options,
            )
        except Exception as error:
            other = "max_tokens" if self._limit == "max_completion_tokens" else "max_completion_tokens"
            if (
                getattr(error, "status_code", None) == 400
                and self._limit in str(error)
                and other in str(error)
            ):
                self._limit = other  # the server names the parameter that it wants
                return self._create(request, **options)
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        import openai

        return translated(openai, self.remote, error, self._key)


def openai_client(remote: RemoteModel, key: str, timeout_s: float) -> Any:
    """A client of the SDK. A compatible server learns nothing of the account at OpenAI."""
    import openai

    client = openai.OpenAI(
        api_key=key,
        base_url=remote.base_url,
        timeout=timeout_s,
        max_retries=MAX_RETRIES,
        http_client=http_client(openai, remote, timeout_s),
    )
    if not remote.is_official:
        client.organization = client.project = None
    return client


def chat_messages(request: Request) -> list[dict[str, Any]]:
    """The messages: system, the examples as earlier turns, then the sources and the question."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}]
    for question, answer in request.examples:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    parts = prompt.joined(prompt.user_parts(request))
    only_text = len(parts) == 1 and parts[0].kind == "text"
    content: Any = parts[0].text if only_text else list(map(_content, parts))
    return [*messages, {"role": "user", "content": content}]


def _content(part: PromptPart) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    if part.kind == "image":
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def _usage(usage: Any) -> Usage | None:
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    return None if counts[0] is None else Usage(int(counts[0]), int(counts[1] or 0))
