"""Who may ask: keys, `Host` and `Origin`.

A page of another site that the user has open can send requests to a server on this machine. It cannot change its
`Origin`, and a name it has pointed at 127.0.0.1 shows in `Host`: both are checked on every request.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from multimodal.server.config import LOOPBACK, ServerConfig
from multimodal.server.errors import ApiError
from multimodal.server.web.sessions import Sessions

PORT = re.compile(r":\d{1,5}\Z")
Headers = Mapping[bytes, bytes]


class Guard:
    """The checks of one server."""

    def __init__(self, config: ServerConfig) -> None:
        self._keys = [key.encode() for key in config.api_keys]
        # With a key and an address that others reach, the names by which they reach it are not known.
        self._any_host = not config.is_loopback and not config.allow_hosts
        self._hosts = {*LOOPBACK, config.host, *config.allow_hosts}
        self._origins = frozenset(config.cors)
        self.sessions = Sessions(config)

    def check_host(self, headers: Headers) -> None:
        """Raises ApiError (421) for a foreign `Host`."""
        if self._any_host:
            return
        host = host_name(headers.get(b"host", b""))
        if host not in self._hosts and not is_loopback(host):
            raise ApiError(
                421,
                "the Host header names another server; use 127.0.0.1, or start this one with --allow-host",
            )

    def check_origin(self, headers: Headers) -> str | None:
        """The origin if it may read responses (CORS), else None. Raises ApiError (403) for a foreign one."""
        given = headers.get(b"origin")
        if given is None:
            return None
        origin = given.decode("latin-1")
        if origin in self._origins:
            return origin
        if urlsplit_host(origin) != headers.get(b"host", b"").decode("latin-1").lower():
            raise ApiError(
                403, "a page of another origin may not use this server; allow its origin with --cors"
            )
        return None

    def check_key(self, headers: Headers) -> None:
        """Raises ApiError (401) without one of the keys, or the cookie that the page got for one."""
        if not self._keys or self.sessions.matches(headers):
            return
        given = headers.get(b"authorization", b"")
        token = given[7:].strip() if given[:7].lower() == b"bearer " else headers.get(b"x-api-key", b"")
        # Every key is compared, so that the time tells nothing about which one matched.
        if not sum(hmac.compare_digest(token, key) for key in self._keys):
            raise ApiError(
                401, "a valid API key is required: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
                code="invalid_api_key", headers={"www-authenticate": "Bearer"},
            )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether a host is an address of this machine itself, such as 127.0.1.1, and no name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(host: bytes) -> str:
    """The name in a `Host` header, without its port and brackets."""
    name = PORT.sub("", host.decode("latin-1").lower())
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def urlsplit_host(origin: str) -> str:
    """The host and port of an origin; "" for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def check_content(headers: Headers, expected: str) -> None:
    """Raises ApiError (415) for a compressed body, or one of another type than expected."""
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if encoding not in (b"", b"identity"):
        raise ApiError(415, "the body is compressed; send it without Content-Encoding")
    if expected == "*":
        return
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != expected.encode():
        shown = kind.decode("latin-1")[:60] or "no content type"
        raise ApiError(415, f"the body is {shown}; send Content-Type: {expected}")
