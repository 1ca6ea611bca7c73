"""Where a repeated block leaves the second moment alone, and what becomes of errors and gradients there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from lensnet.algebra.fixed_points import FixedPoints, fixed_points
from lensnet.derivation.section import entry_of
from lensnet.levels.signal import Law, Signal
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Prediction

Array = NDArray[np.float64]
_LOW, _HIGH = 1e-8, 1e8
_NARROW = (1e-4, 1e4)
"""Range searched where every evaluation is a whole image."""
_MOST_VALUES = 400_000
_MANY_POSITIONS = 64
_CRITICAL = 1e-5
_NEUTRAL = 1e-9
_MEAN_ROUNDS = 3


@dataclass(frozen=True)
class BlockPoint:
    """A fixed point q of a block's map.

    slope: of the map there; stability: stable, unstable or neutral; gradient: factor on the gradient's second moment
    per block; phase: ordered, critical or chaotic (factor below, at, above 1).
    """

    q: float
    slope: float
    stability: str
    gradient: float
    phase: str


@dataclass(frozen=True)
class Edge:
    """The edge of chaos: every gain of the block times `factor` makes the gradient factor 1 at the fixed point `q`."""

    factor: float
    q: float


class BlockMap:
    """q -> q' of one block by the engine itself. `part`: the block as a network, taken out of `network`."""

    def __init__(self, network: Network, part: Network) -> None:
        self.part = part
        before = _arriving(network, entry_of(network, part))
        mean, second = float(np.mean(before.mean)), float(np.mean(before.second_moment))
        self.centred = not abs(mean) > 1e-9 * np.sqrt(max(second, 0.0))  # also where nothing is known
        self.gaussian = before.law is not None and not before.law.chain

    def __call__(self, q: Any) -> Array:
        """q' for an array of q, of the same shape: averages over positions."""
        flat = np.atleast_1d(np.asarray(q, dtype=float)).ravel()
        out = np.concatenate([self._second(chunk) for chunk in self._chunks(flat)])
        return out.reshape(np.shape(q))

    def gradient(self, q: float) -> float:
        """Second moment of the gradient at the block's input over that at its output."""
        prediction = self._propagate(np.array([q]), self._mean(np.array([q])), gradients=True)
        first = self.part.consumers(INPUT)[0]
        return float(np.mean(prediction.gradients[first[0].path, first[1]]))

    def slope(self, q: float) -> float:
        """dq'/dq at q."""
        step = 1e-3
        values = np.log(self(q * np.exp(step * np.array([-2.0, -1.0, 1.0, 2.0]))))
        return float(self(np.array([q]))[0] / q * (values @ np.array([1.0, -8.0, 8.0, -1.0])) / (12.0 * step))

    def second_moments(self, q: float) -> dict[str, float]:
        """Path -> second moment behind each component when q enters."""
        signals = self._propagate(np.array([q]), self._mean(np.array([q]))).signals
        return {node.path: float(np.mean(signals[node.path].second_moment)) for node in self.part}

    def scaled(self, factor: float) -> BlockMap:
        """The same block with every gain multiplied."""
        nodes = tuple(replace(node, weights=_louder(node, factor)) for node in self.part)
        other = object.__new__(BlockMap)
        other.part, other.centred, other.gaussian = replace(self.part, nodes=nodes), self.centred, self.gaussian
        return other

    @cached_property
    def _at_one(self) -> Prediction:
        return self._propagate(np.ones(1), np.zeros(1), gradients=True)

    @cached_property
    def doubts(self) -> list[str]:
        """What the engine says is not known in this block, at q = 1."""
        prediction = self._at_one
        checks = [check for effect in prediction.effects for check in effect.checks]
        failed = dict.fromkeys(check.text for check in checks if check.margin is not None and check.margin < 0)
        return [text for text in failed if not text.startswith("everything upstream")]

    @cached_property
    def modelled(self) -> bool:
        """Whether every component of the block has effect models in both directions."""
        prediction = self._at_one
        first = self.part.consumers(INPUT)[0]
        modelled = all(effect.status != "not-modelled" for effect in prediction.effects)
        return modelled and (first[0].path, first[1]) in prediction.gradients

    @cached_property
    def growth(self) -> float | None:
        """q'/q when it is the same for every q: a positively homogeneous block."""
        ratio = self(np.array(_PROBES)) / np.array(_PROBES)
        return float(ratio[0]) if np.ptp(ratio) <= 1e-9 * abs(ratio[0]) else None

    @cached_property
    def found(self) -> FixedPoints:
        """All fixed points in the range searched."""
        low, high = _NARROW if self.part.input.shape.position_count > _MANY_POSITIONS else (_LOW, _HIGH)
        return fixed_points(self, low, high)

    def points(self) -> list[BlockPoint]:
        """The fixed points at q > 0, and at 0 where the map goes there, ascending, with gradient factors."""
        if self.growth is not None:
            gradient = self.gradient(1.0)
            if abs(self.growth - 1) < _NEUTRAL:
                return []
            stability = "stable" if abs(self.growth) < 1 else "unstable"
            return [BlockPoint(0.0, self.growth, stability, gradient, phase(gradient))]
        points = [*([self.found.at_zero] if self.found.at_zero is not None else []), *self.found.points]
        out = []
        for point in points:
            gradient = self.gradient(point.q if point.q > 0 else self.found.low)
            out.append(BlockPoint(point.q, point.slope, point.stability, gradient, phase(gradient)))
        return out

    def edge_of_chaos(self, start: Sequence[BlockPoint]) -> Edge | None:
        """The factor on all gains at which the gradient factor is 1, by Newton's method from a fixed point at q > 0."""
        for point in start:
            if point.q <= 0 or not point.gradient > 0:
                continue
            found = _solved(self._balance, np.array([np.log(point.q), 0.0]))
            if found is not None:
                return Edge(float(np.exp(found[1])), float(np.exp(found[0])))
        return None

    def _balance(self, at: Array) -> Array:
        q, factor = np.exp(np.clip(at, -18.0, 18.0))
        block = self.scaled(float(factor))
        return np.log([float(block(np.array([q]))[0]) / q, block.gradient(float(q))])

    def _chunks(self, q: Array) -> list[Array]:
        mixes = any("mean_batch" in text for node in self.part for text in _formulas(node))
        size = 1 if mixes else max(1, _MOST_VALUES // self.part.input.shape.position_count)
        return [q[start : start + size] for start in range(0, q.size, size)]

    def _second(self, q: Array) -> Array:
        return self._output(self._propagate(q, self._mean(q))).second_moment.reshape(q.size, -1).mean(axis=1)

    def _mean(self, q: Array) -> Array:
        """The mean that goes with each q when the block follows itself."""
        mean = np.zeros_like(q)
        if self.centred:
            return mean
        for _ in range(_MEAN_ROUNDS):
            out = self._output(self._propagate(q, mean)).mean.reshape(q.size, -1).mean(axis=1)
            mean = np.clip(out, -np.sqrt(q), np.sqrt(q))
        return mean

    def _output(self, prediction: Prediction) -> Signal:
        return prediction.signals[self.part.nodes[-1].path]

    def _propagate(self, q: Array, mean: Array, gradients: bool = False) -> Prediction:
        shape = self.part.input.shape
        size = (q.size, *shape.positions)
        column = (q.size, *([1] * len(shape.positions)))
        means = np.broadcast_to(mean.reshape(column), size)
        seconds = np.broadcast_to(q.reshape(column), size)
        law = Law(means, seconds - means**2, float("inf"), INPUT)
        return propagate(self.part, Signal(means, seconds, law), gradients=gradients)


_PROBES = (1e-6, 1e-2, 1.0, 30.0, 1e4)


def phase(gradient: float) -> str:
    """Of a gradient factor per block."""
    if abs(gradient - 1) < _CRITICAL:
        return "critical"
    return "ordered" if gradient < 1 else "chaotic"


def _arriving(network: Network, entry: str) -> Signal:
    """The signal at a producer when a standard normal enters the network: which means are 0, what is normal."""
    shape = network.input.shape
    zeros = np.zeros((1, *shape.positions))
    start = Signal(zeros, zeros + 1, Law(zeros, zeros + 1, float("inf"), INPUT))
    if entry == INPUT:
        return start
    place = [node.path for node in network].index(entry)
    before = replace(network, nodes=network.nodes[: place + 1])
    return propagate(before, start, gradients=False).signals[entry]


def _louder(node: Node, factor: float) -> dict[str, Any]:
    return {name: replace(law, variance=law.variance * factor**2) for name, law in node.weights.items()}


def _formulas(node: Node) -> list[str]:
    texts = list(node.component.spec.let.values())
    for effects in node.component.spec.effects.values():
        for entry in effects.values():
            texts += [e.formula for e in (entry.values() if isinstance(entry, dict) else [entry])]
    return texts


def _solved(balance: Callable[[Array], Array], start: Array) -> Array | None:
    with np.errstate(all="ignore"):
        result = root(balance, start, tol=1e-12)
        residual = np.abs(balance(result.x))
    inside = np.all(np.abs(result.x) < 17.0) and abs(result.x[1]) < np.log(20.0)
    return np.asarray(result.x) if inside and np.all(residual < 1e-8) else None
