"""What every command shares: results on stdout, messages on stderr, exit codes, progress and failures.

Exit codes: 0 success · 1 an error · 2 invalid usage · 3 done, but some files failed (they are listed) · 4 a question
without an answer · 130 stopped with Ctrl-C. With --json, stdout is exactly one JSON object: the result, or
`{"error": {"type", "message"}}` with a "cure" where the error carries one. stderr keeps the same message for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from multimodal.cli import early, interrupt
from multimodal.cli.coercion import use_plain_values
from multimodal.cli.wording import in_cli_terms, running_command
from multimodal.core.errors import MissingExtra, MultimodalError, UnsupportedModality

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FAILED, SOME_FAILED, NO_ANSWER = 1, 3, 4
INTERRUPTED = interrupt.INTERRUPTED
FAILURES_SHOWN = 20
JSON_KEY = "multimodal.json"
TABLE_WIDTH = 100_000  # more than any table needs
UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer does not export it

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table; errors too.")]
SpaceName = Annotated[
    str,
    typer.Option(
        "--space", metavar="NAME", help="A model that [bold]multimodal models[/] lists, or ./folder."
    ),
]


class Commands(TyperGroup):
    """Runs a command and turns the exceptions it raises into a message and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        use_plain_values(self.get_params(ctx))
        options = args[: args.index("--")] if "--" in args else args
        ctx.meta[JSON_KEY] = "--json" in options
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        running_command.set(command)
        if command is not None:
            use_plain_values(command.get_params(ctx))
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        as_json = ctx.meta[JSON_KEY]
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe is caught
            return result
        except KeyboardInterrupt:
            stopped(as_json=as_json)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `multimodal models | head -1`: the reader has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit() from None
        except UsageError as error:  # typer itself prints the usage and the message
            if as_json:
                print_error(error, str(error), cure=f"{ctx.command_path} --help")
            raise
        except (MultimodalError, OSError) as error:
            if interrupt.requested():
                stopped(as_json=as_json)
                raise typer.Exit(INTERRUPTED) from None
            if ctx.params.get("traceback"):
                traceback.print_exc()
            message = describe(error)
            fail(message)
            if as_json:
                print_error(error, message, cure=_cure(error))
            raise typer.Exit(FAILED) from None
        except Exception:
            if not interrupt.requested():
                raise
            stopped(as_json=as_json)  # Ctrl-C while a library in C was being imported
            raise typer.Exit(INTERRUPTED) from None


def describe(error: Exception) -> str:
    """The message in terms of the command line; an OSError of the system gets its file name in front."""
    if isinstance(error, OSError) and not isinstance(error, MultimodalError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, UnsupportedModality) and error.modality is not None:
        from multimodal.core.catalog import models_for

        names = ", ".join(map(repr, models_for(error.modality)))
        return f"{reason(error)}; models with {error.modality}: {names}" if names else reason(error)
    return reason(error)


def reason(error: Exception) -> str:
    """Why one of many files failed, in terms of the command line."""
    return in_cli_terms(str(error))


def print_error(error: BaseException, message: str, *, cure: str | None = None) -> None:
    """`{"error": {"type", "message"}}` on stdout, with a "cure" where there is one."""
    fields = {"type": type(error).__name__, "message": message}
    print_json({"error": fields if cure is None else fields | {"cure": cure}})


def stopped(message: str = early.MESSAGE, *, as_json: bool) -> None:
    """Reports that Ctrl-C ended a command; its exit code is INTERRUPTED."""
    _print_message(message)
    if as_json:
        print_error(KeyboardInterrupt(), message)


def check_output(path: Path | None, option: str, suffixes: Sequence[str] = ()) -> None:
    """Refuses a file that cannot be written, before the work whose result it takes.

    Args:
        path: The file; None if none was requested.
        option: The option that named it, for the message.
        suffixes: The endings that it may have; any if there are none.

    Raises:
        BadParameter: Another ending, a folder, or a file in a folder that does not exist.
    """
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        message = f"{str(path)!r} must end in {' or '.join(suffixes)}"
    elif path.is_dir():
        message = f"{str(path)!r} is a folder; name a file in it"
    elif not path.absolute().parent.is_dir():
        message = f"the folder {path.absolute().parent} does not exist; create it first"
    else:
        return
    raise typer.BadParameter(message, param_hint=option)


