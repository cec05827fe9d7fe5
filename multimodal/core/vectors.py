"""Normalised vectors: finite float32 rows of length one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unit_rows(vectors: Any, dim: int) -> NDArray[np.float32]:
    """Checks vectors given by a caller and scales each to length one.

    vectors: (n, dim) or (dim,), any float dtype -> (n, dim) float32, a new array.
    Raises InvalidInput naming the rows for a wrong size, numbers that are not finite, or a vector of zeros.
    """
    import numpy as np

    rows = np.asarray(vectors)
    if rows.dtype.kind != "f":
        raise InvalidInput(f"vectors must be floating-point numbers, got dtype {rows.dtype}")
    if rows.ndim not in (1, 2) or rows.shape[-1] != dim:
        raise InvalidInput(
            f"vectors of shape {rows.shape} given where (n, {dim}) or ({dim},) is due; "
            "were they made by another space?"
        )
    if len(rows) == 0:
        raise InvalidInput("no vectors given; at least one is needed")
    rows = np.atleast_2d(rows).astype(np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InvalidInput(f"vectors must be finite: NaN or infinity in row {row_list(~finite)}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        bad = ~(np.isfinite(norms) & (norms > 0))[:, 0]
        raise InvalidInput(f"vectors must have a direction: zero (or infinite) length in row {row_list(bad)}")
    return np.asarray(rows / norms, dtype=np.float32)


def row_list(bad: NDArray[np.bool_], shown: int = 5) -> str:
    """`0, 3, 7 … (12 in all)` for a mask of rows."""
    rows = bad.nonzero()[0].tolist()
    text = ", ".join(map(str, rows[:shown]))
    return text if len(rows) <= shown else f"{text} … ({len(rows)} in all)"


def cosine_matrix(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarities of unit vectors: rows (n, dim) and columns (m, dim) -> (n, m)."""
    return (rows @ columns.T).clip(-1.0, 1.0)  # rounding may step over 1 by an ulp


def row_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over each row."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function, element by element."""
    import numpy as np

    return 0.5 * (1.0 + np.tanh(0.5 * logits))  # the form that cannot overflow
