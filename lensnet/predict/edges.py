"""The edges of a network on the way back: where a value is used, and sums that one unknown part spoils."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lensnet.network.graph import Network

Edge = tuple[str, str]
"""A consumer and its port."""
OUTPUT: Edge = ("", "output")
"""The edge that leaves the network."""


def uses_of(network: Network, path: str) -> list[Edge]:
    """The edges by which the output of a component goes on."""
    return [(node.path, port) for node, port in network.consumers(path)] or [OUTPUT]


def total_of(parts: Iterable[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    """Their sum; None where a part is not known."""
    total: NDArray[np.float64] | None = None
    for part in parts:
        if part is None:
            return None
        total = part if total is None else total + part
    return total
