"""`multimodal`: the command line. Commands are in the modules beside this one and import what they need when run."""

from __future__ import annotations

from typing import Annotated

import typer

from multimodal import __version__
from multimodal.cli.console import Commands
from multimodal.cli.demo.command import demo
from multimodal.cli.indexes.index import index
from multimodal.cli.indexes.map import map as draw_map
from multimodal.cli.indexes.optimize import optimize
from multimodal.cli.indexes.search import search
from multimodal.cli.models.bridge import bridge
from multimodal.cli.models.doctor import doctor
from multimodal.cli.models.info import info, models
from multimodal.cli.tasks.caption import caption
from multimodal.cli.tasks.classify import classify
from multimodal.cli.tasks.embed import embed
from multimodal.cli.tasks.generate import generate
from multimodal.cli.tasks.transcribe import transcribe

app = typer.Typer(
    name="multimodal",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all done · 1 an error · 2 wrong usage · 3 done, but some files failed · 130 stopped.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"multimodal {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
) -> None:
    """Words, pictures and sounds in one shared space: index them, and find any of them with any other.

    \b
    Begin here:
      [cyan]multimodal demo[/]                                   see it work, offline
      [cyan]multimodal index ~/Pictures --index memories.lance[/]
      [cyan]multimodal search memories.lance "a sad cat"[/]

    Every command takes [cyan]--json[/] and explains itself with [cyan]--help[/].
    """


app.command(rich_help_panel="See")(demo)
app.command(rich_help_panel="Find")(index)
app.command(rich_help_panel="Find")(search)
app.command(rich_help_panel="Find")(optimize)
app.command(rich_help_panel="Understand")(classify)
app.command(rich_help_panel="Understand")(embed)
app.command(rich_help_panel="Understand")(doctor)
app.command(rich_help_panel="Make")(transcribe)
app.command(rich_help_panel="Make")(generate)
app.command(rich_help_panel="Make")(bridge)
app.command(rich_help_panel="Make")(caption)
app.command("map", rich_help_panel="See")(draw_map)
app.command(rich_help_panel="See")(models)
app.command(rich_help_panel="See")(info)


def main() -> None:
    """The console script."""
    app()
