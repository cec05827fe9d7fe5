"""Models that are compared: spaces, and classifiers on the vectors of a space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.auditing.lineage import relation
from multimodal.core.errors import InvalidInput
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space
from multimodal.evaluation.tasks.outcome import identity

Model = str | os.PathLike[str] | Space


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that answers.

    Attributes:
        name: In the report.
        space: The space that encodes.
        model: What answers: the space itself, or a classifier on its vectors.
        fingerprint: Identifies it.
    """

    name: str
    space: Space
    model: Any
    fingerprint: str

    @property
    def is_classifier(self) -> bool:
        """Whether it answers with labels of its own."""
        return self.model is not self.space


def open_model(given: Any) -> Opened:
    """Opens a space by name or folder, or takes a space or classifier as it is.

    Args:
        given: A name, a folder, a space, or a classifier with the attribute `space`, such as one of
            `multimodal.adapt.few_shot`.

    Returns:
        The model.

    Raises:
        InvalidInput: Anything else.
        UnknownModel: No such model.
    """
    if isinstance(given, Space | str | os.PathLike):
        space = as_space(given)
        name = (
            given if isinstance(given, str) else space.name if isinstance(given, Space) else Path(given).name
        )
        return Opened(name, space, space, space.fingerprint)
    own = getattr(given, "space", None)
    if callable(given) and isinstance(own, Space):
        name, fingerprint = identity(given)
        return Opened(name, own, given, fingerprint)
    raise InvalidInput(
        f"a model is a space, its name or folder, or a classifier on a space, got {type(given).__name__}"
    )


def open_others(space: Space, against: Any) -> dict[str, Opened]:
    """The models of `against` by name.

    Args:
        space: The model under audit.
        against: One model, or a list of them.

    Returns:
        {name: model}, with names that differ.

    Raises:
        InvalidInput: One of them is the model under audit.
    """
    is_list = isinstance(against, Sequence) and not isinstance(against, str)
    others: dict[str, Opened] = {}
    for given in against if is_list else [against]:
        other = open_model(given)
        if other.fingerprint == space.fingerprint:
            raise InvalidInput(
                f"against names the same model ({other.name!r} has the fingerprint of {space.name!r}): "
                "give another one"
            )
        name = other.name
        while name in others or name == space.name:
            name += " (2)"
        others[name] = other
    return others


def model_relation(first: Opened, second: Opened) -> str | None:
    """How two models are related by their spaces.

    Args:
        first: A model.
        second: Another.

    Returns:
        As `relation`, with classifiers named as such; None where nothing is known.
    """
    known = relation(first.space, second.space)
    if known is None or not (first.is_classifier or second.is_classifier):
        return known
    if known == "the same model":
        return "a classifier on the same vectors"
    return f"a classifier on a space that is related: {known}"
