"""What `multimodal index` shows: a bar with rate, time to go and failures; an estimate; the failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from multimodal.cli import console
from multimodal.cli.wording import in_cli_terms

if TYPE_CHECKING:
    from multimodal.index import Estimate, Failure, Progress

KINDS_SHOWN = 6


@contextlib.contextmanager
def bar(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on stderr with rate, remaining time and failures; nothing if stderr is not a terminal."""
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
    """`41.3/s · 3 min 20 s left · 2 failed`."""
    parts = [f"{state.rate:,.1f}/s"]
    if state.eta_s is not None:
        parts.append(f"{duration(state.eta_s)} left")
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


def show_estimate(estimate: Estimate) -> None:
    """A table of the pending items, and the estimated duration."""
    n = sum(estimate.counts.values())
    table = console.make_table("to do", "", right=("",))
    for kind, count in estimate.counts.items():
        table.add_row(kind, f"{count:,}")
    if estimate.counts:
        console.print_table(table)
    rest = [f"{estimate.unchanged:,} already indexed"] * bool(estimate.unchanged)
    rest += [f"{estimate.moved:,} moved"] * bool(estimate.moved)
    rest += [f"{estimate.deleted:,} to delete"] * bool(estimate.deleted)
    rest += [f"{estimate.failed:,} cannot be indexed"] * bool(estimate.failed)
    rest += [f"{estimate.skipped:,} of no known kind"] * bool(estimate.skipped)
    took = f"about {duration(estimate.seconds)}, measured on {estimate.sampled}; " if n else ""
    size = f"{n:,} to do, {estimate.n_bytes / 1e6:,.1f} MB; "
    console.stdout().print(f"{size}{took}{'; '.join([*rest, 'nothing was written'])}", soft_wrap=True)


def skipped_line(skipped: Mapping[str, int]) -> str:
    """`3 files of no known kind were skipped: 2 .exe, 1 .db`."""
    n = sum(skipped.values())
    kinds = [f"{count:,} {kind}" for kind, count in list(skipped.items())[:KINDS_SHOWN]]
    rest = ["…"] * (len(skipped) > KINDS_SHOWN)
    files = "file of no known kind was" if n == 1 else "files of no known kind were"
    return f"{n:,} {files} skipped: {', '.join([*kinds, *rest])}"


def known_line(n: int) -> str:
    """`12 known failures, unchanged; --failures lists them`."""
    return f"{n:,} known failure{'s' * (n != 1)}, unchanged; --failures lists {'them' if n != 1 else 'it'}"


def show_failures(failures: Sequence[Failure]) -> None:
    """A table of failures."""
    if not failures:
        console.note("no failures are recorded")
        return
    table = console.make_table("stage", "source", "reason", unbroken=("source", "reason"))
    for failure in failures:
        reason = in_cli_terms(failure.reason.removeprefix(f"{failure.uri}: "))
        table.add_row(failure.stage, console.verbatim(failure.uri), console.verbatim(reason))
    console.print_table(table)
