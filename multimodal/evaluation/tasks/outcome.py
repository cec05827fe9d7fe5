"""What every task takes and returns, and how a model is opened for it."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.core.pipeline import Pipeline, as_space, pipeline
from multimodal.core.space import Space
from multimodal.evaluation.data import Table, item_bytes
from multimodal.evaluation.encoding import Runner
from multimodal.evaluation.figure import Figure
from multimodal.evaluation.result import ItemResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.evaluation.figure import Statistic

TEXT_ENCODER = "text"


@dataclass(frozen=True)
class Options:
    """The options of `multimodal.evaluate` that a task reads; see there."""

    labels: tuple[str, ...] | None = None
    templates: str | Sequence[str] | None = None
    query: str | None = None
    gallery: str | None = None
    judge: Any = None
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """The outcome of all items of a task.

    Attributes:
        items: One for each item.
        values: Values of each item by name, (n,).
        means: The names of `values` whose means are figures.
        statistics: Further figures, as functions of weights.
        figures: Further figures with intervals of their own.
        gallery: The number of candidates, or None.
        excluded: Rows that are in no figure, by reason.
        notes: For the reader.
        settings: What the figures depend on.
    """

    items: list[ItemResult] = field(default_factory=list)
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    means: list[str] = field(default_factory=list)
    statistics: dict[str, Statistic] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    gallery: int | None = None
    excluded: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


Task = Callable[[Any, Table, Options, Runner], Outcome]


def open_space(model: Any, task: str) -> Space:
    """The space of a model given by name, as a space, or as a pipeline that holds one."""
    if isinstance(model, Space | str | os.PathLike):
        return as_space(model)
    space = getattr(model, "space", None)
    if isinstance(space, Space):
        return space
    raise InvalidInput(f"{task} is evaluated on a space or its name, got {type(model).__name__}")


def open_pipeline(model: Any, task: str) -> Any:
    """The pipeline of a task: as given, or opened on a model."""
    return model if isinstance(model, Pipeline) or _is_function(model) else pipeline(task, model=model)


def _is_function(model: object) -> bool:
    return callable(model) and not isinstance(model, Space | str | os.PathLike)


def identity(model: Any) -> tuple[str, str]:
    """The name and the fingerprint of a model that has been opened."""
    space = model if isinstance(model, Space) else getattr(model, "space", None)
    fingerprint = getattr(model, "fingerprint", None)
    if isinstance(model, Space):
        return model.name, model.fingerprint
    if isinstance(space, Space):
        own = fingerprint if isinstance(fingerprint, str) else _state_digest(model, space)
        return f"{type(model).__name__} on {space.name}", own
    opened = getattr(model, "_opened_from", None)
    name = str(
        getattr(model, "name", None)
        or (opened and opened[0])
        or getattr(model, "__name__", type(model).__name__)
    )
    if isinstance(fingerprint, str):
        return name, fingerprint
    return name, hashlib.sha256(f"{type(model).__qualname__}:{name}:{opened}".encode()).hexdigest()


def _state_digest(model: Any, space: Space) -> str:
    """Identifies what is built on a space, such as a classifier, by the space and by its own state."""
    state = {name: value for name, value in vars(model).items() if not isinstance(value, Space)}
    try:
        content = pickle.dumps(state)
    except Exception:  # whatever a part of it raises: then the object stands for itself alone
        content = f"{id(model)}".encode()
    digest = hashlib.sha256(f"{space.fingerprint}:{type(model).__qualname__}".encode())
    digest.update(content)
    return digest.hexdigest()


def item_key(item: Item, target: str) -> str:
    """Identifies an item and its right answer by content."""
    return hashlib.sha256(item_bytes(item) + b"\0" + target.encode()).hexdigest()[:24]
