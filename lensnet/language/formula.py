"""Formulas: a text is checked, turned into an expression, or evaluated to a number. It is never run as code.

`parse_formula` gives sympy's form, and imports it on first use; nothing else here needs it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lensnet.language.formula_bounds import COMPARE, Facts, facts_of, rational
from lensnet.language.formula_tree import MAX_BITS, MAX_LENGTH, FormulaError, Term, bits, normal_name, read_formula
from lensnet.language.functions import CONSTANTS, FUNCTIONS, WHERE, FunctionRule
from lensnet.language.source import did_you_mean

if TYPE_CHECKING:
    from lensnet.expressions.tree import Expr

__all__ = [
    "FUNCTIONS", "Formula", "FormulaError", "check_condition", "check_formula", "evaluate_number",
    "expression_of", "is_name", "normal_name", "parse_condition", "parse_formula", "read_formula",
]  # fmt: skip

Arity = int | tuple[int, int]
MAX_WRITTEN_OUT = 4000  # terms of a formula with its abbreviations written out


class Formula(NamedTuple):
    """A checked formula: its text, its tree, the symbols and functions it names, and abbreviations to write out."""

    text: str
    term: Term
    symbols: frozenset[str]
    functions: frozenset[str]
    let: Mapping[str, Term]


class _Abbreviation(NamedTuple):
    term: Term
    facts: Facts
    size: int


@dataclass
class _Scope:
    """What a formula may name. `numbers` holds the values when symbols stand for numbers."""

    symbols: Collection[str]
    functions: Mapping[str, FunctionRule]
    undefined: Mapping[str, Arity]
    numbers: Mapping[str, Facts] | None = None
    let: dict[str, _Abbreviation] = field(default_factory=dict)
    size: int = 0  # terms, with abbreviations written out
    used_symbols: set[str] = field(default_factory=set)
    used_functions: set[str] = field(default_factory=set)


def check_formula(
    text: str,
    symbols: Iterable[str],
    operators: Mapping[str, Arity] | Iterable[str] = (),
    functions: Mapping[str, FunctionRule] = FUNCTIONS,
    special: Mapping[str, Arity] | None = None,
    let: Mapping[str, str] | None = None,
) -> Formula:
    """Checks a formula without building it. Raises FormulaError with the column of what is wrong.

    symbols: the names it may use. operators: position operators, name -> number of arguments (a plain collection means
    one argument). special: further numeric functions, in the same form. let: abbreviations, name -> formula, which may
    use those before them.
    """
    return _formula(text, _Scope(_names(symbols), functions, _arities(operators, special)), let)


def check_condition(
    text: str,
    symbols: Iterable[str],
    operators: Mapping[str, Arity] | Iterable[str] = (),
    special: Mapping[str, Arity] | None = None,
    let: Mapping[str, str] | None = None,
) -> Formula:
    """Checks one comparison, such as `fan_in >= 16`. The term's kind is the comparison. Raises FormulaError."""
    return _formula(text, _Scope(_names(symbols), FUNCTIONS, _arities(operators, special)), let, condition=True)


def parse_condition(
    text: str,
    symbols: Iterable[str] | Mapping[str, Any],
    operators: Mapping[str, Arity] | Iterable[str] = (),
    special: Mapping[str, Arity] | None = None,
    let: Mapping[str, str] | None = None,
) -> tuple[str, Any, Any]:
    """One comparison as (`<`, `<=`, `>` or `>=`, left side, right side), the sides as sympy expressions."""
    formula = check_condition(text, symbols, operators, special, let)
    left, right = (_symbolic(_built(formula, side, FUNCTIONS), symbols) for side in formula.term.args)
    return formula.term.kind, left, right


