"""The formulas of a component as programs: parsed and compiled on first use, once per component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.algebra.tape import Tape, compile_tape
from lensnet.language.formula import parse_formula
from lensnet.language.symbols import OPERATORS

if TYPE_CHECKING:
    import sympy

Operators = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class CompiledFormula:
    """A formula text with the symbols it may use; the sympy expression and the program are made when needed."""

    text: str
    symbols: frozenset[str] = field(repr=False)

    @cached_property
    def expression(self) -> sympy.Expr:
        arities = {name: function.arity for name, function in SPECIAL_FUNCTIONS.items()}
        return parse_formula(self.text, sorted(self.symbols), OPERATORS, special=arities)

    @cached_property
    def tape(self) -> Tape:
        return compile_tape(self.expression)

    def evaluate(self, env: Mapping[str, Any], operators: Operators) -> Any:
        """The value at `env` (symbol name -> number or field); NaN where a symbol has no value."""
        values = {name: env.get(name, np.nan) for name in self.tape.symbols}
        return self.tape(values, operators=operators)


@dataclass(frozen=True)
class EffectModel:
    """One quantity as a formula of what comes in, with its declared relative error and its sources."""

    quantity: str
    formula: CompiledFormula
    error_formula: CompiledFormula | None = None
    cites: tuple[str, ...] = ()
    about: str = ""

    def evaluate(self, env: Mapping[str, Any], operators: Operators) -> Any:
        return self.formula.evaluate(env, operators)

    def error(self, env: Mapping[str, Any], operators: Operators) -> float:
        """Declared relative error at these inputs (dimensionless, >= 0)."""
        if self.error_formula is None:
            return 0.0
        return float(np.max(self.error_formula.evaluate(env, operators)))


@dataclass(frozen=True)
class AssumptionModel:
    """A condition of the effects. `larger >= smaller` must hold; both None when it is true by construction."""

    text: str
    larger: CompiledFormula | None = None
    smaller: CompiledFormula | None = None
    below: str | None = None
