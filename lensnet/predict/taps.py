"""Sums over the taps of a window along one axis, and their adjoints.

Windows, adaptive bins and patches are separable: a sum over a two-dimensional window is a sum along one axis of sums
along the other. So one axis at a time is enough, and a 32 x 224 x 224 field costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lensnet.network.geometry import PaddingMode

Field = NDArray[np.float64]


class AxisTaps(Protocol):
    """A linear map along one axis whose matrix has entries that count taps, or weigh them."""

    def gather(self, field: Field, axis: int) -> Field:
        """Sum over the taps of every output position along `axis`."""

    def scatter(self, field: Field, axis: int) -> Field:
        """The adjoint: every output position paints its taps along `axis`."""


@dataclass(frozen=True)
class WindowTaps:
    """Tap t of output i is input i*stride - padding + t*dilation, if that lies inside (or wraps, mode circular)."""

    size_in: int
    size_out: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    mode: PaddingMode = "zero"

    @property
    def trivial(self) -> bool:
        return self.kernel == 1 and self.stride == 1 and self.padding == 0 and self.size_in == self.size_out

    def gather(self, field: Field, axis: int) -> Field:
        if self.trivial:
            return field
        if self.mode == "circular":
            inner, places = self.unrolled
            return inner.gather(np.take(field, places, axis=axis), axis)
        out = _like(field, axis, self.size_out)
        lead = (slice(None),) * axis
        for into, source in self.lines():
            out[(*lead, into)] += field[(*lead, source)]
        return out

    def scatter(self, field: Field, axis: int) -> Field:
        if self.trivial:
            return field
        if self.mode == "circular":
            inner, places = self.unrolled
            out = np.moveaxis(_like(field, axis, self.size_in), axis, 0)
            np.add.at(out, places, np.moveaxis(inner.scatter(field, axis), axis, 0))
            return np.moveaxis(out, 0, axis)
        out = _like(field, axis, self.size_in)
        lead = (slice(None),) * axis
        for into, source in self.lines():
            out[(*lead, source)] += field[(*lead, into)]
        return out

    def lines(self) -> Iterator[tuple[slice, slice]]:
        """For every tap, the outputs that have it inside the input (which does not wrap), and where it is."""
        for tap in range(self.kernel):
            offset = tap * self.dilation - self.padding
            first = max(0, -(offset // self.stride))
            last = min(self.size_out, (self.size_in - 1 - offset) // self.stride + 1)
            if last > first:
                start = first * self.stride + offset
                yield slice(first, last), slice(start, start + (last - first - 1) * self.stride + 1, self.stride)

    @property
    def unrolled(self) -> tuple[WindowTaps, NDArray[np.int64]]:
        """The same window on a longer axis without padding, and the places that stand on that axis."""
        reach = (self.size_out - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        length = max(reach, self.size_in + 2 * self.padding)
        inner = WindowTaps(length, self.size_out, self.kernel, self.stride, 0, self.dilation)
        return inner, (np.arange(length) - self.padding) % self.size_in


def _like(field: Field, axis: int, size: int) -> Field:
    """Zeros of the shape of a field but for one axis."""
    return np.zeros((*field.shape[:axis], size, *field.shape[axis + 1 :]))


@dataclass(frozen=True)
class StridedTaps:
    """Output i is the input at `places[i]`, or nothing where that is negative."""

    size_in: int
    places: tuple[int, ...]

    def _kept(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in the output, places in the input) of what is kept."""
        places = np.array(self.places, dtype=np.int64)
        inside = np.flatnonzero(places >= 0)
        return inside, places[inside]

    def gather(self, field: Field, axis: int) -> Field:
        return self._moved(field, axis, len(self.places), *self._kept())

    def scatter(self, field: Field, axis: int) -> Field:
        return self._moved(field, axis, self.size_in, *self._kept()[::-1])

    def _moved(self, field: Field, axis: int, size: int, to: NDArray[np.int64], origin: NDArray[np.int64]) -> Field:
        x = np.moveaxis(field, axis, 0)
        out = np.zeros((size, *x.shape[1:]))
        np.add.at(out, to, x[origin])  # a mirrored place is hit more than once
        return np.moveaxis(out, 0, axis)


@dataclass(frozen=True)
class TransposedTaps:
    """The adjoint map: gathering over it paints, scattering sums."""

    window: WindowTaps

    def gather(self, field: Field, axis: int) -> Field:
        return self.window.scatter(field, axis)

    def scatter(self, field: Field, axis: int) -> Field:
        return self.window.gather(field, axis)


@dataclass(frozen=True, eq=False)
class WeightedTaps:
    """Output i is the sum of inputs j times `weights[i, j]`."""

    weights: Field

    def gather(self, field: Field, axis: int) -> Field:
        return np.moveaxis(np.moveaxis(field, axis, -1) @ self.weights.T, -1, axis)

    def scatter(self, field: Field, axis: int) -> Field:
        return np.moveaxis(np.moveaxis(field, axis, -1) @ self.weights, -1, axis)


@dataclass(frozen=True)
class BinTaps:
    """Bins of unequal size along one axis: output i covers floor(i*n/o) .. ceil((i+1)*n/o); they may share an input."""

    size_in: int
    size_out: int

    @property
    def edges(self) -> list[tuple[int, int]]:
        n, o = self.size_in, self.size_out
        return [(i * n // o, -((-(i + 1) * n) // o)) for i in range(o)]

    def gather(self, field: Field, axis: int) -> Field:
        x = np.moveaxis(field, axis, -1)
        out = np.stack([x[..., a:b].sum(axis=-1) for a, b in self.edges], axis=-1)
        return np.moveaxis(out, -1, axis)

    def scatter(self, field: Field, axis: int) -> Field:
        y = np.moveaxis(field, axis, -1)
        out = np.zeros((*y.shape[:-1], self.size_in))
        for place, (a, b) in enumerate(self.edges):
            out[..., a:b] += y[..., place : place + 1]
        return np.moveaxis(out, -1, axis)
