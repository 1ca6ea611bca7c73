"""Correlation maps: what a stack of components does to the correlation of two inputs, again and again.

Two inputs without positions, of one second moment q and correlation c, are followed through a network (one block, say)
at infinite width. Near c = 1 a map is best read in the distance e = 1 - c: in double precision c itself holds no
distance below 1e-16, and e loses its digits from about 1e-9 on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import FullPairs
from lensnet.network.graph import INPUT, Network
from lensnet.predict.kernel.propagate import propagate
from lensnet.predict.kernel.tangent import KernelError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FixedPoint:
    """Where a block leaves second moment and correlation alone.

    `slope`: of the correlation map there (chi). The point attracts where |slope| < 1, and differences live for
    `depth` = -1/ln|slope| blocks.
    """

    second_moment: float
    correlation: float
    slope: float

    @property
    def depth(self) -> float:
        return float("inf") if abs(self.slope) >= 1 else float(-1.0 / np.log(max(abs(self.slope), 1e-300)))


def step(network: Network, second_moment: float, correlation: float, mean: float = 0.0) -> tuple[float, float]:
    """Second moment and correlation behind the network, for two inputs of these. Raises KernelError where a component
    has no kernel formula, ValueError for a network whose input has positions."""
    if network.input.shape.positions:
        raise ValueError("a correlation map is that of inputs without positions")
    q, c = float(second_moment), float(np.clip(correlation, -1.0, 1.0))
    layout = FullPairs(2, ())
    means, pairs = np.full(2, mean), q * np.array([[1.0, c], [c, 1.0]])
    population = Population(INPUT, network.input.shape.channels, float("inf"), means, pairs, layout)
    kernels = propagate(network, Covariance(means, pairs, layout, population))
    last = network.nodes[-1].path
    if last not in kernels.states:
        path, reason = next(iter(kernels.reasons.items()))
        raise KernelError(f"the map ends at {path}: {reason}")
    after = kernels.states[last].pairs
    size = float(np.sqrt(after[0, 0] * after[1, 1]))
    return float(after[0, 0]), float(after[0, 1]) / size if size > 0 else float("nan")


def correlation_map(network: Network, correlations: ArrayLike, second_moment: float = 1.0) -> Array:
    """Correlation behind the network for each of these correlations of two inputs, at one second moment."""
    values = np.asarray(correlations, dtype=float)
    return np.array([step(network, second_moment, c)[1] for c in values.ravel()]).reshape(values.shape)


def fixed_point(
    network: Network, correlation: float = 0.5, second_moment: float = 1.0, most: int = 2000, tolerance: float = 1e-10
) -> FixedPoint | None:
    """The pair (q, c) that repeating the network as a block leads to from these; None if it leads to none."""
    q, c = second_moment, correlation
    for _ in range(most):
        after = step(network, q, c)
        if not all(np.isfinite(after)) or after[0] <= 0:
            return None
        moved = max(abs(after[0] / q - 1.0), abs(after[1] - c))
        q, c = after
        if moved < tolerance:
            break
    else:
        return None
    width = 1e-4 * max(1.0 - c, 1e-2)
    if c > 1.0 - 1e-6:
        c, slope = 1.0, (1.0 - step(network, q, 1.0 - 1e-6)[1]) / 1e-6
    else:
        slope = (step(network, q, c + width)[1] - step(network, q, c - width)[1]) / (2 * width)
    return FixedPoint(q, c, float(slope))
