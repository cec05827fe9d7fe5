"""Tuning constants of search. The defaults are measured; change them in tests, benchmarks and for unusual hardware."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchConfig:
    """Thresholds of the search engine, passed to `Index.create` and `Index.open` as `search_config`.

    No field changes which rows match a query under `exact=True`; the fields trade speed against memory and recall.

    Attributes:
        max_memory_rows: Rows written after the newest segment file that each process keeps in memory and compares
            one by one. More rows than this become a segment on disk. 20,000 rows take about 1 ms at 512 dimensions.
        max_segments: Number of segments from which all are merged into one.
        max_stale_share: Share of segment rows that may be deleted or replaced before the segments are rewritten.
        projection_growth: Growth factor of the index from which the mean of the binary codes is recomputed.
        projection_rows: Rows sampled from the whole index for that mean.
        max_expected_miss: Share of the nearest rows that a search by binary codes may be expected to miss.
        first_candidates: Rows that a search by binary codes compares exactly at first (at least 4 per result).
        min_code_rows: Filtered row count up to which rows are compared exactly instead of by binary codes.
        matrix_elements: Elements (rows x dim) up to which 8 or more queries use one exact matrix product.
        max_scores: Scores held in memory at once when many queries are compared exactly.
        fusion_depth: Results taken from each order in hybrid search, and at least twice the number requested.
        cached_filters: Filters whose matching rows are cached per snapshot.
        threads: Processor cores that one search may use, if it goes through some hundred thousand rows; 0: all.
        max_small_fragments: Small data files from which the table is compacted after a write.
    """

    max_memory_rows: int = 20_000
    max_segments: int = 32
    max_stale_share: float = 0.25
    projection_growth: int = 4
    projection_rows: int = 4096
    max_expected_miss: float = 0.005
    first_candidates: int = 512
    min_code_rows: int = 1024
    matrix_elements: int = 1 << 24
    max_scores: int = 1 << 24
    fusion_depth: int = 128
    cached_filters: int = 8
    threads: int = 0
    max_small_fragments: int = 64


DEFAULT = SearchConfig()
