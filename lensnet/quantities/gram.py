"""Numbers read off a Gram matrix of samples; the same functions serve a predicted and a measured matrix.

A Gram matrix is `(R, R)` over the rows of a `RowSample`: E_c z_a z_b, the average over channels of the product of two
rows. Rows without energy have no direction and are left out of averages of cosines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensnet.quantities.rows import RowSample

Matrix = NDArray[np.float64]


def cosines(gram: Matrix) -> Matrix:
    """G_ab / sqrt(G_aa G_bb), `(R, R)`; NaN in rows and columns without energy."""
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.outer(size, size) > 0, gram / np.outer(size, size), np.nan)


def correlation(gram: Matrix, sample: RowSample) -> float:
    """Average cosine of two different examples at the same position (uncentred); NaN for a single example."""
    same_place = np.einsum("aibi->iab", sample.split(cosines(gram)))
    return _mean(same_place[:, ~np.eye(sample.examples, dtype=bool)])


def position_cosine(gram: Matrix, sample: RowSample) -> float:
    """Average cosine of two different positions of one example (uncentred); NaN where there is one position."""
    same_example = np.einsum("aiaj->aij", sample.split(cosines(gram)))
    return _mean(same_example[:, ~np.eye(len(sample.places), dtype=bool)])


def _mean(values: Matrix) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
