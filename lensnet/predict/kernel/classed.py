"""The formulas of a component where pairs are known by class: for fields, samples with themselves, and averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lensnet.catalog.effects import CompiledFormula
from lensnet.levels.classes import AveragedPairs, ClassedPairs
from lensnet.levels.covariance import Covariance, Nearby
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.geometry import Pointwise, Window
from lensnet.network.graph import Node
from lensnet.predict.codes import code_table
from lensnet.predict.constants import constants_for
from lensnet.predict.environment import static_symbols
from lensnet.predict.kernel.classed_attention import UNALIKE, attended_own, attended_pairs
from lensnet.predict.kernel.classed_batch import Normalised, normalised_over_batch
from lensnet.predict.kernel.classed_maxima import ClassedPool
from lensnet.predict.kernel.patches import Patches
from lensnet.predict.operators import FieldOperators
from lensnet.predict.prediction import Check

OPERATORS = {
    "gather_same", "gather_all", "mean_same", "mean_all", "sum_ports", "sum_pairs", "batch_normalised",
    "window_max_kernel", "attended",
}  # fmt: skip
"""What a kernel formula may call here."""


class Place:
    """Formulas of one component read three ways: for fields (means), for samples with themselves, and for pairs.

    `patches`: what made the input, where that is a convolution of the images. `sampled`: the largest relative error
    that an operator has left; `checks`: what one took for granted.
    """

    def __init__(
        self, node: Node, states: Sequence[Covariance], made: ClassedPairs, patches: Patches | None = None
    ) -> None:
        self.node, self.states, self.made, self.patches = node, states, made, patches
        self.given: ClassedPairs = states[0].layout
        self.field = FieldOperators(node.geometry, self.given.positions, made.positions)
        self.static: Mapping[str, Any] = {**static_symbols(node), "drawn": 0.0, "examples": float(node.examples)}
        self.constants = constants_for(node)
        self.mean: Field | None = None
        self.sampled = 0.0
        self.checks: list[Check] = []
        self._normalised: Normalised | None = None
        self._pool: ClassedPool | None = None
        sums: dict[str, Callable[..., Any]] = {"sum_ports": _sum, "sum_pairs": _sum}
        field: dict[str, Callable[..., Any]] = {
            **sums,
            "gather": self.field.gather,
            "mean_positions": self.field.mean_positions,
            "mean_batch": self.field.mean_batch,
            "window_max_level": lambda k: self.pool.mean,
        }
        own: dict[str, Callable[..., Any]] = {
            **field,
            "gather_same": self.field.gather,
            "gather_all": lambda k: self._window_own(),
            "mean_same": lambda k: self._mean_same_own(k),
            "mean_all": lambda k: np.einsum("aa->a", self.given.mean_all(self.states[0].pairs)),
            "batch_normalised": lambda k, eps: self._batch(eps).own,
            "window_max_kernel": lambda k: self.pool.own,
            "attended": lambda k, gain, slope, width, channels, causal: attended_own(
                self.states[0], gain, float(slope), float(width), float(channels), bool(causal)
            ),
        }
        pairs: dict[str, Callable[..., Any]] = {
            **sums,
            "gather_same": self._gather_same,
            "gather_all": self._gather_all,
            "mean_same": self.given.mean_same,
            "mean_all": self.given.mean_all,
            "batch_normalised": lambda k, eps: self._batch(eps).pairs,
            "window_max_kernel": lambda k: self._maxima(),
            "attended": lambda k, gain, slope, width, channels, causal: self._attended(
                self._bias(gain, float(slope)), float(slope), bool(causal)
            ),
        }
        self.fields = _Reading(self, "field", field)
        self.own = _Reading(self, "own", own)
        self._direct = _Reading(self, "pairs", pairs)
        self._typical = _Reading(self, "typical", {})
        self._typical_own = _Reading(self, "typical own", {})

    def pairs(self, formula: CompiledFormula, own: Field) -> Pairs:
        """The pair field at the output: of averages where the formula is linear in them, else at typical sizes."""
        names = {name for name in formula.tape.symbols if name[-2:] in ("_1", "_2") and not name.startswith("window")}
        names -= set(self.static)
        if not names or formula.tape.operators:
            return np.array(self.made.whole(self._direct.evaluate(formula)))
        found = self.made.whole(self._typical.evaluate(formula))
        power = np.broadcast_to(self._typical_own.evaluate(formula), (self.made.examples,))
        scale = np.sqrt(np.multiply.outer(power, power)).reshape(*np.shape(found)[:2], *self.made.tail)
        root = np.sqrt(own)
        return np.asarray(found / np.where(scale > 0, scale, 1.0) * self.made.products(root, root))

    @property
    def pool(self) -> ClassedPool:
        """The maxima of this component's windows."""
        if self._pool is None:
            assert isinstance(self.node.geometry, Window)
            self._pool = ClassedPool(self.node.geometry, self.states[0], self.made)
        return self._pool

    def _attended(self, bias: float, slope: float, causal: bool) -> Pairs:
        if causal:
            self.checks.append(Check("positions may be exchanged: no mask tells them apart", -1.0, Level.FLUCTUATION))
        self.sampled = max(self.sampled, UNALIKE)
        return attended_pairs(self.states[0], bias, slope, causal)

    def _maxima(self) -> Pairs:
        if isinstance(self.given, AveragedPairs):
            text = "neighbours are no more alike than any two positions"
            self.checks.append(Check(text, -1.0, Level.FLUCTUATION))
        found = self.pool.pairs()
        self.sampled = max(self.sampled, self.pool.error)
        return found

    def _batch(self, eps: Any) -> Normalised:
        if self._normalised is None:
            found = self._normalised = normalised_over_batch(self.states[0], float(eps), self.patches)
            if self.static["mode_train"]:
                self.sampled = max(self.sampled, found.error)
                self.checks.append(found.check)
        return self._normalised

    @property
    def near(self) -> Nearby | None:
        """What is known place by place behind the component."""
        return None if self._normalised is None else self._normalised.near

    def _bias(self, gain: Any, slope: float) -> float:
        """What the variance of a query has beside slope times that of its token."""
        return max(0.0, float(np.mean(gain - slope * self.given.first(self.states[0].second_moment))))

    def _gather_same(self, k: Any) -> Pairs:
        """Average over outputs of sum_t K[p + t, p' + t], each pair at its class's correlation."""
        if isinstance(self.node.geometry, Pointwise):
            return self.given.whole(k)
        window = self._window
        root = np.sqrt(self.states[0].second_moment)
        picked = self.given.moved(
            self.given.cosines(self.given.whole(k), root), self.made, window.stride, window.mode == "circular"
        )
        seen = ((field, field) for field in (self._seen(root, tap) for tap in self._taps))
        return np.asarray(picked * self.made.correlated(seen) / np.maximum(self.made.counts, 1.0))

    def _gather_all(self, k: Any) -> Pairs:
        """Average over outputs of the sum over all pairs of taps."""
        window = self._window
        root = np.sqrt(self.states[0].second_moment)
        cosine = self.given.cosines(self.given.whole(k), root)
        total = np.zeros(self.made.shape)
        for a in self._taps:
            for b in self._taps:
                offset = tuple((y - x) * step for x, y, step in zip(a, b, window.dilation, strict=True))
                total += self.given.apart(
                    cosine, self.made, window.stride, offset, self._seen(root, a), self._seen(root, b)
                )
        return total / np.maximum(self.made.counts, 1.0)

    def _window_own(self) -> Field:
        """The same of every output with itself, place by place."""
        window = self._window
        root = np.sqrt(self.states[0].second_moment)
        own = np.einsum("aa...->a...", self.given.cosines(self.states[0].pairs, root))
        total = np.zeros(self.made.field_shape)
        for a in self._taps:
            for b in self._taps:
                offset = (np.array(b) - np.array(a)) * np.array(window.dilation)
                factor = self.given.at(own[:, None], offset).reshape(-1, *([1] * len(self.made.positions)))
                total += factor * self._seen(root, a) * self._seen(root, b)
        return total

    def _seen(self, field: Field, tap: tuple[int, ...]) -> Field:
        """The field as one tap of every output window sees it, zero outside: (E, *positions_out)."""
        geometry = self._window
        out = field
        for axis, offset in enumerate(tap):
            n = self.given.positions[axis]
            where = np.arange(self.made.positions[axis]) * geometry.stride[axis]
            where = where - geometry.padding[axis] + offset * geometry.dilation[axis]
            inside = np.ones(len(where), bool) if geometry.mode == "circular" else (where >= 0) & (where < n)
            out = np.take(out, where % n, axis=1 + axis)
            out = out * inside.reshape(-1, *([1] * (len(tap) - axis - 1)))
        return out

    @property
    def _window(self) -> Window:
        assert isinstance(self.node.geometry, Window)
        return self.node.geometry

    @property
    def _taps(self) -> list[tuple[int, ...]]:
        return list(product(*(range(size) for size in self._window.kernel)))

    def _mean_same_own(self, k: Any) -> Field:
        return np.asarray(k, dtype=float).reshape(self.given.examples, -1).mean(axis=1)


