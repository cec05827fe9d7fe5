"""Vectors that last: an index on disk, pinned to the space that made its vectors.

index.py    Index, the one public door
build.py    what is added -> rows; one bad file never ends a job
search.py   queries -> hits, exact
filters.py  modality= and where= -> one safe condition
results.py  Hit, Hits, AddReport, Failure
show.py     how results look in a notebook
store.py    LanceDB, and the only module that knows it
"""

from multimodal.index.index import Index
from multimodal.index.results import AddReport, Failure, Hit, Hits
from multimodal.index.sources import files_in

__all__ = ["AddReport", "Failure", "Hit", "Hits", "Index", "files_in"]
