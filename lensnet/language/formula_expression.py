"""A checked formula as an expression. The tree is whitelisted already; here the bounds are kept while building, which
simplifies (x - x is 0, 9**y * 9**(1 - y) is 9), puts numbers where the text had symbols.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction

from lensnet.expressions import functions as builders
from lensnet.expressions.arithmetic import add, mul, power
from lensnet.expressions.functions import Condition, Named
from lensnet.expressions.traverse import contains, factors_of, terms_of
from lensnet.expressions.tree import PI, Expr, Function, Number, Power, Symbol, float_of, is_exp, size_of
from lensnet.language.formula_bounds import COMPARE, MAX_EXPONENT, Facts, facts_of, rational
from lensnet.language.formula_tree import MAX_BITS, FormulaError, Term
from lensnet.language.functions import CONSTANTS, FunctionRule

MAX_EXP_COEFFICIENT = 1000  # c in exp(c*log(b) + x), which becomes b**c * exp(x)
RELATIONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def build(
    term: Term, functions: Mapping[str, FunctionRule], let: Mapping[str, Term], symbols: Collection[str] = ()
) -> Expr:
    """The expression of `term`, with the abbreviations of `let` written out. Raises FormulaError.

    symbols: names that are symbols even where a constant has the same name.
    """
    return _Builder(functions, let, symbols).build(term)[0]


class _Builder:
    def __init__(
        self, functions: Mapping[str, FunctionRule], let: Mapping[str, Term], symbols: Collection[str]
    ) -> None:
        self.functions, self.let, self.symbols = functions, let, symbols
        self.written_out: dict[str, tuple[Expr, Facts]] = {}

    def build(self, term: Term) -> tuple[Expr, Facts]:
        if term.kind == "symbol":
            if term.name in self.let:
                if term.name not in self.written_out:
                    self.written_out[term.name] = self.build(self.let[term.name])
                return self.written_out[term.name]
            if term.name in CONSTANTS and term.name not in self.symbols:
                return PI, Facts(None, CONSTANTS[term.name])
            return Symbol(term.name), Facts()
        built = [self.build(arg) for arg in term.args]
        rule = self.functions.get(term.name) if term.kind == "call" else None
        facts = facts_of(term, [known for _, known in built], rule)
        try:
            value = self.construct(term, built, rule, facts)
        except FormulaError:
            raise
        except RecursionError:
            raise term.error("this is nested too deeply") from None
        return value, _settled(term, value, facts)

    def construct(self, term: Term, built: list[tuple[Expr, Facts]], rule: FunctionRule | None, facts: Facts) -> Expr:
        args = [value for value, _ in built]
        if term.kind == "number":
            assert term.value is not None
            return Number(term.value)
        if term.kind == "minus":
            return -args[0]
        if term.kind == "inverse":
            return power(args[0], Number(-1))
        if term.kind == "sum":
            return add(*args)
        if term.kind == "product":
            return mul(*args)
        if term.kind == "power":
            _check_power(term.args[1], args[0], args[1])
            return power(*args)
        if term.kind in COMPARE:
            return Condition(RELATIONS[term.kind], tuple(_comparable(value, known) for value, known in built))
        if rule is None:
            return Named(term.name, tuple(args))
        if rule.compares:
            if facts.estimate is not None:
                return _comparable(None, facts)
            args = [_comparable(value, known) for value, known in built]
        if term.name == "exp":
            _check_exp(term.args[0], args[0])
        return rule.build(builders, *args)


def _comparable(value: Expr | None, facts: Facts) -> Expr:
    """`value`, or a rational in place of a constant: what is compared with it is a number then."""
    if facts.estimate is None:
        assert value is not None
        return value
    return Number(facts.exact if facts.exact is not None else Fraction(facts.estimate))


def _check_power(term: Term, base: Expr, exponent: Expr) -> None:
    _check_exponent(term, exponent, MAX_EXPONENT)
    for factor in factors_of(base):
        if is_exp(factor):  # exp(c*y)**(log(9)/y) is 9**c
            _check_exp(term, mul(factor.args[0], exponent))


def _check_exp(term: Term, argument: Expr) -> None:
    if contains(argument, lambda part: isinstance(part, Function) and part.name == "log"):
        _check_exponent(term, argument, MAX_EXP_COEFFICIENT)


def _check_exponent(term: Term, exponent: Expr, limit: int) -> None:
    """Refuses large numbers in a symbolic exponent: 9**y * 9**(c - y) is 9**c once it is multiplied out."""
    if isinstance(exponent, Number):
        return  # its size is among the facts
    for part in terms_of(exponent):
        if size_of(part.coefficient()[0]) > limit:
            raise term.error(f"a number in an exponent is at most {limit}")


def _settled(term: Term, value: Expr, facts: Facts) -> Facts:
    """The facts of what became of `term`: finite, real, of bounded size, and constant where symbols cancelled."""
    if term.kind in COMPARE:
        if not value.is_constant:
            return facts
        raise term.error("this condition depends on no symbol", "write the value that holds")
    size = value.coefficient()[0]
    if not abs(float_of(size)) < float("inf") and not isinstance(size, Fraction):
        raise term.error("this is not a finite real number")
    if isinstance(size, Fraction) and max(size.numerator.bit_length(), size.denominator.bit_length()) > 2 * MAX_BITS:
        raise term.error("the numbers in this are too large")
    if isinstance(value, Power) or is_exp(value):
        _check_exponent(term, value.args[-1], MAX_EXPONENT if isinstance(value, Power) else MAX_EXP_COEFFICIENT)
    if facts.estimate is not None or not value.is_constant:
        return facts
    if not (isinstance(value, Number) and isinstance(value.value, Fraction)):
        raise term.error("the symbols cancel in this part", "write the constant that remains")
    return rational(value.value)