def parse_formula(
    text: str,
    symbols: Iterable[str] | Mapping[str, Any],
    operators: Mapping[str, Arity] | Iterable[str] = (),
    functions: Mapping[str, FunctionRule] = FUNCTIONS,
    special: Mapping[str, Arity] | None = None,
    let: Mapping[str, str] | None = None,
) -> Any:
    """The formula as a sympy expression. Raises FormulaError.

    symbols: the names it may use (each becomes a real sympy symbol), or a mapping from name to sympy symbol.
    Operators and special functions become undefined sympy functions of that name. Decimals become exact rationals.
    Abbreviations (`let`) are written out.
    """
    return _symbolic(expression_of(text, symbols, operators, functions, special, let), symbols)


def expression_of(
    text: str,
    symbols: Iterable[str],
    operators: Mapping[str, Arity] | Iterable[str] = (),
    functions: Mapping[str, FunctionRule] = FUNCTIONS,
    special: Mapping[str, Arity] | None = None,
    let: Mapping[str, str] | None = None,
) -> Expr:
    """The formula as an expression tree, abbreviations (`let`) written out. Raises FormulaError.

    Decimals become exact rationals; operators and special functions, functions known by name alone.
    """
    formula = check_formula(text, symbols, operators, functions, special, let)
    return _built(formula, formula.term, functions)


class UnknownValue(FormulaError):
    """A formula without fault of its own that uses a constant whose value nobody knows, since that one is at fault."""


