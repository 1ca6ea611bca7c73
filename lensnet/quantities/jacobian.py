"""Singular values of the Jacobian dz/dx from a network's input x to an output z: which, and what is read off them.

A Jacobian is that of one example; numbers are averaged over the first `EXAMPLES` of the batch. Of its min(n, N)
singular values s (n inputs, N outputs, positions counted):

    jacobian_gain       mean of s^2: |dz|^2 over |dx|^2 for a small change in a random direction (when N >= n)
    jacobian_spread     relative variance of s^2, 0 for an isometry
    jacobian_low/high   the s below which 10 % and 90 % of them lie
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXAMPLES = 1
"""Examples whose Jacobians are looked at: their singular values hardly differ from example to example."""
WHOLE = 256
"""Inputs up to which every singular value is found; of larger Jacobians the first two moments are estimated."""
PROBES = 32
"""Random directions for such an estimate."""
LOW, HIGH = 0.1, 0.9

OF_MOMENTS = ("jacobian_gain", "jacobian_spread")
OF_QUANTILES = ("jacobian_low", "jacobian_high")
QUANTITIES = (*OF_MOMENTS, *OF_QUANTILES)


def of_singular_values(squares: Array) -> dict[str, float]:
    """All four numbers from squared singular values `(examples, k)`."""
    mean = squares.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (squares**2).mean(axis=1) / mean**2 - 1
    low, high = np.quantile(np.sqrt(np.maximum(squares, 0.0)), (LOW, HIGH), axis=1)
    values = (mean, spread, low, high)
    return {name: float(np.mean(value)) for name, value in zip(QUANTITIES, values, strict=True)}


def of_probes(changes: Array, count: int) -> dict[str, float]:
    """Gain and spread from J v for independent directions v of mean square 1, `(examples, probes, N)`.

    E |J v|^2 = tr J^T J, and E <J v, J w>^2 = tr (J^T J)^2 for two independent directions.
    """
    products = changes @ np.swapaxes(changes, 1, 2)
    probes = changes.shape[1]
    own = np.einsum("epp->ep", products)
    others = (products**2).sum(axis=(1, 2)) - (own**2).sum(axis=1)
    trace, square = own.mean(axis=1), others / (probes * (probes - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = square * count / trace**2 - 1
    return {"jacobian_gain": float(np.mean(trace)) / count, "jacobian_spread": float(np.mean(spread))}
