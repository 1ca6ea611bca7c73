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

_PIECE = 1 << 15
"""Elements that are worked on at a time, so that what is made on the way stays in a core's cache."""


def in_parts(work: Callable[..., tuple[Array, ...]], *arrays: Array) -> tuple[Array, ...]:
    """`work(*arrays)` for 1-d arrays of one length, where it acts on every element by itself.

    As many threads as cores, or as OMP_NUM_THREADS allows, as for numpy itself. The result does not depend on it.
    """
    size = arrays[0].size
    count = min(threads(), size // _LEAST)
    pieces = [np.array_split(array, max(1, count, size // _PIECE)) for array in arrays]
    if count < 2:
        parts = list(map(work, *pieces))
    else:
        with ThreadPoolExecutor(count) as pool:
            parts = list(pool.map(work, *pieces))
    return tuple(np.concatenate(results) for results in zip(*parts, strict=True))


def threads() -> int:
    """How many cores this process may use."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(allowed), cores) if allowed.isdigit() and int(allowed) > 0 else cores
