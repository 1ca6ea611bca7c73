"""The problem that an algorithm works on, as declared: parameters and the constants of its modes as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from lensnet.language.document import Document
from lensnet.language.formula import FormulaError, evaluate_number
from lensnet.language.source import did_you_mean
from lensnet.language.symbols import MODE_INDICES
from lensnet.network.graph import INPUT, InputSource
from lensnet.network.parameters import ParameterReader, numeric_symbols
from lensnet.network.placed import Number, Placed, Scope
from lensnet.network.refused import Refused
from lensnet.network.shape import Shape

if TYPE_CHECKING:
    from lensnet.catalog.component import Component

MOST_MODES = 20_000
EACH_MODE, MOST_SHOWN = "each_mode", 100
"""The option of every objective that gives each mode a row of its own, and how many may have one."""


class Objective(NamedTuple):
    """An objective with its parameters.

    `modes`: their number along each axis. `spectrum` and `start`: by name, one number for every mode (pairs row by
    row): the constants of the modes, and the coordinates of the iterate at the start. `each_mode`: the error of every
    mode has a row of its own.
    """

    component: Component
    parameters: Mapping[str, Any]
    modes: tuple[int, ...]
    spectrum: Mapping[str, tuple[float, ...]]
    start: Mapping[str, tuple[float, ...]]
    each_mode: bool = False

    @property
    def mode_count(self) -> int:
        return prod(self.modes)

    @property
    def quantities(self) -> list[str]:
        """Names of what is predicted and measured after every step."""
        spec = self.component.spec.objective
        return list(spec.quantities) if spec is not None else []

    @property
    def drawn(self) -> bool:
        """Whether the seed draws the start."""
        return self.component.spec.objective is not None and self.component.spec.objective.drawn

    @property
    def numbers(self) -> dict[str, float]:
        """The parameters as numbers, by name and symbol, and the number of modes."""
        given = numeric_symbols(self.component, self.parameters)
        return {**{name: float(value) for name, value in given.items()}, "modes": float(self.mode_count)}


def objective_source(
    component: Component, given: Mapping[str, Any], constants: Scope, document: Document
) -> InputSource:
    """The input that an objective is: its start. Raises Refused with every problem of the declaration."""
    place = ("input",)
    each_mode = given.get(EACH_MODE, False)
    if not isinstance(each_mode, bool):
        raise Refused([document.problem((*place, EACH_MODE), f"`{EACH_MODE}` is true or false, not {each_mode!r}")])
    given = {name: value for name, value in given.items() if name != EACH_MODE}
    placed = Placed(INPUT, component, given, {}, constants, (), place)
    reader = ParameterReader(document)
    parameters = reader.read(placed, constants)
    scope: dict[str, Number | None] = dict(numeric_symbols(component, parameters))
    spec = component.spec.objective
    assert spec is not None

    def number(text: str, scope: Scope) -> Number:
        try:
            return evaluate_number(text, scope)
        except FormulaError as error:
            message = f"{component.name}: `{text}`: {error.message}"
            raise Refused([document.problem(place, message)]) from None

    def count(text: str, what: str) -> int:
        value = number(text, scope)
        if value != int(value) or value < 1:
            raise Refused([document.problem(place, f"{component.name} would have {value:g} {what}")])
        return int(value)

    axes = tuple(count(text, "modes") for text in spec.axes)
    size = count(spec.size, "numbers in its iterate")
    if prod(axes) > MOST_MODES:
        told = f"{component.name} would have {prod(axes):,} modes; {MOST_MODES:,} are the most"
        raise Refused([document.problem(place, told)])
    if each_mode and (spec.error is None or spec.gradient or prod(axes) > MOST_SHOWN):
        why = (
            "has no modes of its own"
            if spec.error is None or spec.gradient
            else f"has {prod(axes)} modes, {MOST_SHOWN} are the most"
        )
        raise Refused([document.problem((*place, EACH_MODE), f"no row for each mode: {component.name} {why}")])
    scope["modes"] = prod(axes)
    spectrum: dict[str, list[float]] = {name: [] for name in spec.spectrum}
    start: dict[str, list[float]] = {name: [] for name in spec.coordinates}
    for indices in product(*(range(axis) for axis in axes)):
        inner = {**scope, **dict(zip(MODE_INDICES, indices, strict=False))}
        for values, texts in ((spectrum, spec.spectrum), (start, spec.coordinates)):
            for name, text in texts.items():
                inner[name] = value = number(text, inner)
                values[name].append(float(value))
    objective = Objective(
        component,
        parameters,
        axes,
        {name: tuple(values) for name, values in spectrum.items()},
        {name: tuple(values) for name, values in start.items()},
        each_mode,
    )
    return InputSource(component.name, {**parameters, "source": component.name}, Shape(size, (), "state"), 0, objective)


def missing_names(component: Component, objective: Objective) -> list[str]:
    """What a step made for one kind of objective asks for and this one has not."""
    known = {*objective.numbers, *objective.spectrum, *objective.start}
    return [name for name in component.spec.uses if name not in known]


def unknown_for(component: Component, objective: Objective) -> str:
    """Help for a step that does not fit its objective."""
    missing = missing_names(component, objective)
    return did_you_mean(missing[0], [*objective.numbers, *objective.spectrum, *objective.start])
