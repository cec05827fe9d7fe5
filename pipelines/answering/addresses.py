"""Addresses of language models: which protocol, which server, which model, and the key from the environment.

A key is never an argument and never part of an address, so that it does not end up in code, logs or a shell's history.
Plain http is for this machine only.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from multimodal.core.errors import InvalidInput

Protocol = Literal["openai", "anthropic"]
COMPATIBLE_KEY = "MULTIMODAL_ANSWER_KEY"
KEYS: dict[Protocol, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
}
BASE_URLS: dict[Protocol, tuple[str, str]] = {  # the variable that overrides it, and the default
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
}
EXAMPLE = "http://localhost:8080/v1#llama"


@dataclass(frozen=True)
class RemoteModel:
    """A model behind a server.

    Attributes:
        name: The address as given.
        protocol: Which API the server speaks.
        model: The name of the model on the server.
        base_url: Of the server.
        is_official: Whether the server is the protocol's own, and not merely compatible.
    """

    name: str
    protocol: Protocol
    model: str
    base_url: str
    is_official: bool

    @property
    def host(self) -> str:
        """The host, for messages."""
        return urlsplit(self.base_url).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    def key(self) -> str:
        """The key from the environment; "none" for a compatible server without one. Raises InvalidInput."""
        names = KEYS[self.protocol] if self.is_official else (COMPATIBLE_KEY,)
        value = next((os.environ[name] for name in names if os.environ.get(name)), None)
        if value is None and self.is_official:
            raise InvalidInput(
                f"{self.name!r} needs a key: set the environment variable {names[0]}. Nothing was sent"
            )
        return value or "none"


def is_remote(name: str) -> bool:
    """Whether a name is the address of a model behind a server."""
    return name.startswith(("openai/", "anthropic/", "http://", "https://"))


def parse_address(name: str) -> RemoteModel:
    """A remote model by its address: "openai/<model>", "anthropic/<model>" or "http://localhost:8080/v1#<model>".

    Raises:
        InvalidInput: The address has no model or holds a password, or is plain http to another machine.
    """
    if not name.startswith(("http://", "https://")):
        protocol, _, model = name.partition("/")
        kind: Protocol = "anthropic" if protocol == "anthropic" else "openai"
        if not model:
            raise InvalidInput(f"{name!r} names no model; write '{kind}/<model>'")
        variable, default = BASE_URLS[kind]
        base_url = os.environ.get(variable) or default
        _check_url(base_url, variable if base_url != default else name)
        return RemoteModel(name, kind, model, base_url, True)
    base_url, _, model = name.partition("#")
    if not model:
        raise InvalidInput(f"{name!r} names no model; write it after '#', as in {EXAMPLE!r}")
    _check_url(base_url, name)
    return RemoteModel(name, "openai", model, base_url, False)


def refuse_offline(remote: RemoteModel) -> None:
    """Raises InvalidInput, before anything is opened."""
    raise InvalidInput(
        f"offline=True, and {remote.name!r} is answered by {remote.host}: leave out offline=True, or choose "
        "'extractive' or 'hf/./folder'"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is of this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_url(url: str, name: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(
            f"{name!r} is not the address of a server ({error}); write it as {EXAMPLE!r}"
        ) from None
    if parts.username or parts.password:
        raise InvalidInput(f"an address holds no password: set {COMPATIBLE_KEY} in the environment instead")
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise InvalidInput(f"{name!r} is not the address of a server; write it as {EXAMPLE!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidInput(
            f"{name!r} would send questions and sources to {host} unencrypted: write https://, or "
            "tunnel it to localhost"
        )
