"""Helpers shared by the competitors of several benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.models import clip_folders

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def open_clip_model(folder: Path, size: str) -> tuple[Any, Any, Any]:
    """(model, preprocess, tokenizer), created as in open_clip's README."""
    import open_clip

    name = f"local-dir:{clip_folders(folder, size)[1]}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    return model, preprocess, open_clip.get_tokenizer(name)


def txtai_embeddings(model: Path) -> Any:
    """A txtai index with a model that sentence-transformers loads, as in its CLIP examples."""
    from txtai import Embeddings

    return Embeddings(method="sentence-transformers", path=str(model), gpu=False)


def saved(rows: NDArray[np.float32], out: Path) -> Callable[[], Any]:
    """Writes the vectors as .npy, as a user of a library without an index would."""
    import numpy as np

    np.save(out.with_suffix(".kept.npy"), rows)
    return lambda: rows


def indexed(space: Any, items: Sequence[Any], ids: Sequence[str], out: Path) -> Callable[[], Any]:
    """Adds items to a new multimodal index; the returned call reads their vectors in the order of `ids`."""
    import numpy as np

    import multimodal as mm

    index = mm.Index.create(out, space)
    report = index.add(list(items), ids=list(ids))
    if len(index) != len(ids):
        raise RuntimeError(f"{len(index)} of {len(ids)} are in the index: {report}")

    def vectors() -> Any:
        vectors_by_id = {row["id"]: row["vector"] for row in index.rows(vectors=True)}
        return np.stack([vectors_by_id[id_] for id_ in ids])

    return vectors
