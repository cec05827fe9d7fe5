"""`multimodal index`: add files to an index, synchronise it with folders, and resume interrupted jobs."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, interrupt, options
from multimodal.cli.indexes.index_output import bar, known_line, show_estimate, show_failures, skipped_line
from multimodal.cli.indexes.search import DEFAULT_SPACE, metadata_of, open_or_create
from multimodal.cli.wording import in_cli_terms
from multimodal.core.errors import IndexBusy, IndexStateError, MediaNotFound, MultimodalWarning
from multimodal.core.remote.path import AnyPath, RemotePath, is_remote_source

if TYPE_CHECKING:
    from multimodal.index import Index, IngestReport
    from multimodal.index.cluster_index import ClusterIndex

LOCAL_MODES = ("--failures", "--dry-run")  # what encodes nothing
MODES = ("--sync", "--retry-failed", "--failures", "--dry-run")
SYNC_DRY_RUN = ["--sync", "--dry-run"]  # the only two that go together
WITHOUT_PATHS = ("--retry-failed", "--failures")
# oneDNN caches a kernel per batch shape, 1,024 by default: a hundred megabytes in a long job
KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
DELIMITER_NAMES = {"tab": "\t", "\\t": "\t"}  # what can be typed in a shell for a tab


class PagesAs(StrEnum):
    """How pages of a PDF are indexed; see Index.add."""

    auto = "auto"
    text = "text"
    image = "image"


Job = Callable[[dict[str, Any]], "IngestReport"]


@options.with_runtime()
def index(
    into: Annotated[
        Path,
        typer.Option(
            "--index",
            metavar="INDEX",
            help="The index; created if it does not exist. Also on an object store: s3://bucket/name.",
            show_default=False,
            parser=options.index_place,
        ),
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Folders (recursive), files, quoted glob patterns, tables (.csv, .tsv, .jsonl, .parquet, .arrow) of "
            "paths or texts, tar archives.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="NAME", help=f"The model for a new index. \\[default: {DEFAULT_SPACE}]"
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--vectors",
            metavar="FORMAT",
            help="How a new index stores vectors: float32, int8, pca128-int8 or bits. \\[default: float32]",
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="KEY=VALUE", help="Metadata of each file, for --where; may be repeated."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="ROLE=NAME",
            help="Column of a table that holds the path, text or id; may be repeated.",
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            metavar="CHAR",
            help="Between the cells of CSV files, such as ';' or 'tab'. \\[default: recognised]",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="Of CSV and JSON lines files, such as cp1252. \\[default: recognised]",
        ),
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Synchronise with the folders: deleted files are removed too.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry only the recorded failures.")
    ] = False,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the recorded failures and exit.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Count the pending files, with --sync the deleted ones too, estimate the duration and exit.",
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="GLOB",
            help="Only files in folders that match; may be repeated.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="Leave out files and folders that match, in gitignore's syntax; may be repeated. A .multimodalignore "
            "file in a folder does the same.",
            show_default=False,
        ),
    ] = None,
    pages: Annotated[
        PagesAs, typer.Option("--pages", help="PDF pages as text or images; auto: images if without text.")
    ] = PagesAs.auto,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 for any failure, known ones included.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Skip files whose content is already indexed.")
    ] = False,
    threads: options.Threads = None,
    batch_size: options.BatchSize = 32,
    decoders_per_worker: Annotated[
        int | None,
        typer.Option(
            "--decoders-per-worker",
            min=0,
            metavar="N",
            rich_help_panel=options.CLUSTER_PANEL,
            help="With Ray: further processes of each worker that only decode, for GPUs that wait for cores. Default: "
            "as needed, if there are cores to spare.",
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once if another process is writing to the index.")
    ] = False,
    *,
    load_options: dict[str, Any],
    cluster: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Index images, audio, video, texts and documents for cross-modal search.

    Documents: PDF, DOCX, PPTX, XLSX, OpenDocument, HTML, EPUB, RTF, e-mail, subtitles and source code; zip archives are
    read as folders. Files of no known kind are left out and counted.

    \b
    Examples:
      [cyan]multimodal index ~/Pictures --index memories.lance[/]
      [cyan]multimodal index ~/Pictures ~/Voice --index memories.lance --sync[/]
      [cyan]multimodal index rome/ --index memories.lance --metadata place=Rome --metadata year=2026[/]
      [cyan]multimodal index photos.csv --index memories.lance --column path=file --column id=number[/]

    Unchanged files are not encoded again, so an interrupted job resumes when the command is repeated. Unreadable files
    are skipped and reported. Exit code 3: files failed that did not fail before.
    """
    flags = dict(zip(MODES, (sync, retry_failed, failures, dry_run), strict=True))
    mode = _mode([name for name, wanted in flags.items() if wanted], paths)
    if cluster and mode in LOCAL_MODES:
        raise typer.BadParameter(
            f"{mode} runs on this machine only; leave one out", param_hint="--engine ray"
        )
    if decoders_per_worker is not None and not cluster:
        raise typer.BadParameter(
            "runs on a cluster only; add --engine ray", param_hint="--decoders-per-worker"
        )
    cluster = cluster | {"decoders_per_worker": decoders_per_worker} if cluster else {}
    about = metadata_of(metadata)
    reading = {
        "columns": _columns(column),
        "delimiter": DELIMITER_NAMES.get(delimiter or "", delimiter),
        "encoding": encoding,
    }
    sources = _expand(paths or [])
    load = load_options
    if mode == "--failures":
        _failures(into, json)
        return
    how: dict[str, Any] = {"threads": threads, "batch_size": batch_size, "pages": pages.value}
    chosen: dict[str, Any] = {"include": include or None, "exclude": exclude or None}
    if mode == "--dry-run":
        _dry_run(into, space, load, sources, reading | {"sync": sync}, how | chosen, json)
        return
    os.environ.setdefault(*KERNELS)  # read once, when torch computes for the first time
    given: dict[str, Any] = {"metadata": about or None, "dedupe": dedupe} | reading | chosen
    if mode == "--retry-failed" and not _exists(into):
        raise IndexStateError(f"no index at {str(into)!r}, so no failures are recorded")
    with _opened(into, space, load, vectors, cluster, quiet=json) as opened:
        jobs: dict[str | None, Job] = {
            None: lambda more: opened.add(sources, **given, **how, **more),
            "--sync": lambda more: opened.sync(sources, **given, **how, **more),
            "--retry-failed": lambda more: opened.retry_failed(**how, **more),
        }
        run_job(opened, into, jobs[mode], no_wait=no_wait, strict=strict, json=json)


