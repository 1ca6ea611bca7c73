"""What a convolution of the input sees of it: exact covariances of its output, place by place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.bands import overlap
from lensnet.levels.pairs import Field
from lensnet.network.geometry import Window
from lensnet.network.graph import INPUT, Network, Node


@dataclass(frozen=True)
class Patches:
    """What the filters of a convolution on the input see: images `(E, C, *positions)`, cut by a window."""

    node: Node
    images: Field

    def directions(self) -> tuple[Field, NDArray[np.float64]]:
        """Eigenvalues of the covariance of patches over the batch, times the variance of a weight, largest first; and
        the eigenvectors `(numbers, numbers)`."""
        rows = self._rows()
        rows = rows - rows.mean(axis=0)
        (law,) = self.node.weights.values()
        values, vectors = np.linalg.eigh(rows.T @ rows * (law.variance / len(rows)))
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    def along(self, vectors: NDArray[np.float64]) -> Field:
        """The patches along some directions, mean over the batch taken off, in units of the square root of the variance
        of a weight: `(directions, E, *positions)`."""
        (law,) = self.node.weights.values()
        rows = self._rows() @ vectors * law.variance**0.5
        return np.moveaxis(self._places(rows - rows.mean(axis=0)), -1, 0)

    def through(self, matrix: NDArray[np.float64] | None, centred: bool) -> Field:
        """Numbers whose products are the covariances of two samples, `(E, *positions, numbers)`: the patches, in units
        as above, times a matrix."""
        (law,) = self.node.weights.values()
        rows = self._rows() if matrix is None else self._rows() @ matrix
        return self._places((rows - rows.mean(axis=0) if centred else rows) * law.variance**0.5)

    def _places(self, rows: NDArray[np.float64]) -> Field:
        return rows.reshape(len(self.images), *self.node.shape.positions, rows.shape[1])

    def _rows(self) -> NDArray[np.float64]:
        """Every patch as a row, `(E * positions, numbers)`."""
        window = self.node.geometry
        assert isinstance(window, Window)
        edges = [(p, p) for p in window.padding]
        wrapped = window.mode == "circular"
        x = np.pad(self.images, [(0, 0), (0, 0), *edges], mode="wrap" if wrapped else "constant")
        taps = []
        for tap in product(*(range(size) for size in window.kernel)):
            where = tuple(
                slice(at * d, at * d + (out - 1) * s + 1, s)
                for at, d, s, out in zip(tap, window.dilation, window.stride, self.node.shape.positions, strict=True)
            )
            taps.append(x[(slice(None), slice(None), *where)])
        rows = np.stack(taps, axis=-1)  # (E, C, *positions, taps)
        return np.moveaxis(rows, 1, -1).reshape(len(x) * self.node.shape.position_count, -1)


@dataclass(frozen=True)
class PatchesNearby:
    """Covariances of random filters of patches: those of the convolution itself, or behind a norm (`matrix` and
    `centred`: what it makes of the patches)."""

    patches: Patches
    matrix: NDArray[np.float64] | None = None
    centred: bool = False

    def at(self, offset: tuple[int, ...]) -> Field:
        """Of every sample with the one so far away, 0 where there is none, `(E, *positions)`."""
        (law,) = self.patches.node.weights.values()
        here, there = overlap(offset, self.patches.node.shape.positions)
        out = np.zeros(self._values.shape[:-1])
        one, other = (self._values[(slice(None), *at)] for at in (here, there))
        out[(slice(None), *here)] = np.einsum("...n,...n->...", one, other)
        return out if self.centred else out + law.bias_std**2

    def gram(self, examples: int, places: tuple[int, ...]) -> NDArray[np.float64] | None:
        """E z_a z_b of the convolution itself over the first examples at some places, `(R, R)`; None behind a norm."""
        if self.centred:
            return None
        (law,) = self.patches.node.weights.values()
        values = self._values.reshape(len(self._values), self.patches.node.shape.position_count, -1)
        rows = values[:examples][:, list(places)].reshape(examples * len(places), -1)
        return np.asarray(rows @ rows.T + law.bias_std**2 + law.bias_mean**2)

    @cached_property
    def _values(self) -> Field:
        return self.patches.through(self.matrix, self.centred)


def patches_of(network: Network, path: str, batch: Field | None) -> Patches | None:
    """What an output is random filters of, where it is a convolution of the input; `batch` in torch layout."""
    if batch is None or path == INPUT or network.input.shape.kind == "ids":
        return None
    node = network[path]
    first = node.inputs == (INPUT,) and node.component.coherence.kind == "fresh" and len(node.weights) == 1
    if not first or not isinstance(node.geometry, Window):
        return None
    return Patches(node, np.moveaxis(np.asarray(batch, dtype=float), network.input.shape.channel_axis, 1))
