"""ReduNet as the papers write it, sample by sample and class by class, with explicit inverses: slow and plain.

Columns are samples here, as in the papers, so that nothing is shared with the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Layer:
    features: Array
    E: Array
    C: list[Array]
    gates: Array
    R: float
    Rc: float


def on_sphere(z: Array) -> Array:
    return z / np.maximum(np.linalg.norm(z, axis=0), 1e-8)


def rates(z: Array, y: Array, eps2: float) -> tuple[float, float]:
    d, m = z.shape
    total = np.linalg.slogdet(np.eye(d) + d / (m * eps2) * z @ z.conj().T)[1] / 2
    classes = 0.0
    for j in np.unique(y):
        mine = z[:, y == j]
        mj = mine.shape[1]
        classes += mj / m / 2 * np.linalg.slogdet(np.eye(d) + d / (mj * eps2) * mine @ mine.conj().T)[1]
    return float(total), float(classes)


def operator(z: Array, eps2: float) -> Array:
    d, m = z.shape
    alpha = d / (m * eps2)
    return alpha * np.linalg.inv(np.eye(d) + alpha * z @ z.conj().T)


def gate(C: list[Array], z: Array, lam: float) -> Array:
    norms = np.maximum(np.array([[np.linalg.norm(c @ column) for column in z.T] for c in C]), 1e-8)
    weights = np.exp(-lam * (norms - norms.min(axis=0)))
    return weights / weights.sum(axis=0)


def redunet(z: Array, y: Array, layers: int, eps2: float, eta: float, lam: float, by_label: bool) -> list[Layer]:
    """The layers' operators and gates, with the features that enter; the last entry holds the features that leave."""
    z = on_sphere(z)
    k, out = int(y.max()) + 1, []
    for _ in range(layers):
        E, C = operator(z, eps2), [operator(z[:, y == j], eps2) for j in range(k)]
        gates = np.eye(k)[y].T if by_label else gate(C, z, lam)
        out.append(Layer(z, E, C, gates, *rates(z, y, eps2)))
        pull = sum((y == j).mean() * (C[j] @ z) * gates[j] for j in range(k))
        z = on_sphere(z + eta * (E @ z - pull))
    out.append(Layer(z, E, C, gates, *rates(z, y, eps2)))
    return out
