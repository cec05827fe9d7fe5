"""Settings of the server, and the ceilings that a request must stay below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.remote.path import GivenPath

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Ceilings:
    """The largest request accepted. All are checked before anything is tokenised or decoded.

    Attributes:
        body_bytes: Of a request body.
        bodies_bytes: Of all bodies in memory at once.
        text_chars: Of one text.
        texts: Texts in one request.
        media: Images, audio and videos in one request.
        pixels: Of one image, or of one frame of a video.
        media_seconds: Of one audio or video.
        labels: Labels of a classification.
        hits: `k` and `limit` of a search or a list.
        offset: Hits or items that paging may skip.
        header_s: Seconds until the headers of a request must be complete.
        body_s: Seconds until its body must be complete.
        read_s: Seconds in which a client must read 32 kB of a response that waits for it.
        unread_bytes: Of all responses that wait for their clients; beyond it, that of the slowest is given up.
        connections: Open connections; the one that waits longest for its first request is closed beyond it.
        drain_s: Seconds that running requests have left after SIGTERM.
    """

    body_bytes: int = 32 << 20
    bodies_bytes: int = 256 << 20
    text_chars: int = 100_000
    texts: int = 2048
    media: int = 64
    pixels: int = 50_000_000
    media_seconds: float = 3600.0
    labels: int = 2048
    hits: int = 1000
    offset: int = 100_000
    header_s: float = 10.0
    body_s: float = 60.0
    read_s: float = 30.0
    unread_bytes: int = 256 << 20
    connections: int = 1000
    drain_s: float = 30.0


@dataclass(frozen=True)
class Batching:
    """How items of concurrent requests are put into batches; see `batching`.

    Attributes:
        items: The most items of a batch.
        tokens: The most padded tokens of a batch of texts.
        pixels: The most pixels of a batch of images, which bounds the memory of its decoded images.
        seconds: The most seconds of a batch of audio or video.
        capacity: Waiting items of a lane from which on requests get a 429.
    """

    items: int = 64
    tokens: int = 16_384
    pixels: int = 64_000_000
    seconds: float = 600.0
    capacity: int = 1024


@dataclass(frozen=True)
class ServerConfig:
    """What is served, and who may use it.

    Attributes:
        indexes: Folders of indexes, or their addresses on an object store. The name of an index is the stem of its
            folder; the first is the default.
        spaces: Names of models, as `multimodal.load` takes them. The first of these, or that of the first index, is
            the default model.
        host: The address to listen at.
        port: The port; 0 for any free one.
        api_keys: Keys of which a request must present one. Required for an address other than loopback.
        no_auth: Accept requests without a key at any address.
        write: Allow uploads and deletions.
        allow_urls: Hosts from which media given by URL may be fetched; none by default.
        allow_hosts: Host names, beside loopback and `host`, that a request may name in its `Host` header.
        cors: Origins whose pages may call the server; none by default.
        aliases: Further names of models: {"text-embedding-3-small": "starter"}.
        task_models: Further models by task ("captioning", "transcription", "generation"), such as
            {"transcription": ("hf/openai/whisper-tiny",)}. The first of a task is its default. That of "answering"
            answers for the model "index:NAME"; "extractive" by default.
        load_options: Options of `multimodal.load`, such as {"device": "cuda"}. An `adapter` of a decoder goes to
            `task_models`, any other to the spaces.
        uploads: Folder for uploaded files. Default: beside the index, named after it.
        log_requests: Log every request, rather than only those that failed or were slow.
        telemetry: Trace requests with OpenTelemetry.
        ceilings: The largest request accepted.
        batching: How items are batched.
        preloaded: Spaces that are loaded already, by name.

    Raises:
        InvalidInput: The settings do not go together.
    """

    indexes: tuple[GivenPath, ...] = ()
    spaces: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7997
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    no_auth: bool = False
    write: bool = False
    allow_urls: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    task_models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    load_options: Mapping[str, Any] = field(default_factory=dict)
    uploads: Path | None = None
    log_requests: bool = False
    telemetry: bool = False
    ceilings: Ceilings = field(default_factory=Ceilings)
    batching: Batching = field(default_factory=Batching)
    preloaded: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.api_keys and not self.no_auth:
            raise InvalidInput(
                f"host {self.host!r} can be reached by others, and no key is set: give --api-key, or --no-auth to "
                "let everyone in"
            )
        if self.api_keys and self.no_auth:
            raise InvalidInput("a key and no_auth contradict each other; leave out one of them")
        if any(not key or not key.isascii() or not key.isprintable() for key in self.api_keys):
            raise InvalidInput("an API key must be printable ASCII and not empty")
        if self.write and not self.indexes:
            raise InvalidInput("write needs an index to write to; name one")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK
