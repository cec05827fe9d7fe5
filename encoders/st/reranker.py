"""Cross-encoders of sentence-transformers as rerankers. Scores equal those of `CrossEncoder.predict`."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multimodal.core.backends.reranker import Reranker
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError
from multimodal.encoders.st import checkpoint
from multimodal.encoders.st.model import LOAD_ERRORS, require

CLASSIFIER = "ForSequenceClassification"


class CrossEncoderReranker(Reranker):
    """A cross-encoder.

    Args:
        name: Its address.
        folder: Its files.
        device: "auto", "cpu", "cuda", …
    """

    def __init__(self, name: str, folder: Path, device: str = "auto") -> None:
        from sentence_transformers import CrossEncoder

        self.name = name
        self._lock = threading.Lock()
        try:
            self._model = CrossEncoder(
                str(folder),
                device=str(Runtime(device).torch_device),
                local_files_only=True,
                trust_remote_code=False,
            )
        except LOAD_ERRORS as error:
            raise CheckpointError(f"{name!r} cannot be loaded as a cross-encoder: {error}") from error

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """See `Reranker.score`."""
        if not texts:
            return []
        with self._lock:
            scores = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
        return [float(score) for score in scores]


def load(rest: str, *, device: str = "auto", offline: bool = False) -> CrossEncoderReranker:
    """Loads a cross-encoder from the Hub or a folder.

    Args:
        rest: The id of a repository of the Hub, or a folder.
        device: "auto", "cpu", "cuda", …
        offline: Use only files that are in the cache.

    Raises:
        CheckpointError: The model is no cross-encoder with a single score.
        UnknownModel: The name or folder does not exist.
        DownloadError: A file cannot be downloaded.
        MissingExtra: sentence-transformers is not installed.
    """
    name = f"st/{rest}"
    require(f"loading {name!r}")
    folder = checkpoint.find(rest, revision=None, offline=offline)
    config = _config(folder, name)
    classes = config.get("architectures") or [""]
    labels = config.get("id2label") or {}
    if not str(classes[0]).endswith(CLASSIFIER) or len(labels) > 1:
        raise CheckpointError(
            f"{name!r} is a {classes[0] or 'model'} with {len(labels)} labels, and a reranker is a cross-encoder "
            "with one score, such as 'st/cross-encoder/ms-marco-MiniLM-L6-v2'"
        )
    return CrossEncoderReranker(name, folder, device)


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / checkpoint.CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name!r} has no readable {checkpoint.CONFIG} ({error})") from error
    return config if isinstance(config, dict) else {}
