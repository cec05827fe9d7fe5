"""The root of the command line: its own options, and an application of some or all commands."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Annotated

import typer

from multimodal import __version__
from multimodal.cli import remote
from multimodal.cli.console import Commands

VALUE_OPTIONS = ("--limit", "--server")  # of the root, followed by a value


def make_app() -> typer.Typer:
    """An application with the options of the root, and no commands yet."""
    app = typer.Typer(
        name="multimodal",
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 success · 1 an error · 2 invalid usage · 3 done, but some files failed · "
        "4 no answer · 130 stopped.",
    )
    app.callback()(root)
    return app


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"multimodal {__version__}")
        raise typer.Exit()


def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print the traceback of an error.")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=remote.SERVER_VARIABLE,
            help=f"A running multimodal serve, which {', '.join(remote.COMMANDS)} use instead of a model here.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=NUMBER",
            help="Raise the largest media file accepted: pixels, seconds or bytes; may be repeated.",
        ),
    ] = None,
) -> None:
    """Index, search, classify and generate text, images, audio and video in one shared embedding space.

    \b
    Getting started:
      [cyan]multimodal demo[/]                                   offline, in seconds
      [cyan]multimodal index ~/Pictures --index memories.lance[/]
      [cyan]multimodal search memories.lance "a sad cat"[/]

    Every command has [cyan]--help[/], and all but mcp have [cyan]--json[/]. With [cyan]--json[/], stdout is exactly one
    JSON object: the result, or {"error": {"type": …, "message": …}} with a "cure" where one is known. The exit codes
    stay the same.
    """
    if limit:
        _set_limits(context, limit)
    remote.select(context, server)


def _set_limits(context: typer.Context, pairs: list[str]) -> None:
    """Sets the limits on media for this run. Raises a usage error (exit code 2)."""
    import dataclasses

    from multimodal.core.limits import get_limits, set_limits

    before = get_limits()
    numbers = {}
    for pair in pairs:
        kind, _, number = pair.partition("=")
        if kind not in ("pixels", "seconds", "bytes") or not (number.isdecimal() and int(number) > 0):
            raise typer.BadParameter(
                f"{pair!r} is not KIND=NUMBER with one of pixels, seconds, bytes and a whole number above 0",
                param_hint="--limit",
            )
        numbers[f"max_{kind}"] = int(number)
    set_limits(dataclasses.replace(before, **numbers))
    context.call_on_close(lambda: set_limits(before))


def single_app(arguments: Sequence[str]) -> typer.Typer | None:
    """An application with only the command that the arguments name.

    Importing and describing all commands takes longer than a request to a server, and a fifth of a search here.

    Args:
        arguments: Of the command line, without the name of the program.

    Returns:
        The application; None where all commands are needed.
    """
    if any(name.endswith("_COMPLETE") for name in os.environ):
        return None
    is_value = False
    for argument in arguments:
        if not is_value and not argument.startswith("-"):
            if argument not in remote.COMMANDS:
                return None
            module, _, name = remote.COMMANDS[argument].partition(":")
            app = make_app()
            app.command()(getattr(importlib.import_module(module), name))
            return app
        is_value = argument in VALUE_OPTIONS
    return None