class _Reading:
    """A formula with its symbols looked up in one of the ways."""

    def __init__(self, place: Place, way: str, operators: Mapping[str, Callable[..., Any]]) -> None:
        self.place, self.way, self.operators = place, way, operators

    def evaluate(self, formula: CompiledFormula) -> Any:
        values = {name: self[name] for name in formula.tape.symbols}
        return formula.tape(values, operators=self.operators)

    def __getitem__(self, name: str) -> Any:
        place, node = self.place, self.place.node
        if name in place.static:
            return place.static[name]
        if name == "gaussian":
            return float(all(s.population is not None and s.population.plain for s in place.states))
        if name == "law_known":
            return float(all(s.population is not None for s in place.states))
        if name == "m_out":
            return place.mean
        if name[-2:] in ("_1", "_2"):
            return self._sample(name[:-2], name[-1])
        if name == "s_batch":
            return np.full(place.given.field_shape, place.given.mean_all(place.states[0].pairs).mean())
        if name == "code_kernel":
            table = code_table(node)
            own = np.diagonal(table)
            if self.way == "own":
                return own
            others = (table.sum() - own.sum()) / max(table.size - len(own), 1)
            return np.array([own.mean(), others]) if self.way != "typical own" else own.mean()
        if name == "same":
            return 1.0 if self.way in ("own", "typical own") else place.given.same
        if name == "port_channels":
            sizes = np.array([float(shape.channels) for shape in node.shapes_in])
            return sizes.reshape(-1, *([1] * len(place.made.shape if self.way == "pairs" else place.made.field_shape)))
        if name == "cross":
            ports = range(len(place.states))
            return np.stack([self._met(i, j) for i in ports for j in ports if i != j])
        return self._port(name)

    def _port(self, name: str) -> Any:
        place, node = self.place, self.place.node
        if node.component.variadic and name in ("m", "q", "v", "k"):
            return np.stack([self._of(state, name) for state in place.states])
        if name in ("m", "q", "v", "k"):
            return self._of(place.states[0], name)
        for i, a in enumerate(node.ports):
            for symbol in ("m", "q", "v", "k"):
                if name == f"{symbol}_{a}":
                    return self._of(place.states[i], symbol)
            for j, b in enumerate(node.ports):
                if name == f"k_{a}_{b}":
                    return self._met(i, j)
        return place.constants.get(name, float("nan"))

    def _of(self, state: Covariance, symbol: str) -> Any:
        if symbol == "m":
            return state.mean
        if symbol == "v":
            return state.variance
        if symbol == "q" or self.way in ("own", "field"):
            return state.second_moment
        if self.way == "pairs":
            return state.pairs
        power = state.layout.typical(state.second_moment)
        if self.way == "typical own":
            return power
        typical = np.sqrt(np.multiply.outer(power, power)).reshape(*state.layout.shape[:2], *state.layout.tail)
        return state.layout.cosines(state.pairs, np.sqrt(state.second_moment)) * typical

    def _sample(self, name: str, which: str) -> Any:
        value = self[name]
        layout = self.place.made if name.startswith(("window", "m_out")) else self.place.given
        if self.way == "own" or np.ndim(value) == 0:
            return value
        if self.way == "typical own":
            return layout.typical(value)
        if np.ndim(value) and np.shape(value) != layout.field_shape:
            value = np.broadcast_to(value, layout.field_shape)
        return layout.first(value) if which == "1" else layout.second(value)

    def _met(self, i: int, j: int) -> Any:
        """Two ports that are uncorrelated: the product of their means."""
        a, b = self.place.states[i].mean, self.place.states[j].mean
        if self.way in ("own", "field"):
            return a * b
        return self.place.given.products(a, b)


def _sum(stacked: Any) -> Any:
    return np.sum(stacked, axis=0)