def evaluate_number(text: str | int | float, constants: Mapping[str, int | float | None]) -> int | float:
    """The number a formula of constants stands for; an exact integer stays an int. Raises FormulaError.

    `4*width` is an int for an integer width, `1/sqrt(2*depth)` a float. A number given as such is handed back.
    A constant that is None has a value that could not be told: UnknownValue is raised where one is used.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise FormulaError("a number or a formula is needed here", 0)
    if not isinstance(text, str):
        return text
    numbers = {normal_name(name): _number_facts(name, value) for name, value in constants.items() if value is not None}
    symbols = _names(constants)
    try:
        _, result = _checked(text, _Scope(symbols, FUNCTIONS, {}, numbers))
    except UnknownValue:
        _checked(text, _Scope(symbols, FUNCTIONS, {}))  # it may have a fault of its own behind that symbol
        raise
    if result.exact is not None:
        return int(result.exact) if result.exact.denominator == 1 else float(result.exact)
    assert result.estimate is not None
    return result.estimate


def _formula(text: str, scope: _Scope, let: Mapping[str, str] | None, condition: bool = False) -> Formula:
    for name, short in (let or {}).items():
        scope.size = 0
        term, facts = _checked(short, scope)
        scope.let[normal_name(name)] = _Abbreviation(term, facts, scope.size)
    scope.size = 0
    scope.used_symbols.clear()
    scope.used_functions.clear()
    term, _ = _checked(text, scope, condition)
    abbreviations = {name: short.term for name, short in scope.let.items()}
    return Formula(text, term, frozenset(scope.used_symbols), frozenset(scope.used_functions), abbreviations)


def _built(formula: Formula, term: Term, functions: Mapping[str, FunctionRule]) -> Expr:
    from lensnet.language.formula_expression import build

    try:
        return build(term, functions, formula.let, formula.symbols)
    except FormulaError as error:
        error.text = formula.text
        raise


def _symbolic(expression: Expr, symbols: Iterable[str] | Mapping[str, Any]) -> Any:
    from lensnet.expressions.symbolic import to_sympy

    given = {normal_name(name): symbols[name] for name in symbols} if isinstance(symbols, Mapping) else {}
    return to_sympy(expression, given)


def _checked(text: str, scope: _Scope, condition: bool = False) -> tuple[Term, Facts]:
    try:
        term = read_formula(text)
        if condition and term.kind not in COMPARE:
            raise term.error("a comparison is needed here", "for example fan_in >= 16")
        if not condition and term.kind in COMPARE:
            raise term.error("a comparison is not a value", "use where(condition, a, b)")
        return term, _check(term, scope)
    except FormulaError as error:
        error.text = str(text)[:MAX_LENGTH]
        raise


def _check(term: Term, scope: _Scope) -> Facts:
    scope.size += 1
    if term.kind == "symbol":
        return _symbol(term, scope)
    rule = _rule(term, scope) if term.kind == "call" else None
    conditions = 0
    if term.kind == "call" and term.name == WHERE and rule is not None:
        if term.args[0].kind not in COMPARE:
            raise term.args[0].error("the first argument of where is a comparison", "for example where(x > 0, x, 0)")
        conditions = 1
    for arg in term.args[conditions:]:
        if arg.kind in COMPARE:
            raise arg.error("a comparison stands only as the first argument of where", "use where(condition, a, b)")
    args = [_check(arg, scope) for arg in term.args]
    if conditions and args[0].estimate is not None and scope.numbers is None:
        raise term.args[0].error("this condition depends on no symbol", "write the value that holds")
    return facts_of(term, args, rule)


def _symbol(term: Term, scope: _Scope) -> Facts:
    name = term.name
    if name in scope.let:
        scope.used_symbols.add(name)
        scope.size += scope.let[name].size
        if scope.size > MAX_WRITTEN_OUT:
            raise term.error(f"with its abbreviations written out, this has more than {MAX_WRITTEN_OUT} parts")
        return scope.let[name].facts
    if name in scope.symbols:
        scope.used_symbols.add(name)
        if scope.numbers is None:
            return Facts()
        if name not in scope.numbers:
            told = term.error(f"the value of '{name}' is not known")
            raise UnknownValue(told.message, told.column, told.length)
        return scope.numbers[name]
    if name in CONSTANTS:
        return Facts(None, CONSTANTS[name])
    if name in scope.functions or name in scope.undefined:
        raise term.error(f"{name} is a function", f"call it: {name}(...)")
    help = (
        "write exp(1) for Euler's number"
        if name == "e"
        else did_you_mean(name, [*scope.symbols, *scope.let, *CONSTANTS])
    )
    raise term.error(f"unknown symbol '{name}'", help)


def _rule(term: Term, scope: _Scope) -> FunctionRule | None:
    """The rule of a called function; None for an operator or special function, which stays undefined."""
    name, count = term.name, len(term.args)
    rule = scope.functions.get(name)
    if name in scope.undefined:
        arity = scope.undefined[name]
        least, most = (arity, arity) if isinstance(arity, int) else arity
        rule = None
    elif rule is not None:
        least, most = rule.least, rule.most
    else:
        name_error = FormulaError(f"unknown function '{name}'", term.column, len(name))
        if name in scope.symbols or name in CONSTANTS:
            name_error.message, name_error.help = f"{name} is not a function", "write * for a product"
        else:
            options = [*scope.functions, *scope.undefined]
            name_error.help = did_you_mean(name, options) or did_you_mean("", scope.undefined)
        raise name_error
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise term.error(f"{name} takes {wanted} argument{'s' if wanted != '1' else ''}, not {count}")
    scope.used_functions.add(name)
    return rule


def _names(symbols: Iterable[str]) -> set[str]:
    return {normal_name(name) for name in symbols}


def _arities(operators: Mapping[str, Arity] | Iterable[str], special: Mapping[str, Arity] | None) -> dict[str, Arity]:
    given = operators if isinstance(operators, Mapping) else dict.fromkeys(operators, 1)
    return {**given, **(special or {})}


def _number_facts(name: str, value: int | float) -> Facts:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FormulaError(f"the constant {name} is not a finite number", 0)
    facts = _facts_of_number(value)
    if facts is None:
        raise FormulaError(f"the constant {name} has more than {MAX_BITS} bits", 0)
    return facts


@lru_cache(maxsize=1024, typed=True)
def _facts_of_number(value: int | float) -> Facts | None:
    """None for an integer of more bits than a formula may hold."""
    exact = Fraction(value) if isinstance(value, int) else Fraction(repr(value))
    if bits(exact) > MAX_BITS:
        return None if isinstance(value, int) else Facts(None, value)
    return rational(exact)


def is_name(text: str) -> bool:
    """Whether `text` can name a symbol as it stands."""
    try:
        return unicodedata.normalize("NFKC", text) == normal_name(text)
    except FormulaError:
        return False
