"""Classifiers in files: safetensors, with everything but the arrays as JSON in its header. No code is stored or run."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError, InvalidInput, MediaNotFound
from multimodal.core.paths import local_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.adapt.fewshot.classifier import Classifier

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


def read(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """(arrays, description) of a file that `save` wrote. Raises MediaNotFound, CheckpointError."""
    from safetensors import SafetensorError, safe_open

    if file.is_dir():
        raise CheckpointError(f"{file} is a folder, not a classifier; make one with 'multimodal teach'")
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
