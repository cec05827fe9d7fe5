"""A server on this machine that speaks both protocols and says what a test has scripted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG_S = 3.0


class ModelServer:
    """Replies are used in order, the last one for all further requests.

    A reply is a dict: text, finish, refusal, usage, citations, status, body (raw), cut (a stream ends early), hang,
    error_event, redirect.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[dict[str, Any]] = []
        self.replies: list[dict[str, Any]] = []

    def script(self, *replies: dict[str, Any]) -> None:
        """Forgets what was, and replies with these."""
        self.requests.clear()
        self.replies = list(replies)

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request."""
        body: dict[str, Any] = self.requests[-1]["body"]
        return body

    @property
    def user_text(self) -> str:
        """All words of the last message of the last request."""
        content = self.sent["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        texts = []
        for block in content:
            texts += [part["text"] for part in block.get("content", ()) if "text" in part]
            texts += [block["text"]] if "text" in block else []
        return "\n".join(texts)

    def next_reply(self) -> dict[str, Any]:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def running() -> Iterator[ModelServer]:
    """A server in a thread."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server = ModelServer(httpd.server_address[1])
    httpd.model = server  # type: ignore[attr-defined]
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Nothing on stderr."""

    def do_POST(self) -> None:
        server: ModelServer = self.server.model  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
        reply = server.next_reply()
        if self.path.endswith("/count_tokens"):
            self._json(200, {"input_tokens": reply.get("count", 50)})
        elif "hang" in reply:
            time.sleep(HANG_S)
        elif "redirect" in reply:
            self.send_response(307)
            self.send_header("Location", reply["redirect"])
            self.end_headers()
        elif "body" in reply:
            self._send(reply.get("status", 200), reply["body"], reply.get("type", "text/html"))
        elif "flagged" in reply:
            categories = {name: name == reply["flagged"] for name in ("violence", "hate")}
            self._json(200, {"id": "m", "model": "m", "results": [
                {"flagged": bool(reply["flagged"]), "categories": categories, "category_scores": {}}]})  # fmt: skip
        elif reply.get("status", 200) != 200:
            self._json(reply["status"], {"type": "error", "error": reply["error"]})
        elif body.get("stream"):
            events = _openai_events(reply) if "chat" in self.path else _anthropic_events(reply)
            self._send(200, "".join(events), "text/event-stream")
        else:
            self._json(200, _openai(reply) if "chat" in self.path else _anthropic(reply))

    def _json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value), "application/json")

    def _send(self, status: int, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-request-id", "req-7")
        self.send_header("request-id", "req-7")
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)


def _pieces(text: str) -> list[str]:
    return [text[start : start + 7] for start in range(0, len(text), 7)]


def _openai(reply: dict[str, Any]) -> dict[str, Any]:
    if "choices" in reply:
        return {"id": "c", "object": "chat.completion", "choices": reply["choices"]}
    message = {"role": "assistant", "content": reply.get("text"), "refusal": reply.get("refusal")}
    usage = {"prompt_tokens": reply.get("usage", 900), "completion_tokens": 5, "total_tokens": 905}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": reply.get("finish", "stop")}]}  # fmt: skip


def _openai_events(reply: dict[str, Any]) -> Iterator[str]:
    def event(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    yield from (event({"content": piece}) for piece in _pieces(reply.get("text") or ""))
    if reply.get("refusal"):
        yield event({"refusal": reply["refusal"]})
    if "error_event" in reply:
        yield f"data: {json.dumps({'error': {'message': reply['error_event']}})}\n\n"
    if "cut" in reply:
        return
    yield event({}, reply.get("finish", "stop"))
    usage = {"prompt_tokens": reply.get("usage", 900), "completion_tokens": 5, "total_tokens": 905}
    yield f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _citation(index: int, text: str) -> dict[str, Any]:
    return {"type": "search_result_location", "cited_text": text, "source": "s", "title": None,
            "search_result_index": index, "start_block_index": 0, "end_block_index": 1}  # fmt: skip


def _anthropic(reply: dict[str, Any]) -> dict[str, Any]:
    cited = [_citation(*pair) for pair in reply.get("citations", ())]
    content = [] if reply.get("text") is None else [
        {"type": "text", "text": reply["text"], "citations": cited or None}]  # fmt: skip
    return {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": reply.get("finish", "end_turn"), "stop_sequence": None,
            "usage": {"input_tokens": reply.get("usage", 900), "output_tokens": 5}}  # fmt: skip


def _anthropic_events(reply: dict[str, Any]) -> Iterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n"

    usage = {"input_tokens": reply.get("usage", 900), "output_tokens": 1}
    yield event("message_start", message=_anthropic({"usage": reply.get("usage", 900), "finish": None}))
    if reply.get("text") is not None:
        yield event(
            "content_block_start", index=0, content_block={"type": "text", "text": "", "citations": None}
        )
        for piece in _pieces(reply["text"]):
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        for pair in reply.get("citations", ()):
            yield event("content_block_delta", index=0,
                        delta={"type": "citations_delta", "citation": _citation(*pair)})  # fmt: skip
        yield event("content_block_stop", index=0)
    if "error_event" in reply:
        yield event("error", error={"type": "overloaded_error", "message": reply["error_event"]})
        return
    if "cut" in reply:
        return
    yield event("message_delta", delta={"stop_reason": reply.get("finish", "end_turn"), "stop_sequence": None},
                usage=usage)  # fmt: skip
    yield event("message_stop")
