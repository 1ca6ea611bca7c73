"""E f(u) f(v) for two correlated normal variables, in symbols.

The same rules as in the engine (`algebra/bivariate/moments.py`), on expressions: exponentials tilt the law, Stein's
lemma lowers powers, the slope of a gate is a density that conditions the law, and the chance that two normal values are
both positive ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import sympy as sp

from lensnet.algebra.bivariate.gates import ABOVE, ODD, Gate, Group, gated
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.derivation.normal_form import NORMAL_CDF, OutOfReach

K11, K22 = sp.symbols("k11 k22", positive=True)
K12 = sp.Symbol("k12", real=True)
C = sp.Symbol("c", real=True)
"""Correlation."""
BOTH_BELOW = sp.Function("Phi_2", real=True)
"""Phi_2(h, k, r): the chance that X < h and Y < k for standard normal X and Y of correlation r."""

_LONGEST, _LONGEST_SHOWN = 400, 120
_LARGEST = 10**7


class PairRule(StrEnum):
    """The identities that a kernel rests on, as sentences."""

    STEIN = (
        "Stein's lemma for two variables: E[u h(u, v)] = k11 E[dh/du] + k12 E[dh/dv]; a power falls by one each time"
    )
    SIGNS = "Sheppard: E sign(u) sign(v) = 2/pi asin(k12/sqrt(k11*k22)), the angle between the two inputs"
    BLUR = (
        "erf((x - t)/(w*sqrt(2))) is the sign of x - t seen through normal noise of variance w**2: the same with k11 + "
        "w**2 and k22 + w**2"
    )
    POINT = "the slope of a gate is a density in u: it conditions the pair on u, as regression does"
    TILT = "completing the square: exp(a*u + b*v) times the law of u and v is a constant times a shifted normal law"
    BOTH = (
        "P(u > s and v > t) = Phi_2(-s/sqrt(k11), -t/sqrt(k22), r), the normal distribution function of two variables"
    )
    WAVE = "E cos(a*u + b*v) = exp(-Var(a*u + b*v)/2): the characteristic function"


@dataclass(frozen=True)
class _Law:
    k11: sp.Expr
    k22: sp.Expr
    k12: sp.Expr
    det: sp.Expr
    mean1: sp.Expr = sp.S.Zero
    mean2: sp.Expr = sp.S.Zero

    @property
    def swapped(self) -> _Law:
        return _Law(self.k22, self.k11, self.k12, self.det, self.mean2, self.mean1)


def kernel_form(function: PointwiseFunction) -> tuple[sp.Expr, tuple[PairRule, ...]]:
    """E f(u) f(v) at mean 0 in K11, K22, K12, and what it rests on. Raises OutOfReach."""
    groups = gated(function, centred=True)
    if groups is None:
        raise OutOfReach
    rules: dict[PairRule, None] = {}
    total = sp.Add(*(_pair(f, g, rules) for f in groups for g in groups))
    if total.count_ops() > 3 * _LONGEST:
        raise OutOfReach
    total = _combined(total)
    if total.count_ops() > _LONGEST_SHOWN or total.has(sp.I):
        raise OutOfReach
    return total, tuple(rules)


def at_correlation(form: sp.Expr) -> sp.Expr:
    """The form at unit variances and correlation c."""
    return _combined(form.subs({K11: 1, K22: 1, K12: C}))


def in_one_place(form: sp.Expr, q: sp.Symbol) -> sp.Expr:
    """The form where both inputs are the same: k11 = k22 = k12 = q."""
    return sp.simplify(form.subs({K11: q, K22: q}).subs(K12, q))


def _combined(expression: sp.Expr) -> sp.Expr:
    """Collected by the arc-sines in it; what is left, simplified."""
    expanded = sp.expand(sp.powdenest(expression, force=True))
    arcs = sorted(expanded.atoms(sp.asin), key=str)
    groups = sp.collect(expanded, arcs, evaluate=False)
    return sp.Add(*(arc * _short(coefficient) for arc, coefficient in groups.items()))


def _short(coefficient: sp.Expr) -> sp.Expr:
    """Polynomials and what stands under roots, each simplified by itself."""
    if coefficient.has(BOTH_BELOW, NORMAL_CDF) or coefficient.count_ops() > _LONGEST:
        return coefficient
    terms = sp.Add.make_args(coefficient)
    plain = [term for term in terms if not any(isinstance(p, sp.Pow) and p.base.is_Add for p in term.atoms(sp.Pow))]
    return sp.simplify(sp.Add(*plain)) + sp.simplify(sp.Add(*(term for term in terms if term not in plain)))


def _pair(f: Group, g: Group, rules: dict[PairRule, None]) -> sp.Expr:
    law = _Law(K11, K22, K12, K11 * K22 - K12**2)
    weight: sp.Expr = sp.S.One
    if f.square or g.square or f.linear or g.linear:
        rules[PairRule.WAVE if f.is_wave or g.is_wave else PairRule.TILT] = None
        law, weight = _tilted(law, f, g)
    averages = _Averages(replace(law, mean1=law.mean1 - _number(f.threshold), mean2=law.mean2 - _number(g.threshold)),
                         f.gate, g.gate, rules)  # fmt: skip
    terms = []
    for i, a in enumerate(f.polynomial):
        for j, b in enumerate(g.polynomial):
            if a != 0 and b != 0:
                terms.append(_number(a) * _number(b) * averages.moment(i, j))
    return weight * sp.Add(*terms)


def _tilted(law: _Law, f: Group, g: Group) -> tuple[_Law, sp.Expr]:
    a, b, c, d = (_number(x) for x in (f.square, f.linear, g.square, g.linear))
    divisor = (1 - 2 * a * law.k11) * (1 - 2 * c * law.k22) - 4 * a * c * law.k12**2
    k11, k22 = (law.k11 - 2 * c * law.det) / divisor, (law.k22 - 2 * a * law.det) / divisor
    k12, det = law.k12 / divisor, law.det / divisor
    weight = sp.exp(sp.expand((b**2 * k11 + 2 * b * d * k12 + d**2 * k22) / 2)) / sp.sqrt(divisor)
    return _Law(k11, k22, k12, det, k11 * b + k12 * d, k12 * b + k22 * d), weight


class _Averages:
    """E[u**i v**j g1(u) g2(v)]: see the engine's class of the same task."""

    def __init__(self, law: _Law, first: Gate | None, second: Gate | None, rules: dict[PairRule, None]) -> None:
        self._law, self._first, self._second, self._rules = law, first, second, rules
        self.moment: Callable[[int, int], sp.Expr] = cache(self._moment)
        self._on_first = cache(lambda: self._conditioned(law, first, None, second))
        self._on_second = cache(lambda: self._conditioned(law.swapped, second, None, first))

    def _moment(self, i: int, j: int) -> sp.Expr:
        law = self._law
        if i < 0 or j < 0:
            return sp.S.Zero
        if i == j == 0:
            return self._base()
        self._rules[PairRule.STEIN] = None
        if i:
            inside = (i - 1) * self.moment(i - 2, j) + self._at_first(i - 1, j)
            across = j * self.moment(i - 1, j - 1) + self._at_second(i - 1, j)
            total = law.mean1 * self.moment(i - 1, j) + law.k11 * inside + law.k12 * across
        else:
            inside = (j - 1) * self.moment(i, j - 2) + self._at_second(i, j - 1)
            total = law.mean2 * self.moment(i, j - 1) + law.k22 * inside + law.k12 * self._at_first(i, j - 1)
        return sp.expand(total)

    def _at_first(self, i: int, j: int) -> sp.Expr:
        if self._first is None:
            return sp.S.Zero
        averages, weight = self._on_first()
        return weight * averages.moment(i, j)

    def _at_second(self, i: int, j: int) -> sp.Expr:
        if self._second is None:
            return sp.S.Zero
        averages, weight = self._on_second()
        return weight * averages.moment(j, i)

    def _conditioned(
        self, law: _Law, gate: Gate | None, first: Gate | None, second: Gate | None
    ) -> tuple[_Averages, sp.Expr]:
        assert gate is not None
        self._rules[PairRule.POINT] = None
        noise = _number(gate.variance)
        spread = law.k11 + noise
        height = {ABOVE: 1, ODD: 2}.get(gate.kind, -1)
        weight = height * sp.exp(-(law.mean1**2) / (2 * spread)) / sp.sqrt(2 * sp.pi * spread)
        left = noise / spread
        k22 = (law.det + noise * law.k22) / spread
        moved = _Law(law.k11 * left, k22, law.k12 * left, law.det * left, law.mean1 * left,
                     law.mean2 - law.k12 / spread * law.mean1)  # fmt: skip
        return _Averages(moved, first, second, self._rules), weight

    def _base(self) -> sp.Expr:
        law, first, second = self._law, self._first, self._second
        if first is None and second is None:
            return sp.S.One
        if first is None or second is None:
            gate, variance, mean = (second, law.k22, law.mean2) if first is None else (first, law.k11, law.mean1)
            assert gate is not None
            h = mean / sp.sqrt(variance + _number(gate.variance))
            if gate.kind == ODD:
                return sp.erf(h / sp.sqrt(2))
            return sp.S.Half if h == 0 else NORMAL_CDF(h if gate.kind == ABOVE else -h)
        a, b = law.k11 + _number(first.variance), law.k22 + _number(second.variance)
        r = law.k12 / sp.sqrt(sp.factor(a) * sp.factor(b))
        if law.mean1 == law.mean2 == 0 and first.kind == second.kind == ODD:
            self._rules[PairRule.BLUR if first.variance or second.variance else PairRule.SIGNS] = None
            return 2 * sp.asin(r) / sp.pi
        if ODD in (first.kind, second.kind):
            raise OutOfReach
        self._rules[PairRule.BOTH] = None
        one, other = (1 if gate.kind == ABOVE else -1 for gate in (first, second))
        return BOTH_BELOW(one * law.mean1 / sp.sqrt(a), other * law.mean2 / sp.sqrt(b), one * other * r)


def _number(value: complex) -> sp.Expr:
    """The exact number behind a float: a fraction, or one over sqrt(2*pi) or sqrt(pi)."""
    if isinstance(value, complex):
        return _number(value.real) + sp.I * _number(value.imag)
    for unit in (sp.S.One, sp.sqrt(2 * sp.pi), sp.sqrt(sp.pi), sp.sqrt(2)):
        found = sp.nsimplify(sp.Float(value * float(unit)), rational=True, tolerance=1e-14)
        if (
            isinstance(found, sp.Rational)
            and max(abs(found.p), found.q) < _LARGEST
            and abs(float(found / unit) - value) <= 4e-16 * abs(value)
        ):
            return found / unit
    return sp.nsimplify(value, rational=True)
