"""Weight draws of small networks in plain numpy, many at a time, and what their logarithms say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Weights = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Square: orthonormal rows, entries of mean square 1."""
    q, r = np.linalg.qr(rng.standard_normal(shape))
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :] * np.sqrt(shape[-1])


def forward(
    draws: int,
    widths: list[int],
    function: Callable[[np.ndarray], np.ndarray],
    gain: float,
    weights: Weights = normal,
    inputs: np.ndarray | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Activations after every layer, (draws, width, examples); the input is a unit vector of ones unless given."""
    rng = np.random.default_rng(seed)
    x = np.ones((widths[0], 1)) if inputs is None else inputs
    x = np.broadcast_to(x, (draws, *x.shape))
    out = []
    for fan_in, units in zip(widths, widths[1:], strict=False):
        x = function(weights(rng, (draws, units, fan_in)) @ x * (gain / np.sqrt(fan_in)))
        out.append(x)
    return out


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def variance_and_error(values: np.ndarray) -> tuple[float, float]:
    """With the standard error that the fourth moment gives."""
    d2 = (values - values.mean()) ** 2
    return mean_and_error(d2 * values.size / (values.size - 1))
