"""The product of two matrices, W1 W2, whose entries are kept in one flat array: how far it is from a target, the slope
of half the squared distance, and its curvatures.

`w`: (..., hidden*(outputs + inputs)), W1 (outputs, hidden) row by row, then W2 (hidden, inputs). The target is diagonal
in the frame in which they are written: `s`, of which the first min(outputs, inputs) entries are its singular values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def product_error(w: Any, s: Any, outputs: Any, inputs: Any) -> Array:
    """W1 W2 - diag(s), flat: (..., outputs*inputs)."""
    first, second = _layers(w, outputs, inputs)
    miss = first @ second
    rank = min(miss.shape[-2:])
    miss[..., range(rank), range(rank)] -= np.asarray(s, float)[..., :rank]
    return miss.reshape(*miss.shape[:-2], -1)


def product_slope(w: Any, s: Any, outputs: Any, inputs: Any) -> Array:
    """Derivative of |W1 W2 - diag(s)|^2/2 by the entries, as `w`: E W2^T and W1^T E."""
    first, second = _layers(w, outputs, inputs)
    miss = product_error(w, s, outputs, inputs).reshape(*first.shape[:-2], int(outputs), int(inputs))
    parts = miss @ np.swapaxes(second, -1, -2), np.swapaxes(first, -1, -2) @ miss
    return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)


def product_curvatures(w: Any, outputs: Any, inputs: Any) -> tuple[Array, Array]:
    """Largest and smallest eigenvalue of J J^T, (..., 1): sums of one of W1 W1^T and one of W2^T W2."""
    first, second = _layers(w, outputs, inputs)
    if not np.isfinite(w).all():
        unknown = np.full((*np.shape(w)[:-1], 1), np.nan)
        return unknown, unknown
    rows = np.linalg.eigvalsh(first @ np.swapaxes(first, -1, -2))
    columns = np.linalg.eigvalsh(np.swapaxes(second, -1, -2) @ second)
    return rows[..., -1:] + columns[..., -1:], np.maximum(rows[..., :1], 0) + np.maximum(columns[..., :1], 0)


def _layers(w: Any, outputs: Any, inputs: Any) -> tuple[Array, Array]:
    w, rows, columns = np.asarray(w, float), int(outputs), int(inputs)
    hidden = w.shape[-1] // (rows + columns)
    cut = rows * hidden
    return w[..., :cut].reshape(*w.shape[:-1], rows, hidden), w[..., cut:].reshape(*w.shape[:-1], hidden, columns)
