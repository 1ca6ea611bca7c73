"""Sums over the channels of images on the CPU, at the speed of reading them.

torch has no one-pass sum of products over a middle axis: squaring first writes and reads a copy of the whole tensor.
numpy's `einsum` multiplies and adds row by row into a result that stays in the core's cache. It runs on one core and
lets others run, so the examples are shared among as many threads as torch uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Below this many numbers starting a thread costs more than it saves.
_ALONE = 1 << 18

Rows = NDArray[np.float32]  # products of displaced taps: of float64 images too


def channel_sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over channels of x and of x^2: (N, C, H, W) -> twice (N, H*W)."""
    rows = _rows(x)
    total, squares = _room(rows), _room(rows)

    def add(example: int) -> None:
        np.add.reduce(rows[example], axis=0, out=total[example])
        np.einsum("cp,cp->p", rows[example], rows[example], out=squares[example])

    _each(add, rows)
    return torch.from_numpy(total), torch.from_numpy(squares)


def channel_products(a: Tensor, b: Tensor) -> Tensor:
    """Sum over channels of a*b: (N, C, H, W) -> (N, H*W)."""
    first, second = _rows(a), _rows(b)
    total = _room(first)

    def add(example: int) -> None:
        np.einsum("cp,cp->p", first[example], second[example], out=total[example])

    _each(add, first)
    return torch.from_numpy(total)


def channel_products_and_inner(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over channels of g^2, (N, H*W), and <x, g> of every example, (N,), added up in float64."""
    signal, rows = _rows(x), _rows(gradient)
    squares, inner = _room(rows), np.empty(len(rows))

    def add(example: int) -> None:
        np.einsum("cp,cp->p", rows[example], rows[example], out=squares[example])
        inner[example] = np.einsum("cp,cp->c", signal[example], rows[example]).sum(dtype=np.float64)

    _each(add, rows)
    return torch.from_numpy(squares), torch.from_numpy(inner)


def displaced_products(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Sum over channels of x(p)*x(p + step) along the flattened positions, 0 where p + step lies beyond the last:
    (N, C, H, W) -> (N, steps, H*W). An example stays in the cache for all of its steps."""
    rows = _rows(x)
    total = np.zeros((rows.shape[0], len(steps), rows.shape[2]), rows.dtype)

    def add(example: int) -> None:
        values = rows[example]
        for step, out in zip(steps, total[example], strict=True):
            end = values.shape[1] - step
            np.einsum("cp,cp->p", values[:, :end], values[:, step:], out=out[:end])

    _each(add, rows)
    return torch.from_numpy(total)


def _rows(x: Tensor) -> Rows:
    rows: Rows = x.detach().flatten(2).numpy()
    return rows


def _room(rows: Rows) -> Rows:
    return np.empty((rows.shape[0], rows.shape[2]), np.float32)


def _each(work: Callable[[int], None], rows: Rows) -> None:
    """Do the work for every example, on several threads where that pays."""
    threads = torch.get_num_threads()
    if threads == 1 or rows.size < _ALONE:
        for example in range(len(rows)):
            work(example)
    else:
        list(_pool(threads).map(work, range(len(rows))))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lensnet-sums")
