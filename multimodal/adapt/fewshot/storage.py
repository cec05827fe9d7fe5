"""Classifiers in files: safetensors, with everything but the arrays as JSON in its header. No code is stored or run."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.adapt.fewshot.classifier import Classifier, ExampleBank, Rejection, Rule
from multimodal.adapt.fewshot.discriminant import LinearScores
from multimodal.adapt.fewshot.result import FewShotReport
from multimodal.core.errors import CheckpointError, InvalidInput, MediaNotFound, SpaceMismatch
from multimodal.core.paths import local_path
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
KEY = "multimodal.classifier"
ARRAYS = ("mean", "weights", "bias", "examples", "classes")
WORDS = "words."


def save(classifier: Classifier, path: str | os.PathLike[str]) -> None:
    """See `Classifier.save`."""
    from safetensors.numpy import save as to_bytes

    target = local_path(path, "a classifier")
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder; give the name of a file, as {target / 'mine.clf'}")
    rule, bank = classifier.rule, classifier.bank
    arrays: dict[str, NDArray[Any]] = {
        "mean": rule.scores.mean,
        "weights": rule.scores.weights,
        "bias": rule.scores.bias,
        "examples": bank.vectors,
        "classes": bank.classes,
    }
    arrays |= {WORDS + modality: rows for modality, rows in rule.words.items()}
    space = classifier.space
    about = {
        "format": FORMAT,
        "space": {"address": space.address, "name": space.name, "options": space.options},
        "encoders": {str(modality): encoder.fingerprint for modality, encoder in space.encoders.items()},
        "labels": classifier.labels,
        "names": bank.names,
        "sharpness": rule.sharpness,
        "rejection": None if rule.rejection is None else asdict(rule.rejection),
        "report": classifier.report.to_dict(),
    }
    import numpy as np

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = to_bytes(contiguous, metadata={KEY: json.dumps(about, ensure_ascii=False)})
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
        scratch = Path(stream.name)
        try:
            stream.write(data)
            stream.close()
            scratch.chmod(0o644)
            scratch.replace(target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


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
    arrays, about = _read(file)
    loaded = _space(file, about, space, options)
    try:
        rejection = None if about["rejection"] is None else Rejection(**about["rejection"])
        words = {name.removeprefix(WORDS): rows for name, rows in arrays.items() if name.startswith(WORDS)}
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


def _read(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            text = (opened.metadata() or {}).get(KEY)
            names = list(opened.keys())
            arrays = {name: opened.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise MediaNotFound(f"{file}: no such file; make it with 'multimodal teach'") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is no classifier ({error}); make it with 'multimodal teach'"
        ) from error
    try:
        about = json.loads(text or "null")
    except ValueError as error:
        raise CheckpointError(
            f"{file} is damaged ({error}); make it again with 'multimodal teach'"
        ) from error
    if not isinstance(about, dict) or not set(ARRAYS) <= set(arrays):
        raise CheckpointError(f"{file} is no classifier; make it with 'multimodal teach'")
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{file} has format {about.get('format')}, not {FORMAT}: upgrade multimodal, or make it again"
        )
    return arrays, about


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
