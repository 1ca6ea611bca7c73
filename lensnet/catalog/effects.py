"""The formulas of a component as programs: parsed and compiled on first use, once per component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.algebra.tape import Tape, compile_tape
from lensnet.expressions.functions import Named
from lensnet.expressions.traverse import parts
from lensnet.language.formula import expression_of, parse_formula
from lensnet.language.symbols import OPERATORS, SPECIAL

if TYPE_CHECKING:
    import sympy

    from lensnet.expressions.tree import Expr

Operators = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class CompiledFormula:
    """A formula text with the symbols it may use; expressions and the program are made when needed.

    `let`: abbreviations in the order they are defined; each may use those before it.
    """

    text: str
    symbols: frozenset[str] = field(repr=False)
    let: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @cached_property
    def short_expression(self) -> sympy.Expr:
        """The formula as written, abbreviations unexpanded, for sympy."""
        symbols = [*sorted(self.symbols), *(name for name, _ in self.let)]
        return parse_formula(self.text, symbols, OPERATORS, special=SPECIAL, let={})

    @cached_property
    def tree(self) -> Expr:
        """The formula in the symbols of the engine, abbreviations expanded (by the parser, which bounds the result)."""
        return expression_of(self.text, self.symbols, OPERATORS, special=SPECIAL, let=dict(self.let))

    @cached_property
    def expression(self) -> sympy.Expr:
        """The same for sympy."""
        from lensnet.expressions.symbolic import to_sympy

        return to_sympy(self.tree)

    @cached_property
    def uses(self) -> frozenset[str]:
        """The symbols that its value depends on."""
        return frozenset(self.tape.symbols)

    @cached_property
    def tape(self) -> Tape:
        called = {part.name for part in parts(self.tree) if isinstance(part, Named)}
        if (called & SPECIAL.keys()) - SPECIAL_FUNCTIONS.keys():
            import lensnet.algebra.mixing  # noqa: F401  registers its functions, which few networks call
        return compile_tape(self.tree)

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
    assumptions: tuple[AssumptionModel, ...] = ()
    floor_formula: CompiledFormula | None = None

    def evaluate(self, env: Mapping[str, Any], operators: Operators) -> Any:
        return self.formula.evaluate(env, operators)

    def floor(self, env: Mapping[str, Any], operators: Operators) -> float | None:
        """Declared absolute error at these inputs; None where none is declared."""
        return None if self.floor_formula is None else float(np.max(self.floor_formula.evaluate(env, operators)))

    def error(self, env: Mapping[str, Any], operators: Operators) -> float:
        """Declared relative error at these inputs (dimensionless, >= 0)."""
        if self.error_formula is None:
            return 0.0
        return float(np.max(self.error_formula.evaluate(env, operators)))


@dataclass(frozen=True)
class Comparison:
    """`larger >= smaller`, or `larger > smaller` when strict."""

    larger: CompiledFormula
    smaller: CompiledFormula
    strict: bool

    def margin(self, env: Mapping[str, Any], operators: Operators) -> float:
        """Slack relative to the larger side, at its worst over a field: in [-2, 2]; negative when it fails."""
        return self.slack(self.larger.evaluate(env, operators), self.smaller.evaluate(env, operators))

    def slack(self, larger: Any, smaller: Any) -> float:
        """The margin of two sides that are numbers or fields already."""
        slack = float(np.min(relative_slack(np.asarray(larger, float), np.asarray(smaller, float))))
        return -_STRICT if self.strict and slack == 0 else slack

    def holds(self, env: Mapping[str, Any]) -> bool:
        return self.margin(env, {}) >= 0


def relative_slack(left: Any, right: Any) -> Any:
    """(left - right) relative to the larger of the two."""
    return (left - right) / np.maximum(np.maximum(np.abs(left), np.abs(right)), _TINY)


@dataclass(frozen=True)
class AssumptionModel:
    """A condition of the effects; `comparison` is None when it is true by construction."""

    text: str
    comparison: Comparison | None = None
    below: str | None = None


_TINY = 1e-300
_STRICT = 1e-12
