"""Vectors that last: an index on disk, pinned to the space that made its vectors.

index.py    Index, the one public door
build.py    add, retry_failed; sync.py: sync; what they have in common
estimate.py what an add would do, and how long it would take
job.py      the stages that run at the same time: intake.py (source to batches), outlet.py (how things end)
sources.py  what is given -> entries: walk.py, manifest.py, archive.py, dataset.py
things.py   an entry, looked at and opened: content.py (hashes, words), parts.py and cut.py (windows, chunks)
batches.py  parts -> batches of one cost; prepare.py: their tensors and vectors, whatever one of them does
writer.py   chunks of finished things; lock.py: one writer at a time; ledger.py, tally.py: what failed, and what did not
search.py   queries -> hits, exact
filters.py  modality= and where= -> one safe condition
results.py  Hit, Hits, AddReport, Failure, Progress, Estimate
show.py     how results look in a notebook
store.py    LanceDB, and the only module that knows it; table.py: its columns
"""

from multimodal.index.index import Index
from multimodal.index.ingest.sources.folders import files_in
from multimodal.index.results import AddReport, Estimate, Failure, Hit, Hits, Progress

__all__ = ["AddReport", "Estimate", "Failure", "Hit", "Hits", "Index", "Progress", "files_in"]
