"""A function as a sum of polynomials times exponentials times gates: the family whose averages have closed forms.

    gate         g(x) = Phi((x - t)/w), its mirror Phi((t - x)/w), or the odd erf((x - t)/(w*sqrt(2))); w = 0 is a step
    group        p(x) * exp(a*x**2 + b*x) * g(x), b complex for sines

relu is x times a step; GELU is x/2 plus x/2 times an odd gate of width 1; erf is an odd gate of width 1/sqrt(2); ELU
is a line above 0 and an exponential below. tanh or softplus is not of this family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lensnet.algebra.constants import number
from lensnet.algebra.pieces import resolved
from lensnet.algebra.pointwise import PointwiseFunction, X
from lensnet.algebra.program import TapeError
from lensnet.expressions.traverse import expanded, factors_of, polynomial, terms_of
from lensnet.expressions.tree import Expr, Function, Number, is_exp

ABOVE, BELOW, ODD = "above", "below", "odd"
_LARGEST_DEGREE = 12
_MOST_PIECES, _MOST_TERMS = 12, 40


@dataclass(frozen=True)
class Gate:
    """What switches at `threshold`: see the head of this file. `variance` is w**2; 0 for a sharp step."""

    kind: str
    threshold: float
    variance: float


@dataclass(frozen=True)
class Group:
    """polynomial(x - threshold) * exp(square*x**2 + linear*x) * gate; the threshold is 0 without a gate."""

    polynomial: tuple[complex, ...]
    square: float
    linear: complex
    gate: Gate | None

    @property
    def threshold(self) -> float:
        return self.gate.threshold if self.gate else 0.0

    @property
    def is_wave(self) -> bool:
        return self.linear.imag != 0.0

    @property
    def is_pure_wave(self) -> bool:
        """A constant times exp(i*b*x), whose conjugate is a group of the same function."""
        plain = self.gate is None and len(self.polynomial) == 1 and self.square == 0.0
        return plain and self.linear.imag != 0.0 and self.linear.real == 0.0


_Key = tuple[float, complex, Gate | None]
_Terms = dict[_Key, list[complex]]


class _NotInFamily(Exception):
    pass


def gated(function: PointwiseFunction, centred: bool) -> tuple[Group, ...] | None:
    """The groups that add up to the function, or None when it is not of this family.

    Args:
        centred: made for inputs of mean 0: a step at 0 is then written as half of 1 + sign(x), so that what is odd and
            what is even never cancel. Away from 0 the sided form keeps the digits of a tail.
    """
    key = "gates", centred
    if key not in function.tables:
        try:
            function.tables[key] = _collected(function, centred)
        except (_NotInFamily, TapeError, OverflowError):
            function.tables[key] = None
    groups: tuple[Group, ...] | None = function.tables[key]
    return groups


def _collected(function: PointwiseFunction, centred: bool) -> tuple[Group, ...]:
    terms: _Terms = {}
    for piece, expression in _pieces(function):
        inside = dict(_smooth(expression))
        for (square, linear, gate), factors in inside.items():
            if gate is not None and piece != (None, None):
                raise _NotInFamily  # two gates on one variable
            for sign, own in _indicator(piece, centred and square == 0 and linear == 0):
                _add(terms, (square, linear, gate or own), [sign * c for c in factors])
    groups = []
    for (square, linear, gate), factors in terms.items():
        if any(c != 0 for c in factors):
            about = _recentred(factors, gate.threshold if gate else 0.0)
            groups.append(Group(tuple(about), square, linear, gate))
    if len(groups) > _MOST_TERMS:
        raise _NotInFamily
    return tuple(groups)


def _pieces(function: PointwiseFunction) -> Iterator[tuple[tuple[float | None, float | None], Expr]]:
    """(low, high) and the smooth expression that holds there; neighbours with the same expression are one."""
    kinks = function.kinks
    if not kinks.complete or len(kinks.points) > _MOST_PIECES:
        raise _NotInFamily
    points = kinks.points
    if not points:
        yield (None, None), function.tree
        return
    samples = [points[0] - 1.0, *(0.5 * (a + b) for a, b in pairwise(points)), points[-1] + 1.0]
    expressions = [resolved(function.tree, X.name, sample) for sample in samples]
    low: float | None = None
    for index, expression in enumerate(expressions):
        last = index == len(points)
        if not last and expressions[index + 1] == expression:
            continue
        high = None if last else points[index]
        yield (low, high), expression
        low = high


def _indicator(piece: tuple[float | None, float | None], halved: bool) -> list[tuple[float, Gate | None]]:
    """1 on a piece and 0 outside, as gates."""
    low, high = piece
    if low is None and high is None:
        return [(1.0, None)]
    if low is not None and high is not None:
        # of the two ways to subtract, the one between tails keeps the digits of an interval far out
        kind, inner, outer = (BELOW, high, low) if high <= 0 else (ABOVE, low, high)
        return [(1.0, Gate(kind, inner, 0.0)), (-1.0, Gate(kind, outer, 0.0))]
    point, kind, sign = (low, ABOVE, 1.0) if high is None else (high, BELOW, -1.0)
    assert point is not None
    if point == 0.0 and halved:
        return [(0.5, None), (0.5 * sign, Gate(ODD, 0.0, 0.0))]
    return [(1.0, Gate(kind, point, 0.0))]


def _add(terms: _Terms, key: _Key, polynomial: list[complex]) -> None:
    held = terms.setdefault(key, [])
    held.extend([0j] * (len(polynomial) - len(held)))
    for power, coefficient in enumerate(polynomial):
        held[power] += coefficient


def _recentred(polynomial: list[complex], at: float) -> list[complex]:
    """Coefficients in x - at, without trailing zeros."""
    work = list(polynomial)
    for start in range(len(work) - 1):
        for j in range(len(work) - 2, start - 1, -1):
            work[j] += at * work[j + 1]
    while len(work) > 1 and work[-1] == 0:
        work.pop()
    return work


# --- smooth expressions -------------------------------------------------------------------------------------------


def _smooth(expression: Expr) -> _Terms:
    terms: _Terms = {}
    pieces = terms_of(expanded(expression))
    if len(pieces) > _MOST_TERMS:
        raise _NotInFamily
    for term in pieces:
        for key, factors in _term(term).items():
            _add(terms, key, factors)
    return terms


def _constant(number: complex) -> _Terms:
    return {(0.0, 0j, None): [number]}


def _term(term: Expr) -> _Terms:
    product = _constant(1 + 0j)
    for factor in factors_of(term):
        base, count = factor.as_power()
        if X.name not in factor.symbols:
            times, known = 1, _constant(complex(number(factor)))
        elif not (isinstance(count, Number) and count.is_integer and 0 < count.value <= _LARGEST_DEGREE):
            raise _NotInFamily
        else:
            times, known = int(count.value), _factor(base)
        for _ in range(times):
            product = _product(product, known)
    return product


def _factor(base: Expr) -> _Terms:
    if base == X:
        return {(0.0, 0j, None): [0j, 1 + 0j]}
    if is_exp(base):
        constant, linear, square = _polynomial(base.args[0], 2)
        return {(square, complex(linear), None): [complex(math.exp(constant))]}
    if not isinstance(base, Function):
        raise _NotInFamily
    if base.name in ("erf", "erfc"):
        d, c, _ = _polynomial(base.args[0], 1)
        sign = (1.0 if c > 0 else -1.0) * (1.0 if base.name == "erf" else -1.0)
        terms: _Terms = {(0.0, 0j, Gate(ODD, -d / c, 0.5 / (c * c))): [complex(sign)]}
        if base.name == "erfc":
            terms[0.0, 0j, None] = [1 + 0j]
        return terms
    if base.name in ("sin", "cos", "sinh", "cosh"):
        d, c, _ = _polynomial(base.args[0], 1)
        unit = 1j if base.name in ("sin", "cos") else 1.0
        odd = base.name in ("sin", "sinh")
        turn = (complex(math.cos(d), math.sin(d)), complex(math.cos(d), -math.sin(d)))
        ahead, back = turn if unit == 1j else (complex(math.exp(d)), complex(math.exp(-d)))
        half = 0.5 / unit if odd else 0.5
        return {
            (0.0, unit * c, None): [half * ahead],
            (0.0, -unit * c, None): [(-half if odd else half) * back],
        }
    raise _NotInFamily


def _product(first: _Terms, second: _Terms) -> _Terms:
    result: _Terms = {}
    for (a, b, gate), p in first.items():
        for (c, d, other), q in second.items():
            if gate is not None and other is not None:
                raise _NotInFamily
            if len(p) + len(q) - 2 > _LARGEST_DEGREE:
                raise _NotInFamily
            product = [0j] * (len(p) + len(q) - 1)
            for i, x in enumerate(p):
                for j, y in enumerate(q):
                    product[i + j] += x * y
            _add(result, (a + c, b + d, gate or other), product)
    return result


def _polynomial(expression: Expr, degree: int) -> tuple[float, float, float]:
    """Constant, linear and square coefficient; the linear one is not 0 where degree is 1."""
    found = polynomial(expression, X.name, degree)
    if found is None:
        raise _NotInFamily
    coefficients = [number(c) for c in found]
    if degree == 1 and len(coefficients) < 2:
        raise _NotInFamily
    constant, linear, square = [*coefficients, 0.0, 0.0][:3]
    return constant, linear, square
