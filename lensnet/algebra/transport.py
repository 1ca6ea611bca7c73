"""Formulas as plain lists, to send them to the algebra worker and back.

Only numbers, symbols, undefined functions and the sympy classes listed here exist in this form, on both sides. Nothing
is evaluated from text and nothing is unpickled: a message can at worst be refused.
"""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

_ASSUMPTIONS = ("real", "positive", "nonnegative", "integer")
_CONSTANTS: dict[str, sp.Basic] = {
    "pi": sp.pi,
    "E": sp.E,
    "EulerGamma": sp.EulerGamma,
    "I": sp.I,
    "oo": sp.oo,
    "-oo": -sp.oo,
    "zoo": sp.zoo,
    "nan": sp.nan,
    "true": sp.true,
    "false": sp.false,
}
_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        sp.Add, sp.Mul, sp.Pow, sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.atan2,
        sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh, sp.erf, sp.erfc, sp.erfi, sp.erfinv, sp.gamma,
        sp.loggamma, sp.digamma, sp.polygamma, sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.DiracDelta,
        sp.Piecewise, sp.functions.elementary.piecewise.ExprCondPair, sp.StrictGreaterThan, sp.GreaterThan,
        sp.StrictLessThan, sp.LessThan, sp.Eq, sp.Ne, sp.And, sp.Or, sp.Not, sp.floor, sp.ceiling, sp.LambertW,
        sp.Tuple, sp.besseli, sp.besselj, sp.besselk, sp.expint, sp.Ei, sp.uppergamma, sp.lowergamma, sp.zeta,
        sp.fresnels, sp.fresnelc,
    )
}  # fmt: skip
_NAMES = {cls: name for name, cls in _CLASSES.items()}
_CONSTANT_NAMES = {value: name for name, value in _CONSTANTS.items()}


class TransportError(ValueError):
    """An expression with a part that has no plain form (an unevaluated integral, a root of a polynomial, ...)."""


def encode(expression: sp.Basic) -> list[Any]:
    """The plain form of an expression: nested lists of strings and integers, ready for JSON.

    Raises:
        TransportError: a part has no plain form.
    """
    if isinstance(expression, sp.Integer):
        return ["integer", str(int(expression))]
    if isinstance(expression, sp.Rational):
        return ["rational", str(int(expression.p)), str(int(expression.q))]
    if isinstance(expression, sp.Float):
        return ["float", repr(float(expression))]
    if expression in _CONSTANT_NAMES:
        return ["constant", _CONSTANT_NAMES[expression]]
    if isinstance(expression, sp.Symbol):
        return ["symbol", expression.name, [name for name in _ASSUMPTIONS if expression.assumptions0.get(name)]]
    if isinstance(expression, AppliedUndef):
        head = ["function", expression.func.__name__, bool(expression.is_real)]
        return [*head, *(encode(argument) for argument in expression.args)]
    name = _NAMES.get(type(expression))
    if name is None:
        raise TransportError(f"{type(expression).__name__} has no plain form")
    return [name, *(encode(argument) for argument in expression.args)]


def _function(name: str, real: bool) -> Any:
    return sp.Function(name, real=True) if real else sp.Function(name)


def decode(message: Any) -> sp.Basic:
    """The expression of a plain form.

    Raises:
        TransportError: the message is not one that `encode` makes.
    """
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise TransportError("not the plain form of an expression")
    head, rest = message[0], message[1:]
    try:
        if head == "integer":
            return sp.Integer(int(rest[0]))
        if head == "rational":
            return sp.Rational(int(rest[0]), int(rest[1]))
        if head == "float":
            return sp.Float(float(rest[0]))
        if head == "constant":
            return _CONSTANTS[rest[0]]
        if head == "symbol":
            return sp.Symbol(str(rest[0]), **{name: True for name in rest[1] if name in _ASSUMPTIONS})
        if head == "function":
            return _function(str(rest[0]), bool(rest[1]))(*(decode(part) for part in rest[2:]))
        cls = _CLASSES[head]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise TransportError(f"not the plain form of an expression: {head}") from error
    arguments = [decode(part) for part in rest]
    # already in canonical form: evaluating again would only cost time, and Piecewise would rewrite itself
    return cls(*arguments, evaluate=False) if cls is sp.Piecewise else cls(*arguments)
