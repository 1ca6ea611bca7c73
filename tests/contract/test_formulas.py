"""Every formula of the catalogue, as the engine computes it, against what its text says.

The reference walks the parsed text with mpmath at 30 digits and simplifies nothing; the engine builds an expression,
simplifies it, puts it in a form that keeps its digits, and runs a tape. Slopes are compared with differences of the
reference, since derivatives are taken by rules.
"""

from __future__ import annotations

import zlib

import mpmath
import numpy as np
import pytest

import lensnet.algebra.mixing  # noqa: F401  registers its special functions
from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.catalog.effects import CompiledFormula
from lensnet.catalog.functions import bound_function
from lensnet.language.formula import evaluate_number, read_formula
from lensnet.language.formula_tree import Term
from tests.expressions.as_written import stand_in, value_of

POINTS = 3


def formulas(component: Component) -> list[CompiledFormula]:
    models = component._models.values()
    out = [f for model in models for f in (model.formula, model.error_formula) if f is not None]
    out += list(component.coherence.factors.values())
    for assumption in component.assumptions:
        if assumption.comparison is not None:
            out += [assumption.comparison.larger, assumption.comparison.smaller]
    return out


def points(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_effect_is_computed_as_it_is_written(name: str) -> None:
    component, rng = catalog()[name], points(name)
    for formula in formulas(component):
        tape = formula.tape
        if any(_wants_fields(call) for call in _calls(formula)):
            continue
        for _ in range(POINTS):
            given = {symbol: float(rng.uniform(0.3, 0.95)) for symbol in sorted(formula.symbols)}
            with mpmath.workdps(30):
                values = {symbol: mpmath.mpf(value) for symbol, value in given.items()}
                for short, text in formula.let:
                    values[short] = value_of(read_formula(text), values)
                expected = value_of(read_formula(formula.text), values)
            found = tape(given, operators=dict.fromkeys(tape.operators, stand_in))
            expected_number = float("nan") if isinstance(expected, mpmath.mpc) else float(expected)
            np.testing.assert_allclose(found, expected_number, rtol=1e-12, atol=1e-14, err_msg=formula.text)


POINTWISE = sorted(name for name in catalog() if catalog()[name].function is not None)


@pytest.mark.parametrize("name", POINTWISE)
def test_every_function_and_its_slope_are_those_of_the_text(name: str) -> None:
    component, rng = catalog()[name], points(name)
    assert component.function is not None
    numbers: dict[str, float] = {}
    for key, spec in component.parameters.items():
        value = float(evaluate_number(spec.default if spec.default is not None else 0.7, numbers))
        numbers |= dict.fromkeys(filter(None, (key, spec.symbol)), value)
    function, term = bound_function(component, numbers), read_formula(component.function)
    x = np.concatenate([rng.uniform(-4, 4, 12), rng.uniform(-30, 30, 4)])
    x = x[[all(abs(point - kink) > 1e-3 for kink in function.kinks.points) for point in x]]
    with mpmath.workdps(340):  # a tail is what cancels down to 1e-305
        # a default is the decimal that stands in the file
        exact = {key: mpmath.mpf(repr(value)) for key, value in numbers.items()}
        values = [float(value_of(term, {**exact, "x": mpmath.mpf(point)})) for point in x]
        slopes = [
            float(mpmath.diff(lambda z: value_of(term, {**exact, "x": z}), mpmath.mpf(point), h=mpmath.mpf("1e-12")))
            for point in x
        ]
    np.testing.assert_allclose(function(x), values, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(function.derivative(x), slopes, rtol=1e-10, atol=1e-11)


def _wants_fields(call: str) -> bool:
    """Softmax, attention, gates and recurrence: functions of whole fields, with tests of their own."""
    return call in SPECIAL_FUNCTIONS and SPECIAL_FUNCTIONS[call].numpy.__module__.startswith("lensnet.algebra.mixing")


def _calls(formula: CompiledFormula) -> set[str]:
    found: set[str] = set()

    def walk(term: Term) -> None:
        if term.kind == "call":
            found.add(term.name)
        for arg in term.args:
            walk(arg)

    for text in (formula.text, *(text for _, text in formula.let)):
        walk(read_formula(text))
    return found
