"""What a kernel formula may name, looked up when its program asks for it.

Everything that is a field over samples (`m`, `q`, `window_divisor`, ...) can be written with `_1` or `_2` behind it:
the number of the first or of the second sample of a pair. `k` is E x_1 x_2, `p` the same of the gradient at the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from lensnet.catalog.effects import CompiledFormula
from lensnet.levels.bands import BandPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, FullPairs, Pairs
from lensnet.network.graph import Node
from lensnet.predict.codes import code_table, turn_cosines
from lensnet.predict.constants import constants_for
from lensnet.predict.environment import static_symbols
from lensnet.predict.kernel.band_operators import BandOperators
from lensnet.predict.kernel.operators import PairOperators
from lensnet.predict.operators import window_operators
from lensnet.predict.prediction import Check

_UNKNOWN = float("nan")
CrossPairs = Mapping[tuple[int, int], Pairs | None]
TABLE = (0, -1)
"""Key of E (input)(row) of every sample with every row of a table that is the matrix here too, `(N, rows)`; rows that
no sample has met are left out, since they are uncorrelated with the input."""


class KernelPlace:
    """One component at its place: layouts, operators and the symbols that never change.

    `given`: layout of the first port, `ports`: of every port (default: all like the first). `measured`: the states are
    those of one weight draw, not averages over draws. `memory`: what an operator worked out and will be asked for
    again; it belongs to the states of one propagation.
    """

    def __init__(
        self,
        node: Node,
        given: Any,
        made: Any,
        measured: bool = False,
        ports: Sequence[FullPairs] = (),
        memory: dict[str, Any] | None = None,
    ) -> None:
        self.node, self.given, self.made, self.measured = node, given, made, measured
        self.ports: tuple[Any, ...] = tuple(ports) or (given,) * len(node.ports)
        banded = isinstance(given, BandPairs) or isinstance(made, BandPairs)
        self.operators: Any = (BandOperators if banded else PairOperators)(node, given, made)
        self.static: dict[str, Any] = {**static_symbols(node), "drawn": 0.0}
        self.override: Mapping[str, float] = {}
        self.memory: dict[str, Any] = {} if memory is None else memory
        self._constants: Mapping[str, Any] | None = None

    @property
    def constants(self) -> Mapping[str, Any]:
        if self._constants is None:
            self._constants = constants_for(self.node)
        return self._constants


class Environment:
    """The symbols and operators of one component for the states at its ports.

    `fields`: the formula is one of fields over samples (a mean), not of pairs. `mean`: that of the output.
    """

    def __init__(
        self,
        place: KernelPlace,
        states: Sequence[Covariance],
        crosses: CrossPairs | None = None,
        p: Any = None,
        fields: bool = False,
        mean: Field | None = None,
    ) -> None:
        self.place, self.states, self.crosses, self.p, self.fields = place, states, crosses or {}, p, fields
        self.mean = mean
        self.sampled = 0.0  # largest relative standard error that a sampled average has left
        self.passed: Pairs | None = None  # the gradient below times the slopes of the function before the component
        self.checks: list[Check] = []  # what an operator took for granted
        self.missing: set[str] = set()
        self._known: dict[str, Any] = {}

    def evaluate(self, formula: CompiledFormula) -> Any:
        """The formula here; NaN where a symbol has no value."""
        tape = formula.tape
        values = {name: self[name] for name in tape.symbols}
        return tape(values, operators=self.functions() if tape.operators else None)

    def functions(self) -> dict[str, Callable[..., Any]]:
        table = {**self.place.operators.table, **_field_operators(self.place)}
        table |= {"sum_ports": _sum_first, "sum_pairs": _sum_first}
        for name, function in _state_operators().items():
            table[name] = _bound(function, self)
        return table

    def __getitem__(self, name: str) -> Any:
        if name in self.place.static:
            override = self.place.override
            return override[name] if name in override else self.place.static[name]
        if name not in self._known:
            self._known[name] = self._look_up(name)
        return self._known[name]

    def _look_up(self, name: str) -> Any:
        if name == "examples":
            return float(self.place.node.examples)
        if name == "gaussian":
            return float(all(state.population is not None and state.population.plain for state in self.states))
        if name == "law_known":
            return float(all(state.population is not None for state in self.states))
        if name == "p":
            return self.p
        if name == "m_out":
            return self.mean
        if name == "same_place_out":
            return self.place.made.same_place
        if name in _PAIRS:
            return getattr(self._layout(), name)
        if name == "code_kernel":
            layout = self.place.given
            return layout.whole(np.tile(code_table(self.place.node), (layout.examples, layout.examples)))
        if name in ("turn_kernel", "turn_mean"):
            turns = _turns(self.place)
            return turns[:1] if name == "turn_mean" else np.tile(turns, (self.place.given.examples,) * 2)
        if name in ("row_level", "row_pairs"):
            return self._of_rows(name)
        port = self._of_port(name)
        if port is not None:
            return port
        if name[-2:] in ("_1", "_2"):
            return self._seen_by(name[:-2], name[-1])
        if name in self.place.constants:
            return self.place.constants[name]
        self.missing.add(name)
        return _UNKNOWN

    def _of_rows(self, name: str) -> Any:
        if TABLE not in self.crosses:
            return 0.0
        met = self.crosses[TABLE]
        if met is None:
            self.checks.append(Check("the correlation of the signal with the table is known", -1.0, Level.FLUCTUATION))
            return 0.0
        return met.sum(axis=1).reshape(self.place.given.field_shape) if name == "row_level" else met @ met.T

    def _layout(self) -> Any:
        return self.place.given

    def _seen_by(self, name: str, which: str) -> Any:
        value = self[name]
        if np.ndim(value) == 0:
            return value
        layout = self.place.made if name.startswith(("window_", "m_out")) else self._layout_of(name)
        if self.place.node.component.variadic and np.ndim(value) > len(layout.field_shape):
            return np.stack([layout.first(v) if which == "1" else layout.second(v) for v in value])
        return layout.first(value) if which == "1" else layout.second(value)

    def _layout_of(self, name: str) -> FullPairs:
        """The layout of the port that a symbol names behind its underscore, else that of the first."""
        ports = self.place.node.ports
        named = name.split("_", 1)[-1]
        return self.place.ports[ports.index(named)] if named in ports and len(ports) > 1 else self.place.given

    def _of_port(self, name: str) -> Any:
        """Fields and pairs of the states at the ports."""
        node = self.place.node
        if node.component.variadic:
            return self._variadic(name)
        if name == "k":
            return self.states[0].pairs
        if name in _FIELDS:
            return _FIELDS[name](self.states[0], self.place)
        if len(node.ports) < 2:
            return None
        for index, port in enumerate(node.ports):
            if name == f"k_{port}":
                return self.states[index].pairs
            for symbol, read in _FIELDS.items():
                if name == f"{symbol}_{port}":
                    return read(self.states[index], self.place)
        for i, a in enumerate(node.ports):
            for j, b in enumerate(node.ports):
                if name == f"k_{a}_{b}":
                    return self._cross(i, j, name)
                if name == f"o_{a}_{b}":
                    return self.place.given.diagonal(self.place.given.whole(self._cross(i, j, name)))
        return None

    def _variadic(self, name: str) -> Any:
        if name == "k":
            return np.stack([self.place.given.whole(state.pairs) for state in self.states])
        if name == "cross":
            count = range(len(self.states))
            return np.stack([self.place.given.whole(self._cross(i, j, name)) for i in count for j in count if i != j])
        if name == "port_channels":
            sizes = np.array([float(shape.channels) for shape in self.place.node.shapes_in])
            return sizes.reshape(
                -1, *([1] * len(self.place.given.field_shape if self.fields else self.place.given.shape))
            )
        if name in _FIELDS:
            return np.stack([_FIELDS[name](state, self.place) for state in self.states])
        return None

    def _cross(self, i: int, j: int, name: str) -> Pairs:
        """E x_1 y_2 of two ports; where nobody knows it, the product of the means, noted as missing."""
        if (i, j) in self.crosses:
            found = self.crosses[i, j]
        else:
            turned = self.crosses.get((j, i))
            found = None if turned is None else self.place.given.transposed(turned)
        if found is not None:
            return found
        self.missing.add(name)
        layout, first, second = self.place.given, self.states[i].mean, self.states[j].mean
        return first * second if self.fields else layout.first(first) * layout.second(second)


def _sum_first(stacked: Any) -> Any:
    return np.sum(stacked, axis=0)


def _mean_over_positions(field: Field) -> Field:
    axes = tuple(range(1, np.ndim(field)))
    return np.broadcast_to(field.mean(axis=axes, keepdims=True), field.shape) if axes else field


def _pooled(state: Covariance, place: KernelPlace) -> Field:
    """E (mean of x over the positions of an example)^2, at every position of it."""
    layout = state.layout
    own = np.diagonal(layout.mean_all(state.pairs))
    return np.broadcast_to(own.reshape(-1, *([1] * len(layout.positions))), layout.field_shape)


_FIELDS: Mapping[str, Callable[[Covariance, KernelPlace], Field]] = {
    "m": lambda state, place: state.mean,
    "q": lambda state, place: state.second_moment,
    "v": lambda state, place: state.variance,
    "m_mean": lambda state, place: _mean_over_positions(state.mean),
    "q_mean": lambda state, place: _mean_over_positions(state.second_moment),
    "s": _pooled,
    "s_batch": lambda state, place: np.full(state.layout.field_shape, state.layout.mean_all(state.pairs).mean()),
}
_PAIRS = ("same", "same_place", "same_example")


def _field_operators(place: KernelPlace) -> dict[str, Callable[..., Any]]:
    field = place.operators.field
    windows = window_operators(place.node) if "window" in place.node.parameters else {}
    return {
        **windows,
        "gather": field.gather,
        "scatter": field.scatter,
        "mean_positions": field.mean_positions,
        "mean_batch": field.mean_batch,
        "everywhere": field.everywhere,
    }


def _turns(place: KernelPlace) -> Field:
    """Cosines between the turns of positions, (T, T); those with the first position are the mean of what was one."""
    parameters = place.node.parameters
    width = place.node.shapes_in[0].channels // int(str(parameters["heads"]))
    return turn_cosines(place.given.places, width, float(str(parameters["base"])))


def _bound(function: Callable[..., Any], environment: Environment) -> Callable[..., Any]:
    return lambda *arguments: function(environment, *arguments)


STATE_OPERATORS: dict[str, Callable[..., Any]] = {}
"""Operators that need the whole state: attention, normalisation over a batch. Filled by `state_operator`."""
_HOMES = ("normalisation", "attention", "max_pooling", "responses", "recurrence", "routing")


def _state_operators() -> Mapping[str, Callable[..., Any]]:
    """All of them; the modules that hold them are imported when a formula first calls an operator."""
    for module in _HOMES:
        import_module(f"lensnet.predict.kernel.{module}")
    return STATE_OPERATORS


def state_operator(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register `function(environment, *arguments)` as an operator of kernel formulas."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        STATE_OPERATORS[name] = function
        return function

    return register
