"""The function of a pointwise component with its parameters bound to numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lensnet.algebra.pointwise import PointwiseFunction, pointwise
from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.language.formula import evaluate_number, expression_of, is_name
from lensnet.language.source import did_you_mean


def bound_function(component: Component, parameters: Mapping[str, Any]) -> PointwiseFunction:
    """The component's `function:` at these parameters; equal requests share one object (and its tables).

    Raises ValueError for a component without a function, FormulaError for a wrong one.
    """
    if component.function is None:
        raise ValueError(f"{component.name} is not a pointwise function")
    numbers: dict[str, float] = {}
    for name, spec in component.parameters.items():
        value = parameters.get(name)
        if isinstance(value, int | float):
            numbers[name] = float(value)
            if spec.symbol:
                numbers[spec.symbol] = float(value)
    kinks = component.spec.kinks
    return _bound(component.name, component.function, tuple(sorted(numbers.items())), tuple(kinks or ()))


def function_called(text: str, parameters: Mapping[str, float] | None = None) -> PointwiseFunction:
    """The function of a component of the catalogue (`tanh`), or of a formula in x (`x*sigmoid(2*x)`).

    parameters: values of the component's parameters, or of further names in the formula; the others keep their default.

    Raises ValueError (FormulaError for a wrong formula) with a suggestion.
    """
    given = dict(parameters or {})
    if text in catalog():
        component = catalog()[text]
        if component.function is None:
            raise ValueError(f"{text} is not a pointwise function: an activation is needed, tanh for one")
        unknown = [name for name in given if name not in component.parameters]
        if unknown:
            known = ", ".join(component.parameters) or "no parameters"
            raise ValueError(f"{text} has no parameter {unknown[0]!r}: it has {known}")
        values: dict[str, float] = {}
        for name, spec in component.parameters.items():
            value = given.get(name, getattr(spec, "default", None))
            if value is None:
                raise ValueError(f"{text} needs a value of its parameter {name!r}")
            values[name] = float(evaluate_number(value, values))
        return bound_function(component, values)
    if is_name(text) and text != "x":
        guess = did_you_mean(text, [name for name in catalog() if catalog()[name].function is not None])
        raise ValueError(f"no component is called {text!r}" + (f"\n  = help: {guess}" if guess else ""))
    expression = expression_of(text, ["x", *given])
    return pointwise(expression, name=text, parameters=given)


@lru_cache(maxsize=4096)
def _bound(name: str, text: str, numbers: tuple[tuple[str, float], ...], kinks: tuple[str, ...]) -> PointwiseFunction:
    values = dict(numbers)
    expression = expression_of(text, ["x", *values])
    places = [float(evaluate_number(kink, values)) for kink in kinks]
    return pointwise(expression, name=name, parameters=values, kinks=places)
