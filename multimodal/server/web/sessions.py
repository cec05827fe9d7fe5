"""Sessions of the web page on a server with a key.

A page shows images and plays audio by their addresses, and these requests carry no header of its own. It therefore
exchanges the key for a cookie that scripts cannot read and other sites cannot send. The cookie is a random token, valid
until the server stops; it does not reveal the key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from multimodal.server.config import ServerConfig
from multimodal.server.errors import ApiError

if TYPE_CHECKING:
    from multimodal.server.state import State


class Sessions:
    """The sessions of one server.

    Args:
        config: The settings of the server.

    Attributes:
        name: Of the cookie. It holds the port, since browsers send a cookie to all ports of a host.
    """

    NAME = "sessions"

    def __init__(self, config: ServerConfig) -> None:
        self.name = f"multimodal-{config.port}"
        self._keys = [key.encode() for key in config.api_keys]
        self._token = secrets.token_urlsafe(32)

    def open(self, key: str) -> str:
        """The value of the cookie.

        Args:
            key: What the user typed.

        Raises:
            ApiError: 401 if it is none of the keys.
        """
        given = key.strip().encode()
        if self._keys and not sum(hmac.compare_digest(given, known) for known in self._keys):
            raise ApiError(401, "this is not a key of the server", param="key", code="invalid_api_key")
        return self._token

    def matches(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request carries the cookie of a session."""
        content = headers.get(b"cookie")
        if content is None:
            return False
        try:
            cookie = SimpleCookie(content.decode("latin-1")).get(self.name)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._token.encode())


def sessions_of(state: State) -> Sessions:
    """The sessions of a server."""
    sessions: Sessions = state.extras[Sessions.NAME]
    return sessions
