"""What `multimodal index` shows: a bar with rate, time to go and failures; an estimate; the failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from multimodal.cli import console
from multimodal.cli.wording import in_cli_terms

if TYPE_CHECKING:
    from multimodal.index import Estimate, Failure, Progress


@contextlib.contextmanager
def bar(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr with the rate, the time to go and the number of failures; nothing if stderr is no terminal."""
    terminal = console.stderr()
    if quiet or not terminal.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Shown

    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rest]}"))
    with Shown(*columns, console=terminal, transient=True) as shown:
        task = shown.add_task("indexing", total=None, rest="")
        yield lambda state: shown.update(task, completed=state.done, total=state.total, rest=rest(state))


def rest(state: Progress) -> str:
    """`41.3/s · 3 min 20 s to go · 2 failed`."""
    parts = [f"{state.rate:,.1f}/s"]
    if state.eta_s is not None:
        parts.append(f"{duration(state.eta_s)} to go")
    if state.failed:
        parts.append(f"{state.failed:,} failed")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def show_estimate(found: Estimate) -> None:
    """A table of what there is to do, and a line with how long it takes."""
    n = sum(found.counts.values())
    table = console.make_table("to do", "", right=("",))
    for kind, count in found.counts.items():
        table.add_row(kind, f"{count:,}")
    if found.counts:
        console.stdout().print(table)
    rest = [f"{found.unchanged:,} are there already"] * bool(found.unchanged)
    rest += [f"{found.failed:,} cannot be indexed"] * bool(found.failed)
    took = f"about {duration(found.seconds)}, measured on {found.sampled}; " if n else ""
    size = f"{n:,} to do, {found.n_bytes / 1e6:,.1f} MB; "
    console.stdout().print(f"{size}{took}{'; '.join([*rest, 'nothing was written'])}", soft_wrap=True)


def show_failures(found: Sequence[Failure]) -> None:
    """A table of failures."""
    if not found:
        console.note("nothing has failed, or it has been added since")
        return
    table = console.make_table("stage", "what", "why")
    for one in found:
        reason = in_cli_terms(one.reason.removeprefix(f"{one.uri}: "))
        table.add_row(one.stage, console.verbatim(one.uri), console.verbatim(reason))
    console.stdout().print(table)
