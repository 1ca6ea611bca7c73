"""The operation table of a tape for numpy: one function per operation name, elementwise and broadcasting."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from lensnet.algebra.normal import erf, erfc, expit, log_ndtr

_LOG_2 = float(np.log(2.0))


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow; relative accuracy kept in the left tail."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _sech(x: Any) -> Any:
    decay = np.exp(-np.abs(x))
    return 2.0 * decay / (1.0 + decay * decay)


def _logcosh(x: Any) -> Any:
    """log(cosh(x)): |x| - log 2 far out, where cosh overflows; near 0 the small form keeps the digits of x**2/2."""
    size = np.abs(x)
    far = size + np.log1p(np.exp(-2.0 * size)) - _LOG_2
    half = np.sinh(np.minimum(size, 1.0) / 2.0)
    return np.where(size < 1.0, np.log1p(2.0 * half * half), far)


def _step(x: Any) -> Any:
    """1 for x > 0, 0 for x < 0 and 1/2 at 0, as sympy's Heaviside."""
    return np.heaviside(x, 0.5)


def _guard(mask: Any, value: Any, fill: Any) -> Any:
    """The torch back end needs guarded branches for its gradients; numpy only selects values, so nothing to do."""
    return value


def _of_scipy(name: str) -> Callable[..., Any]:
    """A function of `scipy.special`, which is loaded when one is called: most formulas need none, and it takes long."""

    def call(*args: Any) -> Any:
        from scipy import special

        return getattr(special, name)(*args)

    return call


def _polygamma(order: Any, x: Any) -> Any:
    from scipy import special

    return special.polygamma(int(order), x)


def _reciprocal(x: Any) -> Any:
    return np.divide(1.0, x)


NUMPY_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    # np.divide and np.negative rather than operators: a Python float divided by zero would raise
    "div": np.divide,
    "neg": operator.neg,
    "reciprocal": _reciprocal,
    "square": np.square,
    "sqrt": np.sqrt,
    "pow": np.power,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": erf,
    "erfc": erfc,
    "erfinv": _of_scipy("erfinv"),
    "log_ndtr": log_ndtr,
    "gamma": _of_scipy("gamma"),
    "loggamma": _of_scipy("gammaln"),
    "digamma": _of_scipy("digamma"),
    "polygamma": _polygamma,
    "sigmoid": expit,
    "softplus": _softplus,
    "sech": _sech,
    "logcosh": _logcosh,
    "abs": np.abs,
    "sign": np.sign,
    "step": _step,
    "floor": np.floor,
    "ceiling": np.ceil,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
    "guard": _guard,
}
