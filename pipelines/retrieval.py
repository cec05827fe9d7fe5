"""Retrieval: items of any modality that match a query of any modality."""

from __future__ import annotations

import os
from typing import Any, Self, Unpack

from multimodal.core.errors import InvalidInput
from multimodal.core.pipeline import Pipeline
from multimodal.core.space import Space
from multimodal.index import Hits, Index, SearchOptions
from multimodal.index.opening import adapted_space


class RetrievalPipeline(Pipeline):
    """Searches an index: `RetrievalPipeline(index)("a sad cat", k=5, modality="image")`.

    Args:
        index: The index to search.
    """

    task = "retrieval"

    def __init__(self, index: Index) -> None:
        if not isinstance(index, Index):
            raise InvalidInput(
                f"RetrievalPipeline searches an Index, got {type(index).__name__}: create one with "
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
        """Opens a pipeline on an index.

        Args:
            model: The folder of an index, or an Index.
            space: As for Index.open; ignored if `model` is an Index.
            **options: None are known; others raise a TypeError.

        Returns:
            The pipeline on the opened index.

        Raises:
            IndexStateError: There is no index in the folder, or it belongs to another space.
            InvalidInput: `model` is something else, such as a Space.
        """
        if isinstance(model, str | os.PathLike):
            return cls(Index.open(model, space), **options)
        return cls(model, **options)  # type: ignore[arg-type]  # __init__ rejects a Space

    @classmethod
    def _open_adapted(cls, model: Any, adapter: Any, options: dict[str, Any]) -> Self:
        return cls.from_pretrained(model, **options | {"space": adapted_space(model, adapter, options)})

    def to(self, device: str) -> Self:
        """Moves the encoders of the index's space to a device, in place; see `Space.to`.

        Args:
            device: As torch names it; "auto" is the accelerator, if any.

        Returns:
            The pipeline itself.
        """
        self.index.space.to(device)
        return self

    def __call__(
        self, inputs: Any = None, *, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Hits | list[Hits]:
        """Searches the index.

        Args:
            inputs: A query, as for Index.search: anything the space encodes, a float vector (dim,), a weighted query,
                or a list of these.
            k: Number of hits.
            **options: See multimodal.index.SearchOptions.

        Returns:
            Hits, best first; for a list of queries, a list of Hits.

        Raises:
            InvalidInput: An argument is invalid, or arguments do not go together.
            TypeError: An option is unknown.
        """
        hits: Hits | list[Hits] = self.index.search(inputs, k, **options)
        return hits