@contextlib.contextmanager
def _opened(
    into: Path,
    space: str | None,
    load: dict[str, Any],
    vectors: str | None,
    cluster: dict[str, Any],
    *,
    quiet: bool,
) -> Iterator[Index | ClusterIndex]:
    """The index, opened or created."""
    if cluster:
        with _on_cluster(into, space, load, vectors, cluster, quiet=quiet) as there:
            yield there
        return
    with console.working("opening the index", quiet=quiet):
        opened = open_or_create(into, space, load, vectors)
    yield opened


@contextlib.contextmanager
def _on_cluster(
    into: Path,
    space: str | None,
    load: dict[str, Any],
    vectors: str | None,
    cluster: dict[str, Any],
    *,
    quiet: bool,
) -> Iterator[ClusterIndex]:
    """The index, opened or created by a process that loads no model: its workers do."""
    from multimodal.core.cluster.options import ClusterOptions
    from multimodal.index.cluster_index import opened_on_cluster

    if interrupt.owns_process():
        from multimodal.index.storage.deferred import import_without

        import_without("pyarrow.dataset", "pandas")  # 32 MB that the driver of a long job does without
    with contextlib.ExitStack() as stack:
        with console.working("connecting to Ray and opening the index", quiet=quiet):
            machines = ClusterOptions(
                cluster["address"],
                cluster["workers"],
                cluster["gpus_per_worker"],
                cluster["decoders_per_worker"],
            )
            opened = stack.enter_context(opened_on_cluster(into, space, machines, load, vectors))
        yield opened


def _mode(given: list[str], paths: list[str] | None) -> str | None:
    """The requested mode. Raises a usage error (exit code 2) for flags and paths that exclude each other."""
    if given == SYNC_DRY_RUN:
        given = ["--dry-run"]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other; give one", param_hint=given[0])
    mode = given[0] if given else None
    if mode in WITHOUT_PATHS and paths:
        raise typer.BadParameter("takes no paths: the failures are recorded in the index", param_hint=mode)
    if mode not in WITHOUT_PATHS and not paths:
        raise typer.BadParameter("name at least one folder or file", param_hint="PATH...")
    return mode


def _columns(pairs: list[str] | None) -> dict[str, str] | None:
    columns = {}
    for pair in pairs or ():
        role, sign, name = pair.partition("=")
        if not (role and sign and name):
            raise typer.BadParameter(f"{pair!r} is not ROLE=NAME, such as path=file", param_hint="--column")
        columns[role] = name
    return columns or None


