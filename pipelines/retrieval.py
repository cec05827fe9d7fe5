"""Retrieval: things of any modality that fit a query of any modality."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from multimodal.core.errors import InvalidInput
from multimodal.core.pipeline import Pipeline
from multimodal.core.space import Space
from multimodal.index import Hits, Index
from multimodal.index.search.request import Mode


class RetrievalPipeline(Pipeline):
    """Searches an index: `RetrievalPipeline(index)("a sad cat", k=5, modality="image")`."""

    task = "retrieval"

    def __init__(self, index: Index) -> None:
        if not isinstance(index, Index):
            raise InvalidInput(
                f"RetrievalPipeline searches an Index, got {type(index).__name__}: make one with "
                "Index.create(path, space), or open one with RetrievalPipeline.from_pretrained(path)"
            )
        self.index = index

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | Space | Index,
        *,
        space: Space | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """The pipeline on an index: the folder it is in, or the Index itself. space: as for Index.open."""
        if isinstance(model, str | os.PathLike):
            return cls(Index.open(model, space), **options)
        return cls(model, **options)  # type: ignore[arg-type]  # a Space is refused there, with the cure

    def __call__(
        self,
        inputs: Any = None,
        *,
        k: int = 10,
        text: str | None = None,
        mode: Mode | None = None,
        near: Sequence[str] | str | None = None,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Sequence[str] | str | None = None,
        offset: int = 0,
        exact: bool = False,
        distinct: bool = False,
        calibrated: bool = True,
        min_probability: float | None = None,
        group: bool | str = False,
    ) -> Hits | list[Hits]:
        """The hits for a query, best first; a list of queries gives a list of them. See Index.search."""
        return self.index.search(
            inputs, k, text=text, mode=mode, near=near, modality=modality, where=where, ids=ids, offset=offset,
            exact=exact, distinct=distinct, calibrated=calibrated, min_probability=min_probability, group=group,
        )  # type: ignore[no-any-return, call-overload, unused-ignore]  # fmt: skip