def refuse_options(reason: str, **given: Any) -> None:
    """Refuses options that the command would ignore.

    Args:
        reason: Why they have no effect, for the message.
        given: The options by their parameter names; None, False and empty values were not given.

    Raises:
        BadParameter: An option was given.
    """
    for name, value in given.items():
        if value:
            raise typer.BadParameter(
                f"has no effect {reason}; leave it out", param_hint=f"--{name.replace('_', '-')}"
            )


def _cure(error: Exception) -> str | None:
    """What to run, where the error itself carries it."""
    if isinstance(error, MissingExtra):
        return f"pip install 'multimodal[{error.extra}]'"
    return None


def stdout() -> Console:
    """The console of results. Created at each call, since tests and pipes replace sys.stdout."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            raise  # Commands ends quietly; rich would end with exit code 1

    return Results(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """The console of everything that is not a result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """`error: …` on stderr, unwrapped, so that it can be searched for."""
    _print_message(f"error: {message}", style="red")


def note(message: str) -> None:
    """`note: …` on stderr."""
    _print_message(f"note: {message}", style="yellow")


def _print_message(message: str, style: str | None = None) -> None:
    from rich.text import Text

    word, colon, rest = printable(message).partition(": ")
    text = Text.assemble((word + colon, style or ""), rest)
    stderr().print(text, soft_wrap=True)


def printable(text: str) -> str:
    """The text without control characters: file names and notes are untrusted."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def verbatim(text: str) -> str:
    """The text with rich markup escaped, for a table."""
    from rich.markup import escape

    return escape(printable(text))


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout, without colours or wrapping."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name or a terminal without Unicode
        text = json.dumps(value, indent=2, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def make_table(
    *columns: str,
    right: Sequence[str] = (),
    unbroken: Sequence[str] = (),
    title: str | None = None,
    widths: Sequence[int] | None = None,
) -> Table:
    """A table with a header line.

    Args:
        columns: Their titles.
        right: Titles of the columns that are right-aligned.
        unbroken: Titles of the columns that are never wrapped, such as paths; print with `print_table`.
        title: Above the table.
        widths: Of each column, in characters; longer cells end with an ellipsis. By default cells wrap.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        if column in unbroken:
            table.add_column(column, justify=justify, no_wrap=True)
        elif widths is None:
            table.add_column(column, justify=justify, overflow="fold", min_width=len(column))
        else:
            table.add_column(column, justify=justify, width=widths[number], no_wrap=True, overflow="ellipsis")
    return table


def print_table(table: Table) -> None:
    """Prints a table on stdout, beyond the width of the terminal where a path would be broken otherwise."""
    from rich.measure import Measurement

    console = stdout()
    width = Measurement.get(console, console.options.update(width=TABLE_WIDTH), table)
    is_unbroken = all(column.no_wrap for column in table.columns)
    console.width = max(console.width, width.maximum if is_unbroken else width.minimum)
    console.print(table)


def counted(n: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def short_path(uri: str) -> str:
    """A path below the working directory without that folder; any other as it is."""
    path = Path(uri)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else uri


def bar(share: float, width: int = 12) -> str:
    """A share from 0 to 1 as a bar of `width` characters, in steps of an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[rest]).strip().ljust(width)


@contextlib.contextmanager
def progress(what: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields a function to call with the number of items just done.

    Nothing is shown if quiet, or if stderr is not a terminal.
    """
    if quiet or not (console := stderr()).is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as display:
        task = display.add_task(what, total=total)
        yield lambda done: display.advance(task, done)


@contextlib.contextmanager
def stages(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each stage in turn; yields a function of (stage, done, total)."""
    with contextlib.ExitStack() as stack:
        shown, counted = "", 0
        advance: Callable[[int], None] = print  # never called: the first call of `report` opens a bar

        def report(what: str, done: int, total: int) -> None:
            nonlocal shown, counted, advance
            if what != shown:
                stack.pop_all().close()
                advance = stack.enter_context(progress(what, total, quiet=quiet))
                shown, counted = what, 0
            advance(done - counted)
            counted = done

        yield report


@contextlib.contextmanager
def working(what: str, *, quiet: bool) -> Iterator[None]:
    """A spinner on stderr for work of unknown length."""
    if quiet or not (console := stderr()).is_terminal:
        yield
        return
    with console.status(what):
        yield


def list_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Lists (uri, reason) of the files that failed on stderr, the first FAILURES_SHOWN of them."""
    for uri, reason in failures[:FAILURES_SHOWN]:
        fail(reason if reason.startswith(uri) else f"{uri}: {reason}")
    if len(failures) > FAILURES_SHOWN:
        note(f"{len(failures) - FAILURES_SHOWN:,} more failed; --json lists them all")
