"""Elementwise work on large arrays, shared among the cores: numpy lets other threads run, scipy's splines do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST = 30_000
"""Elements of a part: below, starting a thread is not worth it."""


def in_parts(work: Callable[..., tuple[Array, ...]], *arrays: Array) -> tuple[Array, ...]:
    """`work(*arrays)` for 1-d arrays of one length, where it acts on every element by itself.

    As many threads as cores, or as OMP_NUM_THREADS allows, as for numpy itself. The result does not depend on it.
    """
    count = min(threads(), arrays[0].size // _LEAST)
    if count < 2:
        return work(*arrays)
    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(work, *(np.array_split(array, count) for array in arrays)))
    return tuple(np.concatenate(results) for results in zip(*parts, strict=True))


def threads() -> int:
    """How many cores this process may use."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(allowed), cores) if allowed.isdigit() and int(allowed) > 0 else cores
