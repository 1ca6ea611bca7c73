"""Averages over a normal variable in closed form, with symbols for its mean and standard deviation.

Three rules reach every function made of powers, exponentials of at most quadratic polynomials, Phi of a line (erf), and
sines, on intervals or on the whole line; no integral is looked up:

    tilting   x ~ N(mu, s**2) weighted with exp(a*x**2 + b*x + c) is, up to a constant, normal again
    Stein     E[x g(x)] = mu E[g(x)] + s**2 E[g'(x)], plus s**2 (g p) at the lower end less that at the upper end
    bases     P(low < x < high) by Phi; E Phi(a*x + b) by Phi; E Phi(a*x + b)**2 by Owen's T; E cos(k*x + l) by exp

Stein's lemma lowers the power of x by one each time, tilting takes every density away, so both end at the bases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

import sympy as sp

from lensnet.derivation.normal_form import (
    NORMAL_CDF,
    NORMAL_PDF,
    OWENS_T,
    OutOfReach,
    line,
    normal_form,
    polynomial_in_x,
    root,
    tidy,
)
from lensnet.expressions.symbolic import X

MU = sp.Symbol("mu", real=True)
S = sp.Symbol("s", positive=True)

_MOST_TERMS = 200
_HIGHEST_POWER = 24


class Rule(StrEnum):
    """The identities that a closed form rests on, as sentences."""

    STEIN = "Stein's lemma: E[x g(x)] = mu E[g(x)] + s**2 E[g'(x)]; it lowers the power of x by one each time"
    ENDS = (
        "on a piece (low, high) the ends join in: E[x g] = mu E[g] + s**2 (E[g'] + (g p)(low) - (g p)(high)), p the "
        "density of x; and P(low < x < high) = Phi((high - mu)/s) - Phi((low - mu)/s)"
    )
    TILT = (
        "completing the square: the density of x times exp(a*x**2 + b*x) is a constant times another normal density, "
        "of variance s**2/D and mean (mu + b*s**2)/D with D = 1 - 2*a*s**2"
    )
    PHI = "E Phi(a*x + b) = Phi(h) with h = (a*mu + b)/sqrt(1 + a**2*s**2): the chance that one normal is below another"
    OWEN = "E Phi(a*x + b)**2 = Phi(h) - 2 T(h, 1/sqrt(1 + 2*a**2*s**2)), T Owen's function, T(0, c) = atan(c)/(2 pi)"
    WAVE = "E cos(k*x + l) = exp(-k**2*s**2/2) cos(k*mu + l): the characteristic function"


@dataclass(frozen=True)
class Normal:
    """x ~ N(mean, variance), both expressions."""

    mean: sp.Expr = MU
    variance: sp.Expr = S**2

    @property
    def std(self) -> sp.Expr:
        return root(self.variance)


@dataclass(frozen=True)
class Piece:
    """A smooth expression in `X` that holds for low < x < high."""

    low: sp.Expr
    high: sp.Expr
    expression: sp.Expr

    @property
    def whole(self) -> bool:
        return self.low == -sp.oo and self.high == sp.oo


@dataclass
class Averager:
    """Averages over one normal variable. `rules` gathers what was used."""

    law: Normal = Normal()
    rules: dict[Rule, None] = field(default_factory=dict)

    def of(self, pieces: list[Piece]) -> sp.Expr:
        """E of a function given by its pieces. Raises OutOfReach."""
        total = sp.S.Zero
        for piece in pieces:
            terms = sp.Add.make_args(normal_form(piece.expression))
            if len(terms) > _MOST_TERMS:
                raise OutOfReach
            for term in terms:
                total += self._term(_Factors.of(term), piece.low, piece.high, self.law)
        return tidy(total)

    def _term(self, term: _Factors, low: sp.Expr, high: sp.Expr, law: Normal) -> sp.Expr:
        if term.coefficient == 0:
            return sp.S.Zero
        weight = sp.S.One
        if term.exponent != 0:
            weight, law = self._tilted(term.exponent, law)
        whole = low == -sp.oo and high == sp.oo
        if (term.step is not None or term.wave is not None) and not whole or (term.step and term.wave):
            raise OutOfReach
        if term.step is not None:
            value = self._step(term.power, term.step, term.times, law)
        elif term.wave is not None:
            value = self._wave(term.power, *term.wave, law)
        else:
            value = self._power(term.power, low, high, law)
        return term.coefficient * weight * value

    def _tilted(self, exponent: sp.Expr, law: Normal) -> tuple[sp.Expr, Normal]:
        """The constant and the normal law that exp(exponent) times the density of `law` makes."""
        self.rules[Rule.TILT] = None
        a, b, c = (exponent.coeff(X, power) for power in (2, 1, 0))
        mu, variance = law.mean, law.variance
        divisor = 1 - 2 * a * variance
        shift = sp.cancel(c + (a * mu**2 + b * mu + b**2 * variance / 2) / divisor)
        tilted = Normal(sp.cancel((mu + b * variance) / divisor), sp.cancel(variance / divisor))
        return sp.exp(shift) / root(divisor), tilted

    def _power(self, power: int, low: sp.Expr, high: sp.Expr, law: Normal) -> sp.Expr:
        """E x**power on low < x < high."""
        if power > _HIGHEST_POWER:
            raise OutOfReach
        ends = [(end, sign) for end, sign in ((low, 1), (high, -1)) if end not in (-sp.oo, sp.oo)]
        self.rules.update(dict.fromkeys([Rule.ENDS] if ends else [Rule.STEIN] if power else []))
        mean, variance = law.mean, law.variance

        @cache
        def moment(n: int) -> sp.Expr:
            if n == 0:
                return _mass(low, high, law)
            at_ends = sp.Add(*(sign * end ** (n - 1) * _density(end, law) for end, sign in ends))
            below = (n - 1) * moment(n - 2) if n > 1 else sp.S.Zero
            return sp.expand(mean * moment(n - 1) + variance * (below + at_ends))

        return moment(power)

    def _step(self, power: int, argument: tuple[sp.Expr, sp.Expr], times: int, law: Normal) -> sp.Expr:
        """E x**power * Phi(a*x + b)**times on the whole line."""
        if times == 0:
            return self._power(power, -sp.oo, sp.oo, law)
        a, b = argument
        if power == 0:
            h = sp.cancel(a * law.mean + b) / root(1 + a**2 * law.variance)
            self.rules[Rule.PHI] = None
            if times == 1:
                return NORMAL_CDF(h)
            if times == 2:
                self.rules[Rule.OWEN] = None
                return NORMAL_CDF(h) - 2 * OWENS_T(h, 1 / root(1 + 2 * a**2 * law.variance))
            raise OutOfReach
        self.rules[Rule.STEIN] = None
        n = power - 1
        exponent = sp.expand(-((a * X + b) ** 2) / 2)
        bump = _Factors(times * a / sp.sqrt(2 * sp.pi), n, exponent, argument if times > 1 else None, times - 1)
        slope = self._term(bump, -sp.oo, sp.oo, law)
        if n:
            slope += n * self._step(n - 1, argument, times, law)
        return law.mean * self._step(n, argument, times, law) + law.variance * slope

    def _wave(self, power: int, k: sp.Expr, phase: sp.Expr, law: Normal) -> sp.Expr:
        """E x**power * cos(k*x + phase) on the whole line."""
        self.rules[Rule.WAVE] = None
        if power == 0:
            return sp.exp(-(k**2) * law.variance / 2) * sp.cos(k * law.mean + phase)
        self.rules[Rule.STEIN] = None
        n = power - 1
        slope = k * self._wave(n, k, phase + sp.pi / 2, law)  # cos' is cos a quarter turn on
        if n:
            slope += n * self._wave(n - 1, k, phase, law)
        return law.mean * self._wave(n, k, phase, law) + law.variance * slope


@dataclass(frozen=True)
class _Factors:
    """coefficient * x**power * exp(exponent) * Phi(line)**times or * cos(k*x + l), `exponent` quadratic in x."""

    coefficient: sp.Expr
    power: int = 0
    exponent: sp.Expr = sp.S.Zero
    step: tuple[sp.Expr, sp.Expr] | None = None
    times: int = 0
    wave: tuple[sp.Expr, sp.Expr] | None = None

    @classmethod
    def of(cls, term: sp.Expr) -> _Factors:
        if not term.has(X):
            return cls(term)
        coefficient, rest = term.as_independent(X, as_Add=False)
        power, exponent, times = 0, sp.S.Zero, 0
        step: tuple[sp.Expr, sp.Expr] | None = None
        wave: tuple[sp.Expr, sp.Expr] | None = None
        for factor in sp.Mul.make_args(rest):
            base, count = (factor, sp.S.One) if isinstance(factor, sp.exp) else factor.as_base_exp()
            if isinstance(factor, sp.exp):
                exponent += polynomial_in_x(factor.args[0], 2)
            elif not (count.is_Integer and count.is_positive):
                raise OutOfReach
            elif base == X:
                power += int(count)
            elif isinstance(base, sp.Function) and base.func == NORMAL_CDF and step is None:
                step, times = line(base.args[0]), int(count)
            elif isinstance(base, sp.sin | sp.cos) and count == 1 and wave is None:
                k, phase = line(base.args[0])
                wave = (k, phase if isinstance(base, sp.cos) else phase - sp.pi / 2)
            else:
                raise OutOfReach
        return cls(coefficient, power, sp.expand(exponent), step, times, wave)


def _mass(low: sp.Expr, high: sp.Expr, law: Normal) -> sp.Expr:
    if low == -sp.oo and high == sp.oo:
        return sp.S.One
    if high == sp.oo:
        return NORMAL_CDF((law.mean - low) / law.std)
    below = NORMAL_CDF((high - law.mean) / law.std)
    return below if low == -sp.oo else below - NORMAL_CDF((low - law.mean) / law.std)


def _density(at: sp.Expr, law: Normal) -> sp.Expr:
    return NORMAL_PDF((at - law.mean) / law.std) / law.std
