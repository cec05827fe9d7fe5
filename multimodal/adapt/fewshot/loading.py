"""Opens the file of a classifier, with the space it was made in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.adapt.fewshot import storage
from multimodal.adapt.fewshot.classifier import Classifier, ExampleBank, Rejection, Rule
from multimodal.adapt.fewshot.discriminant import LinearScores
from multimodal.adapt.fewshot.result import FewShotReport
from multimodal.core.errors import CheckpointError, InvalidInput, SpaceMismatch
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_classifier(
    path: str | os.PathLike[str], space: Space | str | os.PathLike[str] | None = None, **options: Any
) -> Classifier:
    """Opens a classifier that `Classifier.save` or `multimodal teach` wrote.

    Args:
        path: The file.
        space: The space it was made in, if that is loaded already. Default: loaded by the name in the file.
        **options: Of `load`, as device="cpu".

    Returns:
        The classifier.

    Raises:
        MediaNotFound: There is no such file.
        CheckpointError: The file is damaged, or no classifier.
        SpaceMismatch: The space has other weights than the one that the classifier was made in.
        InvalidInput: The file names no space and none is given.
    """
    file = Path(path).expanduser()
    arrays, about = storage.read(file)
    loaded = _space(file, about, space, options)
    try:
        rejection = None if about["rejection"] is None else Rejection(**about["rejection"])
        words = {
            name.removeprefix(storage.WORDS): rows
            for name, rows in arrays.items()
            if name.startswith(storage.WORDS)
        }
        scores = LinearScores(arrays["mean"], arrays["weights"], arrays["bias"])
        bank = ExampleBank(arrays["examples"], tuple(about["names"]), arrays["classes"])
        labels, report = about["labels"], FewShotReport.from_dict(about["report"])
        _check_shapes(scores, bank, len(labels), loaded.dim)
        return Classifier(
            loaded, labels, Rule(scores, float(about["sharpness"]), words, rejection), bank, report
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}); make it again with 'multimodal teach'"
        ) from error


def _space(
    file: Path, about: dict[str, Any], space: Space | str | os.PathLike[str] | None, options: dict[str, Any]
) -> Space:
    from multimodal.core.catalog import load

    named = about["space"]
    if space is None:
        if named["address"] is None:
            raise InvalidInput(
                f"{file} was made in the space {named['name']!r}, which has no name to load it by: give space="
            )
        loaded = load(named["address"], **named["options"] | options)
    else:
        loaded = as_space(space)
    ours = {str(modality): encoder.fingerprint for modality, encoder in loaded.encoders.items()}
    different = [name for name, value in about["encoders"].items() if ours.get(name, value) != value]
    if different or not set(ours) & set(about["encoders"]):
        raise SpaceMismatch(
            f"{file} was made in {named['name']!r} with another {' and '.join(different) or 'set of encoders'} than "
            f"that of {loaded.name!r}, so its labels would be wrong; load the space it was made in, or teach it again"
        )
    return loaded


def _check_shapes(scores: LinearScores, bank: ExampleBank, n_labels: int, dim: int) -> None:
    expected: list[tuple[NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int64], tuple[int, ...]]] = [
        (scores.mean, (dim,)),
        (scores.weights, (dim, n_labels)),
        (scores.bias, (n_labels,)),
        (bank.vectors, (len(bank.names), dim)),
        (bank.classes, (len(bank.names),)),
    ]
    for array, shape in expected:
        if array.shape != shape:
            raise ValueError(f"an array of shape {array.shape} where {shape} is due")
    if len(bank.classes) and not 0 <= int(bank.classes.min()) <= int(bank.classes.max()) < n_labels:
        raise ValueError("an example has a label that does not exist")
