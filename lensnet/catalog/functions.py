"""The function of a pointwise component with its parameters bound to numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lensnet.algebra.pointwise import PointwiseFunction, pointwise
from lensnet.catalog.component import Component
from lensnet.language.formula import evaluate_number, parse_formula


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


@lru_cache(maxsize=4096)
def _bound(name: str, text: str, numbers: tuple[tuple[str, float], ...], kinks: tuple[str, ...]) -> PointwiseFunction:
    values = dict(numbers)
    expression = parse_formula(text, ["x", *values])
    places = [float(evaluate_number(kink, values)) for kink in kinks]
    return pointwise(expression, name=name, parameters=values, kinks=places)
