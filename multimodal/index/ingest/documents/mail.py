"""E-mail messages (.eml): the headers that people read, the body, and the attachments."""

from __future__ import annotations

import email
import email.policy
import mimetypes
from collections.abc import Iterator
from email.message import Message
from typing import NamedTuple

from multimodal.core.errors import MediaCorrupt
from multimodal.core.limits import get_limits
from multimodal.core.media import sniff
from multimodal.index.ingest.documents.markup import decode_html, text_of_html
from multimodal.index.ingest.documents.part import Part, ReadOptions, Source
from multimodal.index.ingest.documents.text import decode, too_large

HEADERS = ("Subject", "From", "To", "Cc", "Date")
MAX_PARTS = 10_000


class Attachment(NamedTuple):
    """A file in a message."""

    name: str
    content: bytes


def read_eml(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of a message: headers, body, and the names of its attachments. Raises MediaError."""
    message, name = _open(source)
    lines = [f"{header}: {value}" for header in HEADERS if (value := _header(message, header))]
    body = _body(message)
    names = [_filename(part) for part in _attached(message)]
    text = "\n\n".join(
        filter(None, ["\n".join(lines), body, "\n".join(f"Attachment: {name}" for name in names)])
    )
    if len(text) > options.max_text_bytes:
        raise too_large(name, options.max_text_bytes)
    yield Part(text)


def attachments(source: Source) -> Iterator[Attachment]:
    """Yields the attachments of a message, each under a name of its own. Raises MediaError."""
    message, _ = _open(source)
    names: set[str] = set()
    for part in _attached(message):
        content = part.get_payload(decode=True)
        if part.get_content_type() == "message/rfc822":
            content = b"".join(bytes(inner) for inner in part.get_payload() if isinstance(inner, Message))
        name = _filename(part)
        number = 1
        while name in names:
            number += 1
            name = f"{number}-{_filename(part)}"
        names.add(name)
        if isinstance(content, bytes):
            yield Attachment(name, content)


def _open(source: Source) -> tuple[Message, str]:
    with sniff.open_source(source) as (file, name):
        get_limits().check_bytes(file.seek(0, 2), name)
        file.seek(0)
        message = email.message_from_binary_file(file, policy=email.policy.default)
    if not message.keys():
        raise MediaCorrupt(f"{name}: has no header of an e-mail; save the message again")
    return message, name


def _header(message: Message, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (
        ValueError,
        LookupError,
        AttributeError,
        IndexError,
        TypeError,
    ):  # malformed; the body is what counts
        return ""


def _parts(message: Message) -> Iterator[Message]:
    """The parts of a message, without those of messages attached to it."""
    stack = [message]
    for _ in range(MAX_PARTS):
        if not stack:
            return
        part = stack.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            stack.extend(inner for inner in reversed(payload) if isinstance(inner, Message))
        else:
            yield part


def _is_attached(part: Message) -> bool:
    return bool(
        part.get_content_disposition() == "attachment"
        or part.get_content_type() == "message/rfc822"
        or part.get_content_maintype() not in ("text", "message", "multipart")
    )


def _attached(message: Message) -> Iterator[Message]:
    return (part for part in _parts(message) if _is_attached(part))


def _filename(part: Message) -> str:
    try:
        name = part.get_filename()
    except (ValueError, LookupError, AttributeError, IndexError, TypeError):
        name = None
    if not name:
        kind = part.get_content_type()
        suffix = ".eml" if kind == "message/rfc822" else mimetypes.guess_extension(kind) or ".bin"
        name = f"attachment{suffix}"
    return name.replace("\\", "/").rpartition("/")[2] or "attachment"


def _body(message: Message) -> str:
    """The plain text, or else the text of the HTML."""
    shown = [part for part in _parts(message) if not _is_attached(part)]
    plain = [_text(part) for part in shown if part.get_content_type() == "text/plain"]
    if any(text.strip() for text in plain):
        return "\n\n".join(plain)
    pages = [part for part in shown if part.get_content_type() == "text/html"]
    return "\n\n".join(text_of_html(_text(part)) for part in pages)


def _text(part: Message) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    charset = part.get_content_charset()
    try:
        return content.decode(charset or "utf-8")
    except (LookupError, UnicodeError):
        decoded = decode(content)
        return decode_html(content) if decoded is None else decoded.text
