"""`multimodal`: the command line. Each command has its own module and imports the library when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from multimodal import __version__
from multimodal.cli.console import Commands
from multimodal.cli.demo.command import demo
from multimodal.cli.indexes.ask import ask
from multimodal.cli.indexes.calibrate import calibrate
from multimodal.cli.indexes.delete import delete
from multimodal.cli.indexes.export import export_index
from multimodal.cli.indexes.index import index
from multimodal.cli.indexes.map import map as map_command
from multimodal.cli.indexes.optimize import optimize
from multimodal.cli.indexes.reindex import reindex
from multimodal.cli.indexes.search import search
from multimodal.cli.interrupt import run
from multimodal.cli.mcp import mcp
from multimodal.cli.models.audit import audit
from multimodal.cli.models.bridge import bridge
from multimodal.cli.models.doctor import doctor
from multimodal.cli.models.evaluate import evaluate
from multimodal.cli.models.finetune import finetune
from multimodal.cli.models.info import info, models
from multimodal.cli.serve import serve
from multimodal.cli.tasks.caption import caption
from multimodal.cli.tasks.classify import classify
from multimodal.cli.tasks.embed import embed
from multimodal.cli.tasks.generate import generate
from multimodal.cli.tasks.teach import teach
from multimodal.cli.tasks.transcribe import transcribe

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


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"multimodal {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print the traceback of an error.")] = False,
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

    Every command has [cyan]--help[/] and [cyan]--json[/]. With [cyan]--json[/], stdout is exactly one JSON object: the
    result, or {"error": {"type": …, "message": …}} with a "cure" where one is known. The exit codes stay the same.
    """
    if limit:
        _set_limits(context, limit)


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


app.command(rich_help_panel="Explore")(demo)
app.command(rich_help_panel="Search")(index)
app.command(rich_help_panel="Search")(search)
app.command(rich_help_panel="Search")(ask)
app.command(rich_help_panel="Search")(serve)
app.command(rich_help_panel="Administration")(optimize)
app.command(rich_help_panel="Administration")(delete)
app.command(rich_help_panel="Administration")(calibrate)
app.command("export-index", rich_help_panel="Administration")(export_index)
app.command(rich_help_panel="Administration")(reindex)
app.command(rich_help_panel="Analyze")(classify)
app.command(rich_help_panel="Analyze")(teach)
app.command(rich_help_panel="Analyze")(embed)
app.command(rich_help_panel="Analyze")(bridge)
app.command(rich_help_panel="Analyze")(evaluate)
app.command(rich_help_panel="Analyze")(finetune)
app.command(rich_help_panel="Analyze")(audit)
app.command(rich_help_panel="Generate")(caption)
app.command(rich_help_panel="Generate")(generate)
app.command(rich_help_panel="Generate")(transcribe)
app.command(rich_help_panel="Serve")(mcp)
app.command("map", rich_help_panel="Explore")(map_command)
app.command(rich_help_panel="Explore")(models)
app.command(rich_help_panel="Explore")(info)
app.command(rich_help_panel="Explore")(doctor)


def main() -> None:
    """The command line, for a process that has imported it."""
    run(app)
