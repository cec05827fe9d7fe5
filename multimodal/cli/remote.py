"""`--server URL`: commands that ask a running `multimodal serve` instead of loading a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer

from multimodal.core.remote.path import AnyPath

if TYPE_CHECKING:
    from multimodal.client.remote import Client, RemoteIndex, RemoteSpace

SERVER_VARIABLE, KEY_VARIABLE = "MULTIMODAL_SERVER", "MULTIMODAL_API_KEY"
# command -> where it is defined, so that it can be run without importing the others
COMMANDS = {
    "search": "multimodal.cli.indexes.search:search",
    "embed": "multimodal.cli.tasks.embed:embed",
    "classify": "multimodal.cli.tasks.classify:classify",
    "caption": "multimodal.cli.tasks.caption:caption",
    "transcribe": "multimodal.cli.tasks.transcribe:transcribe",
    "generate": "multimodal.cli.tasks.generate:generate",
    "ask": "multimodal.cli.indexes.ask:ask",
}
DEFAULT_SPACE = "starter"
TASK_TIMEOUT_S = 3600.0  # of an answer that a model writes or draws

_url: ContextVar[str | None] = ContextVar("multimodal_server", default=None)
_opened: list[Client] = []  # closed when the command ends


def select(context: typer.Context, url: str | None) -> None:
    """Sets the server of this run. Raises a usage error for a command that cannot use one."""
    if not url:
        return
    if context.invoked_subcommand not in COMMANDS:
        source = context.get_parameter_source("server")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"{context.invoked_subcommand} runs on this machine; {', '.join(COMMANDS)} can use a server",
                param_hint="--server",
            )
        return  # a variable of the environment is for the commands that can use it
    token = _url.set(url)

    def end() -> None:
        _url.reset(token)
        while _opened:
            _opened.pop().close()

    context.call_on_close(end)


def client(load_options: Mapping[str, Any], *, timeout: float = 60.0, **others: Any) -> Client | None:
    """A connection to the selected server; None without one.

    Args:
        load_options: Options of a local model that were given.
        timeout: Seconds to wait for an answer.
        others: Further options that a server does not take; None, False and 0 for those that were not given.

    Raises:
        BadParameter: An option that a server does not take was given.
    """
    url = _url.get()
    if url is None:
        return None
    for name in [*load_options, *(name for name, value in others.items() if value)]:
        raise typer.BadParameter(
            f"--{name.replace('_', '-')} is for a model on this machine, and --server is given; leave out one of them"
        )
    from multimodal.client.remote import connect

    _opened.append(connect(url, os.environ.get(KEY_VARIABLE), timeout=timeout))
    return _opened[-1]


def task_model(name: str | None) -> dict[str, str]:
    """The model of a task as an option of a request; the server's default without a name."""
    return {} if name is None else {"model": name}


def index_of(connected: Client, folder: AnyPath, space: str | None) -> RemoteIndex:
    """The index of a server that a command names by a folder, or by its name there."""
    if space is not None:
        raise typer.BadParameter(
            "the server has chosen the model of the index; leave it out", param_hint="--space"
        )
    return connected.get_index(folder.stem)


def space_of(connected: Client, name: str) -> RemoteSpace:
    """The model of a server that a command names; its default for the default name that it may not have."""
    is_default = name == DEFAULT_SPACE and name not in connected.models
    return connected.get_space(None if is_default else name)
