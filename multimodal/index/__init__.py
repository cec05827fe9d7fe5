"""Vector index on disk, pinned to the space that encoded it: what `multimodal.Index` is made of.

- `ingest`: reads documents from files, tables, archives and data sets, and encodes them in batches
- `storage`: keeps rows, vectors, snapshots and failures on disk, in LanceDB tables and memory-mapped segments
- `search`: turns a query into ranked, calibrated hits

`ingest` and `search` both build on `storage` and do not import each other.
"""

import importlib
from typing import TYPE_CHECKING, Any

from multimodal.core.deprecation import warn_deprecated

if TYPE_CHECKING:
    from multimodal.index.config import SearchConfig
    from multimodal.index.index import Index
    from multimodal.index.ingest.config import IngestConfig
    from multimodal.index.ingest.sources.folders import files_in
    from multimodal.index.results import Estimate, Failure, Failures, Hit, Hits, IngestReport, Progress, Rows
    from multimodal.index.search.calibration_fit import CalibrationReport
    from multimodal.index.search.query import Query
    from multimodal.index.search.request import SearchOptions
    from multimodal.index.statistics import IndexStats

__all__ = [
    "CalibrationReport",
    "Estimate",
    "Failure",
    "Failures",
    "Hit",
    "Hits",
    "Index",
    "IndexStats",
    "IngestConfig",
    "IngestReport",
    "Progress",
    "Query",
    "Rows",
    "SearchConfig",
    "SearchOptions",
    "files_in",
]


# Imported at first use: the results alone, as a client of a server needs them, take a tenth of the time of all.
_MODULES = {
    "CalibrationReport": "search.calibration_fit", "Index": "index", "IndexStats": "statistics",
    "IngestConfig": "ingest.config", "Query": "search.query", "SearchConfig": "config",
    "SearchOptions": "search.request",
    "files_in": "ingest.sources.folders",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "AddReport":
        warn_deprecated("multimodal.index.AddReport", "multimodal.index.IngestReport")
        name = "IngestReport"
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'results')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
