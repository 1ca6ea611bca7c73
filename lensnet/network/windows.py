"""Which positions attend to one another: everywhere, inside windows, or among places that lie apart.

A window of attention is `size` neighbouring positions along each axis; `spread`, the positions that are equally far
apart (as many, `size` of each axis), so that every group looks over the whole grid. After a cyclic shift by `shift` the
last windows hold what were two edges of the picture: there, only positions of the same edge see each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log, prod
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lensnet.network.graph import Node


@dataclass(frozen=True)
class Windows:
    """`size`: positions of a window along each axis, 0 for all. Raises ValueError where windows do not tile."""

    positions: tuple[int, ...]
    size: tuple[int, ...] = ()
    spread: bool = False
    shift: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(whole % part for whole, part in zip(self.positions, self.sizes, strict=True)):
            raise ValueError(f"windows of {self.sizes} do not tile {self.positions}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The window along each axis in numbers."""
        wanted = (*self.size, *(0,) * len(self.positions))
        return tuple(wanted[axis] or whole for axis, whole in enumerate(self.positions))

    @property
    def length(self) -> int:
        """Positions in one window."""
        return prod(self.sizes)

    @property
    def count(self) -> int:
        return prod(self.positions) // self.length

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(windows, positions of one): the places, counted row by row, that each window holds."""
        return self._cut(np.arange(prod(self.positions)).reshape(self.positions))

    @cached_property
    def inverse(self) -> NDArray[np.int64]:
        """Where each place stands in the list of all windows one after the other."""
        return np.argsort(self.order.reshape(-1))

    def hidden(self, causal: bool = False, reach: int = 0) -> NDArray[np.bool_]:
        """(1 or windows, queries, keys): what a query does not see: with `reach`, keys that are so far away or more."""
        hidden = np.zeros((1, self.length, self.length), bool)
        if any(self.shift):
            edge = self._cut(self._edges())
            hidden = edge[:, :, None] != edge[:, None, :]
        ahead = np.arange(self.length) - np.arange(self.length)[:, None]
        hidden = hidden | (np.abs(ahead) >= reach) if reach else hidden
        return hidden | (ahead > 0) if causal else hidden

    def _edges(self) -> NDArray[np.int64]:
        """A number per place that differs where a cyclic shift has brought two edges together."""
        out = np.zeros(self.positions, np.int64)
        for axis, (whole, part) in enumerate(zip(self.positions, self.sizes, strict=True)):
            moved = self.shift[axis] if axis < len(self.shift) else 0
            place = np.arange(whole)
            part_of = np.where(place >= whole - moved, 2, place >= whole - part) if moved else 0 * place
            out = 3 * out + part_of.reshape([-1 if i == axis else 1 for i in range(len(self.positions))])
        return out

    def _cut(self, grid: NDArray[np.int64]) -> NDArray[np.int64]:
        rank = len(self.positions)
        split: list[int] = []
        for whole, part in zip(self.positions, self.sizes, strict=True):
            split += [part, whole // part] if self.spread else [whole // part, part]
        outer = [2 * axis + self.spread for axis in range(rank)]
        inner = [2 * axis + 1 - self.spread for axis in range(rank)]
        return grid.reshape(split).transpose(*outer, *inner).reshape(self.count, self.length)


def windows_of(node: Node, port: int = 0) -> Windows:
    """The windows of an attention component at one of its ports; one window of everything where it has none. Keys and
    values are cut into as many as the queries. Raises ValueError where they do not tile the positions."""
    positions = node.shapes_in[port].positions
    rank = len(positions)
    pairs = [node.parameters.get(name, 0) for name in ("window", "shift")]
    size, shift = (tuple(pair) if isinstance(pair, tuple) else (int(pair),) * rank for pair in pairs)
    asked = node.shapes_in[0].positions
    if asked != positions and len(asked) == rank:
        sizes = zip(size, positions, asked, strict=False)
        size = tuple(own * part // whole if part and own * part % whole == 0 else part for part, own, whole in sizes)
    return Windows(positions, size[:rank], bool(node.parameters.get("spread", False)), shift[:rank])


def logit_sink(node: Node, most_heads: int = 1 << 10) -> NDArray[np.float64]:
    """Logits of the sinks of attention, (heads,): Gaussian quantiles of standard deviation `sink_std` about the
    logarithm of `sink`; minus infinity where there is none."""
    weight, spread = float(node.parameters.get("sink", 0.0)), float(node.parameters.get("sink_std", 0.0))
    if not weight:
        return np.full(1, -np.inf)
    heads = min(int(node.parameters["heads"]), most_heads) if spread else 1
    places = np.array([NormalDist().inv_cdf((head + 0.5) / heads) for head in range(heads)])
    return log(weight) + spread * places / max(float(np.std(places)), 1e-9)


def logit_bias(node: Node, most_heads: int = 1 << 10) -> NDArray[np.float64]:
    """What is added to the logits, (1 or windows, 1 or heads, queries, keys): minus infinity where a key is hidden,
    minus slope times distance (Press et al. 2022), and a fixed table of Gaussian numbers of `bias_std`."""
    ask, answer = windows_of(node), windows_of(node, 1)
    shape = (ask.length, answer.length)
    limits = bool(node.parameters["causal"]), int(node.parameters.get("reach", 0))
    hidden = ask.hidden(*limits) if shape[0] == shape[1] else np.zeros((1, *shape), bool)
    out = np.where(hidden, -np.inf, 0.0)[:, None]
    heads = int(node.parameters["heads"])
    few = np.linspace(0, heads - 1, min(heads, most_heads)).round()
    if node.parameters.get("alibi"):
        ago = np.arange(shape[1]) - np.arange(shape[0])[:, None]
        out = out + (2.0 ** (-8 * (few + 1) / heads))[:, None, None] * ago
    if spread := float(node.parameters.get("bias_std", 0.0)):
        drawn = np.random.default_rng(len(few)).standard_normal((len(few), *shape))
        out = out + spread * drawn
    return out
