"""IndexIngestion: the part of an Index that adds documents and keeps it equal to their sources.

The methods import what reads sources, so that a search does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from multimodal.core.cluster.options import cluster_options
from multimodal.core.remote.path import GivenPath
from multimodal.core.space import Space
from multimodal.index.administration import IndexAdministration
from multimodal.index.ingest.config import DEFAULT_CONFIG, IngestConfig, JobOptions
from multimodal.index.ingest.documents.part import Pages
from multimodal.index.ingest.sources.selection import selection
from multimodal.index.results import Estimate, IngestReport, Progress


class IndexIngestion(IndexAdministration):
    """Methods of `Index` that read sources; see there."""

    _own: Space  # encodes what is added

    def add(
        self,
        source: object,
        *,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        dedupe: bool = False,
        pages: Pages = "auto",
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        config: IngestConfig = DEFAULT_CONFIG,
        engine: Literal["ray"] | None = None,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        decoders_per_worker: int | None = None,
    ) -> IngestReport:
        """Adds a folder, a file, an item, a table, or an iterable of items, (item, metadata) pairs or rows.

        A str or Path alone is a folder (recursive, in order of name, without hidden files), a file, or a pattern such
        as "photos/**/*.jpg". Files are recognised by content; texts, HTML, source code and subtitles by name. PDF,
        office documents, EPUB, RTF and e-mail are read in parts; zip archives and attachments are read as folders. A
        table (.csv, .tsv, .jsonl, .parquet, .arrow) given by name lists paths or texts with metadata, a tar archive is
        read as WebDataset, and an object with `features` as a Hugging Face dataset. A pandas, polars or Arrow table is
        read in the same way, and so is an iterable whose first item is a dict or such a table. In a list, a str is a
        text and a Path any of these. Files in a folder of no known kind, or named in .multimodalignore, are left out.

        Long audio becomes one row per window (hits have start_s and end_s), a long text file one row per chunk
        (start_char, end_char). Files of unchanged size and time, and items of unchanged content, are not encoded again.
        Interrupted jobs therefore resume on the next call. Documents that cannot be read or encoded are skipped, and
        listed in the report and in `failures`.

        Args:
            source: See above. Also the address of a folder or file, or a pattern, on an object store, such as
                "s3://bucket/photos", in a repository of the Hugging Face Hub, "hf://datasets/user/name", or where else
                fsspec reads, with the credentials of the environment. Tables and archives are read there in blocks.
            ids: One id for each document. Default: the absolute path of a file, an item's own `uri`, or a hash of its
                content. A document with a known id replaces the old one. Windows and chunks append "#t=0-10" or
                "#chunk=3".
            metadata: For all documents; a pair's own metadata takes precedence. Keys are str; values are str, int,
                float, bool or None. Default: known documents keep their metadata.
            columns: Of a table or dataset, {"path": …, "text": …, "id": …}, where the names are not recognised.
            delimiter: Between the cells of CSV files, such as ";". Default: recognised; a tab in .tsv files.
            encoding: Of text files, text tables and the texts of archives, such as "cp1252". Default: by their byte
                order mark or content; Latin-1, with a warning, if they are not UTF-8 or UTF-16.
            dedupe: Skip documents whose content the index has under another id.
            pages: Pages of a PDF: as "text", as an "image", or "auto": an image if the page has hardly any text.
            include: Of the files in folders and zip archives, only those that match a pattern in gitignore's syntax,
                such as "*.jpg".
            exclude: Leave out files and folders that match a pattern, such as "*.raw" or "drafts/".
            batch_size: Images per batch; audio and text batches have the same cost.
            threads: Threads that read and decode. Default: the number of cores.
            wait: Seconds to wait for another writer. Default: no limit.
            progress: Called with a Progress, at most ten times a second.
            config: Memory bounds and intervals of the job.
            engine: "ray" encodes on the machines of a Ray cluster. They must reach the files and the index by the same
                paths. Default: in this process.
            address: Of the cluster, such as "10.0.0.1:6379". Default: the one that this process is connected to, or
                that RAY_ADDRESS names, or else one that is started on this machine for the call.
            workers: Worker processes. Default: one for each GPU, or else for each core, as far as memory allows.
            gpus_per_worker: GPUs that each worker reserves; fractions share one. Default: 1 if the cluster has GPUs
                and the space is not on the CPU, otherwise 0.
            decoders_per_worker: Further processes of each worker that only decode, for GPUs that wait for the cores of
                their machine. They run on other machines of the cluster if these have cores to spare. Default: as many
                as the first units show to be needed, of the cores that no worker reserves; without GPUs none.

        Returns:
            The counts of documents by outcome, the failures, and how many of these were known.

        Raises:
            MediaNotFound: A path does not exist.
            InvalidInput: The list is empty, `source` is a dict or no known iterable, or another argument is invalid.
            IndexBusy: Another writer was active for longer than `wait`.
            IndexStateError: The index cannot be written; what was written before is kept.
            MissingExtra: engine="ray" without the extra `ray`.
            ClusterError: The cluster cannot be reached, or its workers do not start.
        """
        from multimodal.index.ingest import jobs
        from multimodal.index.ingest.engines.job import ClusterJob

        options = JobOptions(
            dedupe, batch_size, threads, wait, progress, config, pages, selection(include, exclude)
        )
        cluster = cluster_options(engine, address, workers, gpus_per_worker, decoders_per_worker)
        given: dict[str, Any] = {"ids": ids, "metadata": metadata, "columns": columns}
        given |= {"delimiter": delimiter, "encoding": encoding}
        if cluster is None:
            report = jobs.add(self._table, self._own, source, options, **given)
        else:
            report = ClusterJob(self._table, options, cluster, space=self._own).add(source, **given)
        self._searcher.prepare()
        return report

    def sync(
        self,
        source: GivenPath | Sequence[GivenPath],
        *,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        dedupe: bool = False,
        pages: Pages = "auto",
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        config: IngestConfig = DEFAULT_CONFIG,
        engine: Literal["ray"] | None = None,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        decoders_per_worker: int | None = None,
    ) -> IngestReport:
        """Makes the index equal to one or several folders.

        New files are added, changed ones (by size and time, then by content) updated, moved ones get their new path
        without being encoded again, and files that no longer exist are deleted. A table or archive is synchronised with
        its rows or members in the same way. Rows from elsewhere are not touched, nor are files that cannot be examined,
        such as those in a folder without permission; an existing file that has become unreadable keeps its row. Files
        outside the folder that a link leads to are added and updated, never deleted.

        Args:
            source: Folders, tables or archives; also those on an object store, as in `add`.
            metadata: As in `add`.
            columns: As in `add`.
            delimiter: As in `add`.
            encoding: As in `add`.
            dedupe: As in `add`.
            pages: As in `add`.
            include: As in `add`. A file that is indexed and now left out keeps its rows.
            exclude: As in `add`.
            batch_size: As in `add`.
            threads: As in `add`.
            wait: As in `add`.
            progress: As in `add`.
            config: As in `add`.
            engine: As in `add`.
            address: As in `add`.
            workers: As in `add`.
            gpus_per_worker: As in `add`.
            decoders_per_worker: As in `add`.

        Returns:
            The counts of documents by outcome, and the failures.

        Raises:
            MediaNotFound: A path does not exist.
            InvalidInput: The source is a single file.
            IndexBusy: Another writer was active for longer than `wait`.
            IndexStateError: The folder is empty although the index has files from it, as if a disk is not mounted; or
                the index cannot be written.
            MissingExtra: As in `add`.
            ClusterError: As in `add`.
        """
        from multimodal.index.ingest import sync as syncing
        from multimodal.index.ingest.engines.job import ClusterJob

        options = JobOptions(
            dedupe, batch_size, threads, wait, progress, config, pages, selection(include, exclude)
        )
        cluster = cluster_options(engine, address, workers, gpus_per_worker, decoders_per_worker)
        given: dict[str, Any] = {"metadata": metadata, "columns": columns}
        given |= {"delimiter": delimiter, "encoding": encoding}
        if cluster is None:
            report = syncing.sync(self._table, self._own, source, options, **given)
        else:
            report = ClusterJob(self._table, options, cluster, space=self._own).sync(source, **given)
        self._searcher.prepare()
        return report

    def estimate(
        self,
        source: object,
        *,
        sync: bool = False,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        pages: Pages = "auto",
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        batch_size: int = 32,
        threads: int | None = None,
        config: IngestConfig = DEFAULT_CONFIG,
    ) -> Estimate:
        """What `add(source)` would have to do, and about how long that would take. Writes nothing.

        Media types are recognised by file name where possible; the time is measured on a sample. An iterator is
        consumed.

        Args:
            source: As in `add`; as in `sync` with sync=True.
            sync: Estimate `sync(source)` instead: also what it would delete.
            columns: As in `add`.
            delimiter: As in `add`.
            encoding: As in `add`.
            pages: As in `add`.
            include: As in `add`.
            exclude: As in `add`.
            batch_size: As in `add`.
            threads: As in `add`.
            config: As in `add`.

        Returns:
            Document counts by modality, bytes, and estimated seconds.

        Raises:
            MediaNotFound: A path does not exist.
            InvalidInput: As in `add`.
        """
        from multimodal.index.ingest import estimate as estimating

        options = JobOptions(
            False, batch_size, threads, config=config, pages=pages, selection=selection(include, exclude)
        )
        return estimating.estimate(
            self._table, self._own, source, columns, options, delimiter, encoding, sync=sync
        )

    def retry_failed(
        self,
        *,
        pages: Pages = "auto",
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        config: IngestConfig = DEFAULT_CONFIG,
        engine: Literal["ray"] | None = None,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        decoders_per_worker: int | None = None,
    ) -> IngestReport:
        """Adds again what is in `failures`, with the ids and metadata it was given with, and nothing else.

        Args:
            pages: As in `add`.
            batch_size: As in `add`.
            threads: As in `add`.
            wait: As in `add`.
            progress: As in `add`.
            config: As in `add`.
            engine: As in `add`.
            address: As in `add`.
            workers: As in `add`.
            gpus_per_worker: As in `add`.
            decoders_per_worker: As in `add`.

        Returns:
            The counts of documents by outcome, and the failures that remain.

        Raises:
            IndexBusy: Another writer was active for longer than `wait`.
            IndexStateError: The index cannot be written; what was written before is kept.
            MissingExtra: As in `add`.
            ClusterError: As in `add`.
        """
        from multimodal.index.ingest import jobs
        from multimodal.index.ingest.engines.job import ClusterJob

        options = JobOptions(False, batch_size, threads, wait, progress, config, pages)
        cluster = cluster_options(engine, address, workers, gpus_per_worker, decoders_per_worker)
        if cluster is None:
            report = jobs.retry_failed(self._table, self._own, options)
        else:
            report = ClusterJob(self._table, options, cluster, space=self._own).retry_failed()
        self._searcher.prepare()
        return report
