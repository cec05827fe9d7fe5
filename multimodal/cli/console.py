"""What every command shares: results on stdout, all else on stderr, exit codes, progress, failures.

Exit codes: 0 all done · 1 an error, said in one sentence · 2 wrong usage · 3 done, but some files failed (they are
listed) · 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from multimodal.core.errors import MultimodalError, UnsupportedModality

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FAILED, SOME_FAILED, INTERRUPTED = 1, 3, 130
FAILURES_SHOWN = 20

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
SpaceName = Annotated[
    str,
    typer.Option(
        "--space", metavar="NAME", help="A name as [bold]multimodal models[/] lists them, or ./folder."
    ),
]


class Commands(TyperGroup):
    """Runs a command; turns what it raises into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe is caught
            return result
        except KeyboardInterrupt:
            _say_plainly("stopped")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `multimodal models | head -1`: whoever read has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit() from None
        except (MultimodalError, OSError) as error:
            if ctx.params.get("traceback"):
                traceback.print_exc()
            fail(describe(error))
            raise typer.Exit(FAILED) from None


def describe(error: Exception) -> str:
    """The sentence to show; an OSError of the system gets its file name in front."""
    if isinstance(error, OSError) and not isinstance(error, MultimodalError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, UnsupportedModality) and error.modality is not None:
        from multimodal.core.catalog import models_for

        names = ", ".join(map(repr, models_for(error.modality)))
        return f"{error}; models with {error.modality}: {names}" if names else str(error)
    return str(error)


def stdout() -> Console:
    """Where results go. Made anew, since tests and pipes change sys.stdout."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            raise  # to Commands, which ends quietly; rich would end with exit code 1

    return Results(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Where everything goes that is not a result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """`error: …` on stderr, whole and unwrapped, so that it can be searched for."""
    _say_plainly(f"error: {message}", style="red")


def note(message: str) -> None:
    """`note: …` on stderr."""
    _say_plainly(f"note: {message}", style="yellow")


def _say_plainly(message: str, style: str | None = None) -> None:
    from rich.text import Text

    word, colon, rest = printable(message).partition(": ")
    text = Text.assemble((word + colon, style or ""), rest)
    stderr().print(text, soft_wrap=True)


def printable(text: str) -> str:
    """Without what a terminal would obey or could not show: file names and notes come from anywhere."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def verbatim(text: str) -> str:
    """For a table: shown as it is, whatever brackets are in it."""
    from rich.markup import escape

    return escape(printable(text))


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout, as it is: no colours, no wrapping."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that is no Unicode, or a terminal that is not
        text = json.dumps(value, indent=2, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def make_table(
    *columns: str, right: Sequence[str] = (), title: str | None = None, widths: Sequence[int] | None = None
) -> Table:
    """An airy table with a header line; columns in `right` are aligned there.

    With `widths`, each column has its own, and what is longer is cut with an ellipsis; else it is wrapped.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        if widths is None:
            table.add_column(column, justify=justify, overflow="fold")
        else:
            table.add_column(column, justify=justify, width=widths[place], no_wrap=True, overflow="ellipsis")
    return table


def bar(share: float, width: int = 12) -> str:
    """A share of 0 to 1 as a bar of `width` characters, to an eighth of one."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[rest]).strip().ljust(width)


@contextlib.contextmanager
def progress(what: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; yields what to call with the number of items just done.

    Nothing is shown if quiet, or if stderr is no terminal.
    """
    console = stderr()
    if quiet or not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)


@contextlib.contextmanager
def working(what: str, *, quiet: bool) -> Iterator[None]:
    """A spinner on stderr while something without a known end goes on."""
    console = stderr()
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def list_failures(failures: Sequence[tuple[str, str]]) -> None:
    """(uri, reason) of each file that failed, on stderr, the first FAILURES_SHOWN of them."""
    for uri, reason in failures[:FAILURES_SHOWN]:
        fail(reason if reason.startswith(uri) else f"{uri}: {reason}")
    if len(failures) > FAILURES_SHOWN:
        note(f"{len(failures) - FAILURES_SHOWN:,} more failed; --json lists them all")
