"""Fetches media from the hosts that the operator allowed, and from nowhere else.

An allowed name may resolve, or redirect, to an address of the local network. Therefore every hop is checked: its host
must be allowed, all of its addresses must be public, and the connection is made to the address that was checked.
Proxies of the environment are not used, and nothing is decompressed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from multimodal.server.errors import ApiError, invalid

MAX_HOPS = 4
TIMEOUT_S = 5.0
TOTAL_S = 20.0
CHUNK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name. Raises OSError."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet, and not to this machine, its network or a special range."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    if mapped is not None:
        parsed = mapped
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class Fetcher:
    """Fetches from allowed hosts.

    Args:
        hosts: Their names, in lower case; none refuses every URL.
        max_bytes: The largest answer.
        resolve: Looks up a host; for tests.
        is_allowed: Whether a connection to an address may be made; for tests.
        ports: The port of each scheme; for tests.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        max_bytes: int,
        resolve: Resolve = resolve,
        is_allowed: Callable[[str], bool] = is_public,
        ports: Mapping[str, int] = PORTS,
    ) -> None:
        self._hosts = {host.lower() for host in hosts}
        self._ports = ports
        self._max_bytes, self._resolve, self._is_allowed = max_bytes, resolve, is_allowed

    def fetch(self, url: str, param: str) -> bytes:
        """The bytes at a URL. Blocks; call it in a thread.

        Args:
            url: An http or https URL.
            param: The field of the request, for messages.

        Raises:
            ApiError: 400 for what is not allowed or cannot be fetched, 413 for a large answer.
        """
        end = time.monotonic() + TOTAL_S
        for _ in range(MAX_HOPS):
            parts = self._check(url, param)
            try:
                answer = self._get(parts, self._address(parts, param), end, param)
            except (OSError, http.client.HTTPException):
                raise invalid(f"{param}: the URL cannot be fetched", param, "fetch_failed") from None
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise invalid(f"{param}: the URL redirects more than {MAX_HOPS} times", param, "fetch_failed")

    def _check(self, url: str, param: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise invalid(f"{param} is no valid URL", param) from None
        host = (parts.hostname or "").lower()
        if host not in self._hosts:
            allowed = ", ".join(sorted(self._hosts)) or "none"
            raise invalid(
                f"{param}: this server does not fetch from that host (allowed: {allowed}); send the media as a data "
                "URI, or allow the host with --allow-urls",
                param, "url_not_allowed",
            )  # fmt: skip
        if (
            parts.scheme not in self._ports
            or port not in (None, self._ports[parts.scheme])
            or parts.username is not None
        ):
            raise invalid(f"{param}: only http and https URLs on their own ports are fetched", param,
                          "url_not_allowed")  # fmt: skip
        return parts

    def _address(self, parts: SplitResult, param: str) -> str:
        addresses = self._resolve(parts.hostname or "", self._ports[parts.scheme])
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise invalid(f"{param}: the host has an address that is not public", param, "url_not_allowed")
        return addresses[0]

    def _get(self, parts: SplitResult, address: str, end: float, param: str) -> bytes | str:
        """The content, or the target of a redirect."""
        host, port = parts.hostname or "", self._ports[parts.scheme]
        connection = _Pinned(host, port, address, is_tls=parts.scheme == "https")
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "multimodal"}
            )
            with connection.getresponse() as response:
                if response.status in REDIRECTS:
                    return response.headers.get("location", "")
                if response.status != 200:
                    raise invalid(
                        f"{param}: the URL answered with status {response.status}", param, "fetch_failed"
                    )
                if response.headers.get("content-encoding", "identity").lower() != "identity":
                    raise invalid(f"{param}: the URL answered with compressed content", param, "fetch_failed")
                return self._read(response, end, param)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, end: float, param: str) -> bytes:
        content = bytearray()
        while chunk := response.read1(CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_bytes:
                raise ApiError(
                    413, f"{param}: the URL answered with more than {self._max_bytes:,} bytes", param=param
                )
            if time.monotonic() > end:
                raise invalid(f"{param}: the URL took longer than {TOTAL_S:g} seconds", param, "fetch_failed")
        return bytes(content)


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, under the name that it was looked up by."""

    def __init__(self, host: str, port: int, address: str, *, is_tls: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._address, self._is_tls = address, is_tls

    def connect(self) -> None:
        """Connects to the address, and checks the certificate against the name."""
        connected: Any = socket.create_connection((self._address, self.port), TIMEOUT_S)
        if self._is_tls:
            connected = ssl.create_default_context().wrap_socket(connected, server_hostname=self.host)
        self.sock = connected
