"""The kernel level by displacement: what large images need, where every pair of positions would be too many.

A state keeps mean and second moment of every sample exactly as fields, and of pairs the average at each displacement.
The pair (p, p + delta) is taken as the correlation of its displacement times the sizes at both ends: exact for
stationary signals, where a random convolution keeps the autocovariance and a pool filters it; with zero padding the
sizes fade towards the edges (exactly) while the correlation there is taken from the average. Activations act at the
typical size of an example; for homogeneous ones (ReLU) that makes no difference. Forward only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.catalog.effects import CompiledFormula
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, Pairs, StationaryPairs
from lensnet.network.geometry import Pointwise, Window
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.environment import static_symbols
from lensnet.predict.kernel.forward import KERNEL, Step
from lensnet.predict.kernel.pointwise import applied, behind, uniform
from lensnet.predict.kernel.propagate import Kernels
from lensnet.predict.moments.pointwise import function_of
from lensnet.predict.operators import FieldOperators, constants_for
from lensnet.predict.prediction import Check

_OPERATORS = {"gather_same", "gather_all", "mean_same", "mean_all", "sum_ports", "sum_pairs", "batch_normalised"}
NOT_STATIONARY = "no formula by displacement"
STATIONARY_ERROR = 0.05
"""Relative to the diagonal: what taking correlations by displacement alone leaves, see docs/levels.md."""
_UNEVEN = 1.0


def input_by_displacement(network: Network, batch: Field, examples: int) -> Covariance:
    """The state at the input, exactly: autocovariances of the first `examples` of a batch in torch layout."""
    shape = network.input.shape
    layout = StationaryPairs(examples, shape.positions)
    x = np.moveaxis(np.asarray(batch[:examples], dtype=float), shape.channel_axis, 0)
    pairs = sum(layout.products(channel, channel) for channel in x) / len(x)
    return Covariance(x.mean(axis=0), np.asarray(pairs), layout, own=(x**2).mean(axis=0))


def propagate_by_displacement(network: Network, source: Covariance) -> Kernels:
    """States at every output as far as there are formulas by displacement."""
    out = Kernels(network, {INPUT: source}, {INPUT: ()}, {INPUT: 0.0})
    out.inverse_width[INPUT] = 0.0
    for node in network:
        if any(producer not in out.states for producer in node.inputs):
            out.reasons[node.path] = "behind a component without a formula by displacement"
            continue
        states = [out.states[producer] for producer in node.inputs]
        step = _forward(node, states, network)
        if step.state is None:
            out.reasons[node.path] = step.reason
            continue
        out.states[node.path], out.checks[node.path] = step.state, step.checks
        out.errors[node.path] = step.error + max(out.errors[producer] for producer in node.inputs)
        out.errors[node.path] = max(out.errors[node.path], _positional_error(node, states, step.state))
        own = 1.0 / node.shape.channels if node.component.coherence.kind == "fresh" else 0.0
        out.inverse_width[node.path] = own + max(out.inverse_width[producer] for producer in node.inputs)
    return out


def _positional_error(node: Node, states: Sequence[Covariance], state: Covariance) -> float:
    """The error of the mode, relative to the second moment: a pool over positions leaves it, and less signal."""
    if node.shape.positions:
        return STATIONARY_ERROR
    if not states[0].layout.positions:
        return 0.0
    before, after = float(states[0].second_moment.mean()), float(state.second_moment.mean())
    return STATIONARY_ERROR * before / after if after > 0 else 1.0


def _forward(node: Node, states: Sequence[Covariance], network: Network) -> Step:
    if node.component.is_fork:
        return Step(states[0])
    if node.component.function is not None:
        return Step(_pointwise(node, states[0]))
    models = node.component.effects(Level.KERNEL)
    model = models.get(KERNEL)
    windows = isinstance(node.geometry, Window | Pointwise) or not {"gather_same", "gather_all"} & _called(node)
    if model is None or not _called(node) <= _OPERATORS or not windows or node.shapes_in[0].kind == "ids":
        return Step(None, reason=NOT_STATIONARY)
    made = StationaryPairs(states[0].layout.examples, node.shape.positions)
    means = models.get("mean") or node.component.effects(Level.MOMENTS).get("mean")
    checks: list[Check] = [_even(states)]
    if len(states) > 1 and not _apart(network, node):
        checks.append(Check("the signals that meet are uncorrelated", -1.0, Level.FLUCTUATION))
    place = _Place(node, states, made)
    mean = np.zeros(made.field_shape)
    if means is not None:
        value = np.asarray(place.fields.evaluate(means.formula), dtype=float)
        mean = np.broadcast_to(_shaped(value, made), made.field_shape)
    place.mean = mean
    own = np.broadcast_to(_shaped(np.asarray(place.own.evaluate(model.formula)), made), made.field_shape)
    pairs = place.pairs(model.formula, own)
    error = 0.0
    if model.error_formula is not None:
        error = float(np.max(place.fields.evaluate(model.error_formula)))
    state = Covariance(mean, pairs, made, own=own)
    return Step(replace(state, population=_population(node, states, state)), tuple(checks), error)


def _called(node: Node) -> set[str]:
    model = node.component.effects(Level.KERNEL).get(KERNEL)
    return set(model.formula.tape.operators) if model else set()


def _pointwise(node: Node, state: Covariance) -> Covariance | None:
    population = behind(state)
    population = replace(population, own=population.second_moment)
    if not uniform(population):
        return None
    layout: StationaryPairs = state.layout
    function = applied(population, function_of(node))
    own = expect(function, population.mean, np.sqrt(population.variance))
    size, level = np.sqrt(population.variance), population.mean
    scale = layout.products(size, size)
    covariance = population.pairs - layout.products(level, level) if level.any() else population.pairs
    cosine = np.clip(np.divide(covariance, scale, out=np.zeros(layout.shape), where=scale > 0), -1.0, 1.0)
    variance, mean = layout.typical(population.variance), layout.typical(level)
    first, second = layout.upper
    tail = (-1, *([1] * len(layout.positions)))
    v1, v2 = variance[first].reshape(tail), variance[second].reshape(tail)
    m1, m2 = mean[first].reshape(tail), mean[second].reshape(tail)
    means = (m1, m2) if mean.any() else (0.0, 0.0)
    found = dual(function).kernel(v1, v2, cosine[first, second] * np.sqrt(v1 * v2), *means).value
    power = expect(function, mean, np.sqrt(variance)).second_moment.value
    ratio = layout.mirrored(found / np.sqrt(power[first] * power[second]).reshape(tail))
    root = np.sqrt(own.second_moment.value)
    after = replace(population, chain=(function,), scale=1.0, shift=0.0)
    known = after if state.population is not None else None
    return Covariance(own.mean.value, ratio * layout.products(root, root), layout, known, own.second_moment.value)


def _population(node: Node, states: Sequence[Covariance], state: Covariance) -> Population | None:
    """A Gaussian where fresh weights made one, or where a linear component keeps it."""
    kind = node.component.coherence.kind
    plain = all(one.population is not None and one.population.plain for one in states)
    if node.component.law == "broken" or not (kind == "fresh" or (kind == "linear" and plain)):
        return None
    terms = float(list(node.weights.values())[-1].fan_in) if node.weights else float("inf")
    return Population(
        node.path, node.shape.channels, terms, state.mean, state.pairs, state.layout, own=state.second_moment
    )


class _Place:
    """Formulas of one component read three ways: for fields (means), for samples with themselves, and for pairs."""

    def __init__(self, node: Node, states: Sequence[Covariance], made: StationaryPairs) -> None:
        self.node, self.states, self.made = node, states, made
        self.given: StationaryPairs = states[0].layout
        self.field = FieldOperators(node.geometry, self.given.positions, made.positions)
        self.static: Mapping[str, Any] = {**static_symbols(node), "drawn": 0.0, "examples": float(node.examples)}
        self.constants = constants_for(node)
        self.mean: Field | None = None
        field: dict[str, Callable[..., Any]] = {
            "gather": self.field.gather,
            "mean_positions": self.field.mean_positions,
            "mean_batch": self.field.mean_batch,
            "sum_ports": _sum,
            "sum_pairs": _sum,
        }
        own: dict[str, Callable[..., Any]] = {
            **field,
            "gather_same": self.field.gather,
            "gather_all": lambda k: self._window_own(),
            "mean_same": lambda k: self._mean_same_own(k),
            "mean_all": lambda k: np.einsum("aa->a", self.given.mean_all(self.states[0].pairs)),
            "batch_normalised": lambda k, eps: self._batch_own(k, eps),
        }
        self.fields = _Reading(self, "field", field)
        self.own = _Reading(self, "own", own)
        pairs: dict[str, Callable[..., Any]] = {
            "sum_ports": _sum,
            "sum_pairs": _sum,
            "gather_same": self._gather_same,
            "gather_all": self._gather_all,
            "mean_same": self.given.mean_same,
            "mean_all": self.given.mean_all,
            "batch_normalised": self._batch,
        }
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
        tail = (1,) * len(self.made.positions)
        scale = np.sqrt(np.multiply.outer(power, power)).reshape(*np.shape(found)[:2], *tail)
        root = np.sqrt(own)
        return np.asarray(found / np.where(scale > 0, scale, 1.0) * self.made.products(root, root))

    def _gather_same(self, k: Any) -> Pairs:
        """Average over outputs of sum_t K[p + t, p' + t], each pair at its displacement's correlation."""
        if isinstance(self.node.geometry, Pointwise):
            return self.given.whole(k)
        geometry = self.node.geometry
        assert isinstance(geometry, Window)
        root = np.sqrt(self.states[0].second_moment)
        cosine = _over(self.given.whole(k), self.given.products(root, root))
        total = np.zeros(self.made.shape)
        for tap in product(*(range(size) for size in geometry.kernel)):
            seen = self._seen(root, tap)
            total += self.made.correlated(seen, seen)
        picked = cosine
        for axis, (n, made, stride) in enumerate(
            zip(self.given.positions, self.made.positions, geometry.stride, strict=True)
        ):
            apart = np.arange(1 - made, made) * stride
            if geometry.mode == "circular":
                apart = (apart + n // 2) % n - n // 2
            inside = np.abs(apart) < n
            index = np.where(inside, apart, 0) + n - 1
            picked = np.take(picked, index, axis=2 + axis)
        return picked * total / self.made.counts

    def _seen(self, field: Field, tap: tuple[int, ...]) -> Field:
        """The field as one tap of every output window sees it, zero outside: (E, *positions_out)."""
        geometry = self.node.geometry
        assert isinstance(geometry, Window)
        out = field
        for axis, offset in enumerate(tap):
            n = self.given.positions[axis]
            where = np.arange(self.made.positions[axis]) * geometry.stride[axis]
            where = where - geometry.padding[axis] + offset * geometry.dilation[axis]
            inside = np.ones(len(where), bool) if geometry.mode == "circular" else (where >= 0) & (where < n)
            out = np.take(out, where % n, axis=1 + axis)
            out = out * inside.reshape(-1, *([1] * (len(tap) - axis - 1)))
        return out

    def _taps(self) -> list[tuple[int, ...]]:
        geometry = self.node.geometry
        assert isinstance(geometry, Window)
        return list(product(*(range(size) for size in geometry.kernel)))

    def _gather_all(self, k: Any) -> Pairs:
        """Average over outputs of the sum over all pairs of taps."""
        geometry = self.node.geometry
        assert isinstance(geometry, Window)
        root = np.sqrt(self.states[0].second_moment)
        cosine = _over(self.given.whole(k), self.given.products(root, root))
        total = np.zeros(self.made.shape)
        for a in self._taps():
            for b in self._taps():
                picked = cosine
                for axis, (n, made) in enumerate(zip(self.given.positions, self.made.positions, strict=True)):
                    apart = np.arange(1 - made, made) * geometry.stride[axis]
                    apart = apart + (b[axis] - a[axis]) * geometry.dilation[axis]
                    picked = np.take(picked, np.clip(apart, 1 - n, n - 1) + n - 1, axis=2 + axis)
                total += picked * self.made.correlated(self._seen(root, a), self._seen(root, b))
        return total / self.made.counts

    def _window_own(self) -> Field:
        """The same of every output with itself, place by place."""
        root = np.sqrt(self.states[0].second_moment)
        cosine = _over(self.states[0].pairs, self.given.products(root, root))
        own = np.einsum("aa...->a...", cosine)
        geometry = self.node.geometry
        assert isinstance(geometry, Window)
        total = np.zeros(self.made.field_shape)
        for a in self._taps():
            for b in self._taps():
                apart = [
                    (y - x) * step + n - 1
                    for x, y, step, n in zip(a, b, geometry.dilation, self.given.positions, strict=True)
                ]
                factor = own[(slice(None), *apart)].reshape(-1, *([1] * len(self.made.positions)))
                total += factor * self._seen(root, a) * self._seen(root, b)
        return total

    def _mean_same_own(self, k: Any) -> Field:
        return np.asarray(k, dtype=float).reshape(self.given.examples, -1).mean(axis=1)

    def _batch(self, k: Any, eps: Any) -> Pairs:
        """Sharp lengths: what batch normalisation does when the batch holds many samples."""
        across = self.given.mean_all(k)
        row = across.mean(axis=1)
        total = float(row.mean())
        tail = (1,) * len(self.given.positions)
        centred = self.given.whole(k) - row.reshape(-1, 1, *tail) - row.reshape(1, -1, *tail) + total
        return centred / (self._spread() + float(eps))

    def _batch_own(self, k: Any, eps: Any) -> Field:
        row = self.given.mean_all(self.states[0].pairs).mean(axis=1)
        centred = np.asarray(k) - 2 * row.reshape(-1, *([1] * len(self.given.positions))) + row.mean()
        return np.maximum(centred, 0.0) / (self._spread() + float(eps))

    def _spread(self) -> float:
        across = self.given.mean_all(self.states[0].pairs)
        return float(self.states[0].second_moment.mean() - across.mean())


class _Reading:
    """A formula with its symbols looked up in one of the ways."""

    def __init__(self, place: _Place, way: str, operators: Mapping[str, Callable[..., Any]]) -> None:
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
        if name == "m_out":
            return place.mean
        if name[-2:] in ("_1", "_2"):
            return self._sample(name[:-2], name[-1])
        if name == "s_batch":
            return np.full(place.given.field_shape, place.given.mean_all(place.states[0].pairs).mean())
        if name == "same":
            return 1.0 if self.way in ("own", "typical own") else place.given.same
        if name == "port_channels":
            sizes = np.array([float(shape.channels) for shape in node.shapes_in])
            return sizes.reshape(-1, *([1] * (len(place.made.field_shape) + (self.way == "pairs"))))
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
        root = np.sqrt(state.second_moment)
        tail = (1,) * len(state.layout.positions)
        typical = np.sqrt(np.multiply.outer(power, power)).reshape(*state.layout.shape[:2], *tail)
        return _over(state.pairs, state.layout.products(root, root)) * typical

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


def _even(states: Sequence[Covariance]) -> Check:
    """Sizes that vary from place to place: where they vary much, typical sizes say little."""
    power = [state.second_moment.reshape(len(state.second_moment), -1) for state in states]
    spread = max(float(np.max(p.var(axis=1) / np.maximum(p.mean(axis=1) ** 2, 1e-300))) for p in power)
    text = f"sizes vary little over positions (relative variance at most {_UNEVEN:g})"
    return Check(text, max(1.0 - spread / _UNEVEN, -1.0), Level.FLUCTUATION)


def _apart(network: Network, node: Node) -> bool:
    """Whether all ports but one are linear functions of fresh weights that no other port has seen."""
    ends = [_last_fresh(network, producer) for producer in node.inputs]
    known = [end for end in ends if end is not None]
    return len(known) >= len(ends) - 1 and len(set(known)) == len(known)


def _last_fresh(network: Network, path: str) -> str | None:
    while path != INPUT:
        node = network[path]
        if node.component.coherence.kind == "fresh":
            return path
        if node.component.coherence.kind != "linear" or len(node.ports) > 1 and not node.component.is_fork:
            return None
        path = node.inputs[0]
    return None


def _over(pairs: Pairs, scale: Pairs) -> Pairs:
    return np.divide(pairs, scale, out=np.zeros(np.shape(pairs)), where=scale > 0)


def _shaped(value: Field, made: StationaryPairs) -> Field:
    return value.reshape(-1, *([1] * len(made.positions))) if value.ndim == 1 and made.positions else value


def _sum(stacked: Any) -> Any:
    return np.sum(stacked, axis=0)
