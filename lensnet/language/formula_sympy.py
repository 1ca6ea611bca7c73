"""A checked formula as a sympy expression. The tree is whitelisted already; here the bounds are kept while sympy,
which simplifies as it builds (x - x is 0, 9**y * 9**(1 - y) is 9), puts numbers where the text had symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from lensnet.language.formula_bounds import COMPARE, MAX_EXPONENT, Facts, facts_of, rational
from lensnet.language.formula_tree import MAX_BITS, FormulaError, Term
from lensnet.language.functions import CONSTANTS, FunctionRule

MAX_EXP_COEFFICIENT = 1000  # c in exp(c*log(b) + x), which sympy turns into b**c * exp(x)
RELATIONS = {"<": sympy.StrictLessThan, "<=": sympy.LessThan, ">": sympy.StrictGreaterThan, ">=": sympy.GreaterThan}
NOT_NUMBERS = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)


def build(
    term: Term, symbols: Mapping[str, Any], functions: Mapping[str, FunctionRule], let: Mapping[str, Term]
) -> Any:
    """The sympy expression of `term`, with the abbreviations of `let` written out. Raises FormulaError."""
    return _Builder(symbols, functions, let).build(term)[0]


class _Builder:
    def __init__(
        self, symbols: Mapping[str, Any], functions: Mapping[str, FunctionRule], let: Mapping[str, Term]
    ) -> None:
        self.symbols, self.functions, self.let = symbols, functions, let
        self.written_out: dict[str, tuple[Any, Facts]] = {}

    def build(self, term: Term) -> tuple[Any, Facts]:
        if term.kind == "symbol":
            if term.name in self.let:
                if term.name not in self.written_out:
                    self.written_out[term.name] = self.build(self.let[term.name])
                return self.written_out[term.name]
            if term.name in CONSTANTS and term.name not in self.symbols:
                return sympy.pi, Facts(None, CONSTANTS[term.name])
            return self.symbols.get(term.name, sympy.Symbol(term.name, real=True)), Facts()
        built = [self.build(arg) for arg in term.args]
        rule = self.functions.get(term.name) if term.kind == "call" else None
        facts = facts_of(term, [known for _, known in built], rule)
        try:
            value = self.construct(term, built, rule, facts)
        except FormulaError:
            raise
        except RecursionError:
            raise term.error("this is nested too deeply") from None
        except Exception as error:  # whatever sympy raises on an expression it cannot hold
            raise term.error(f"this cannot be built ({type(error).__name__})") from None
        return value, _settled(term, value, facts)

    def construct(self, term: Term, built: list[tuple[Any, Facts]], rule: FunctionRule | None, facts: Facts) -> Any:
        args = [value for value, _ in built]
        if term.kind == "number":
            return _number(term.value)
        if term.kind == "minus":
            return -args[0]
        if term.kind == "inverse":
            return sympy.Pow(args[0], -1)
        if term.kind == "sum":
            return sympy.Add(*args)
        if term.kind == "product":
            return sympy.Mul(*args)
        if term.kind == "power":
            _check_power(term.args[1], args[0], args[1])
            return sympy.Pow(*args)
        if term.kind in COMPARE:
            return RELATIONS[term.kind](*(_comparable(value, known) for value, known in built), evaluate=False)
        if rule is None:
            return sympy.Function(term.name, real=True)(*args)
        if rule.compares:
            if facts.estimate is not None:
                return _comparable(None, facts)
            args = [_comparable(value, known) for value, known in built]
        if term.name == "exp":
            _check_exp(term.args[0], args[0])
        return rule.build(sympy, *args)


def _number(value: Fraction | None) -> Any:
    assert value is not None
    return sympy.Rational(value.numerator, value.denominator)


def _comparable(value: Any, facts: Facts) -> Any:
    """`value`, or a rational in place of a constant: sympy compares constants such as exp(sin(3)) slowly."""
    if facts.estimate is None:
        return value
    return _number(facts.exact if facts.exact is not None else Fraction(facts.estimate))


def _check_power(term: Term, base: Any, exponent: Any) -> None:
    _check_exponent(term, exponent, MAX_EXPONENT)
    for factor in sympy.Mul.make_args(base):
        if isinstance(factor, sympy.exp):  # exp(c*y)**(log(9)/y) is 9**c
            _check_exp(term, factor.exp * exponent)


def _check_exp(term: Term, argument: Any) -> None:
    if argument.has(sympy.log):
        _check_exponent(term, argument, MAX_EXP_COEFFICIENT)


def _check_exponent(term: Term, exponent: Any, limit: int) -> None:
    """Refuses large numbers in a symbolic exponent: 9**y * 9**(c - y) is 9**c once sympy has multiplied it out."""
    if exponent.is_Number:
        return  # its size is among the facts
    for part in sympy.Add.make_args(exponent):
        if abs(part.as_coeff_Mul()[0]) > limit:
            raise term.error(f"a number in an exponent is at most {limit}")


def _settled(term: Term, value: Any, facts: Facts) -> Facts:
    """The facts of what sympy made of `term`: finite, real, of bounded size, and constant where symbols cancelled."""
    if term.kind in COMPARE:
        if value.free_symbols or value.atoms(AppliedUndef):
            return facts
        raise term.error("this condition depends on no symbol", "write the value that holds")
    if value in NOT_NUMBERS or value is sympy.S.ImaginaryUnit:
        raise term.error("this is not a finite real number")
    coefficient = value if value.is_Rational else value.as_coeff_Mul()[0]
    if coefficient.is_Rational and max(int(coefficient.p).bit_length(), int(coefficient.q).bit_length()) > 2 * MAX_BITS:
        raise term.error("the numbers in this are too large")
    if value.is_Pow:
        _check_exponent(term, value.exp, MAX_EXPONENT if value.base is not sympy.E else MAX_EXP_COEFFICIENT)
    if facts.estimate is not None or value.free_symbols or value.atoms(AppliedUndef):
        return facts
    if not value.is_Rational:
        raise term.error("the symbols cancel in this part", "write the constant that remains")
    return rational(Fraction(int(value.p), int(value.q)))