def _expand(paths: list[str]) -> list[AnyPath]:
    """The paths, with glob patterns expanded. Raises MediaNotFound before anything is indexed."""
    from multimodal.index.ingest.sources.folders import expand_pattern

    expanded: list[AnyPath] = []
    for pattern in paths:
        if is_remote_source(pattern):
            expanded.append(RemotePath(pattern))
            continue
        path = Path(pattern).expanduser()
        if path.exists() or path.is_symlink():
            expanded.append(path)
        elif files := expand_pattern(str(path)):
            expanded += files
        else:
            raise MediaNotFound(f"{path}: no such folder or file; check the path (nothing was indexed)")
    return expanded


def _exists(into: AnyPath) -> bool:
    from multimodal.index import Index

    return Index.exists(into)


def run_job(
    opened: Index | ClusterIndex, into: AnyPath, job: Job, *, no_wait: bool, json: bool, strict: bool = False
) -> None:
    """Runs a job with a progress bar, waits for another writer, and shows the report; ends with its exit code."""
    began = time.perf_counter()
    try:
        with _warnings_noted(), bar(quiet=json) as progress:
            try:
                report = job({"progress": progress, "wait": 0})
            except IndexBusy as busy:
                if no_wait:
                    raise
                console.note(str(busy))
                report = job({"progress": progress})
    except KeyboardInterrupt:
        console.stopped(
            f"stopped: {into} holds the {len(opened):,} rows written so far; repeat the command to resume",
            as_json=json,
        )
        raise typer.Exit(console.INTERRUPTED) from None
    seconds = time.perf_counter() - began
    if json:
        about = {"index": str(into), "space": opened.space.name, "fingerprint": opened.fingerprint}
        failed = [row | {"reason": in_cli_terms(row["reason"])} for row in report.to_dict()["failed"]]
        counts = report.to_dict() | {"failed": failed, "known": len(report.known), "total": len(opened)}
        console.print_json(about | counts | {"seconds": round(seconds, 4)})
    else:
        place = console.verbatim(str(into))
        console.stdout().print(
            f"{report}; {place} now holds {len(opened):,} ({seconds:.1f} s)", soft_wrap=True
        )
    _report_failures(report, into, strict=strict, json=json)


def _report_failures(report: IngestReport, into: AnyPath, *, strict: bool, json: bool) -> None:
    """Says what was skipped and what failed, known failures on one line. Exits with code 3 for new failures, or
    (strict) for any."""
    if report.skipped and not json:
        console.note(skipped_line(report.skipped))
    new = report.new_failures
    console.list_failures([(failure.uri, in_cli_terms(failure.reason)) for failure in new])
    if report.known and not json:
        console.note(known_line(len(report.known)))
    if new and not json:
        console.note(f"list the failures with --failures, retry them with --retry-failed (--index {into})")
    if new or (strict and report.failed):
        raise typer.Exit(console.SOME_FAILED)


@contextlib.contextmanager
def _warnings_noted() -> Iterator[None]:
    """Prints the warnings of the package as notes when the job has ended, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MultimodalWarning)
        yield
    for message in dict.fromkeys(
        str(warning.message) for warning in caught if issubclass(warning.category, MultimodalWarning)
    ):
        console.note(in_cli_terms(message))
    for warning in caught:
        if not issubclass(warning.category, MultimodalWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _dry_run(
    into: AnyPath,
    space: str | None,
    load: dict[str, Any],
    paths: list[AnyPath],
    reading: dict[str, Any],
    how: dict[str, Any],
    json: bool,
) -> None:
    from multimodal.core.catalog import load as load_space
    from multimodal.index.ingest.config import JobOptions
    from multimodal.index.ingest.estimate import estimate
    from multimodal.index.ingest.sources.selection import selection

    with console.working("scanning the files and timing a sample", quiet=json):
        if _exists(into):
            result = open_or_create(into, space, load).estimate(paths, **reading, **how)
        else:
            new = load_space(space or DEFAULT_SPACE, **load)
            selected = selection(how.pop("include"), how.pop("exclude"))
            options_ = JobOptions(**how, selection=selected)
            result = estimate(None, new, paths, options=options_, **reading)
    if json:
        console.print_json({"index": str(into)} | result.to_dict())
    else:
        show_estimate(result)


def _failures(into: AnyPath, json: bool) -> None:
    from multimodal.index.opening import index_folder
    from multimodal.index.storage.failures import FailureLog

    if not _exists(into):
        raise IndexStateError(f"no index at {str(into)!r}, so no failures are recorded")
    failures = FailureLog(index_folder(into)).failures()
    if json:
        failed = [failure.to_dict() | {"reason": in_cli_terms(failure.reason)} for failure in failures]
        console.print_json({"index": str(into), "failures": failed})
    else:
        show_failures(failures)
