"""Covariances of the network's input by displacement, worked out where they are asked for.

A convolution of large images asks for very many displacements of them and gathers each at once: to keep them all would
take more room than anything behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from lensnet.levels.bands import BandPairs, overlap
from lensnet.levels.pairs import Field, Pairs


class InputPairs(np.lib.mixins.NDArrayOperatorsMixin):
    """E z_a z_b over channels, in a layout of bands: what numpy asks for as an array is worked out whole.

    images: `(E, C, *positions)`.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, images: Field, layout: BandPairs) -> None:
        self.images, self.layout = images, layout

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pairs:
        return np.asarray(self._whole, dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*(np.asarray(x) if x is self else x for x in inputs), **options)

    def along(self, rows: Iterable[Any]) -> Iterator[Pairs]:
        """Every pair of examples at one displacement after the other, 0 outside, `(E, E, *positions)`.

        All in the same array: each takes the place of the last.
        """
        x = self.images / self.images.shape[1] ** 0.5
        out = np.empty((*self.shape[:2], *self.shape[3:]))
        for row in rows:
            to, source = overlap(row, self.layout.positions)
            here, there = (x[(slice(None), slice(None), *at)] for at in (to, source))
            out[...] = 0.0
            np.einsum("ec...,fc...->ef...", here, there, out=out[(slice(None), slice(None), *to)])
            yield out

    @cached_property
    def _whole(self) -> Pairs:
        out = np.empty(self.shape)
        for d, pairs in enumerate(self.along(self.layout.displacements)):
            out[:, :, d] = pairs
        return out
