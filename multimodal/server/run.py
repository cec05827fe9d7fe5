"""Runs the application under uvicorn: sockets, signals, and a stop that finishes what was accepted."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from multimodal.core.errors import InvalidInput
from multimodal.core.limits import get_limits, set_limits
from multimodal.server.app import create_app
from multimodal.server.config import ServerConfig
from multimodal.server.http.protocol import protocol_class

BACKLOG = 2048
OTHER_FILES = 2048  # that may be open beside connections: those of models and indexes
KEEP_ALIVE_S = 30


class Server(uvicorn.Server):
    """A server that exits with status 0 after SIGTERM or SIGINT, once running requests are finished.

    Args:
        config: What is served.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.app = create_app(config)
        super().__init__(
            uvicorn.Config(
                self.app,
                host=config.host,
                port=config.port,
                http=protocol_class(config.ceilings),
                loop="uvloop" if sys.platform != "win32" else "asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(config.ceilings.drain_s),
                h11_max_incomplete_event_size=None,
                proxy_headers=False,
                backlog=BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stops at SIGTERM and SIGINT; unlike uvicorn's, does not raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Refuses new requests; a second SIGINT stops at once."""
        self.app.state.stop_accepting()
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InvalidInput if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)  # clients may connect as soon as the address is printed
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"cannot listen at {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    return listening


def serve(config: ServerConfig, announce: Callable[[str], None] = lambda url: None) -> int:
    """Serves until SIGTERM or SIGINT. Sets the limits on media of this process to the ceilings.

    Args:
        config: What is served.
        announce: Called with the address as soon as it accepts connections; the models may still be loading.

    Returns:
        The exit code: 0 after a signal, 1 if the models could not be loaded.
    """
    ceilings = config.ceilings
    set_limits(
        dataclasses.replace(get_limits(), max_pixels=ceilings.pixels, max_seconds=ceilings.media_seconds)
    )
    _allow_open_files(ceilings.connections + OTHER_FILES)
    listening = bind(config.host, config.port)
    server = Server(config)
    server.app.on_failure = lambda: setattr(server, "should_exit", True)
    host, port = listening.getsockname()[:2]
    announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    with listening:
        server.run([listening])
    return 0 if server.app.state.failure is None else 1


def _allow_open_files(n: int) -> None:
    """Raises the limit on open files of this process to n, as far as the system lets it; often it is 1,024."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
