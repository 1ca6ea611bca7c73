"""Where a ReduNet layer's parts come from: skip, E and C_j, sphere, gate and optimum as consequences of one objective.

Everything is worked out by sympy when it is asked for, in one singular direction of the features, where E, C_j and the
rates are numbers; what is claimed is checked, and a claim that fails raises.
"""

from __future__ import annotations

import sympy as sp

from lensnet.derivation.notation import latex, text
from lensnet.derivation.result import Line, Step

_s, _t, _eta, _alpha, _alpha_j, _lam = sp.symbols("s t eta alpha alpha_j lam", positive=True)
_k, _r, _d, _e2, _share = sp.symbols("k r d eps2 gam_j", positive=True)


def rate_ascent_steps() -> list[Step]:
    """The derivation in reading order. Raises ArithmeticError when a claim does not hold."""
    return [_gradient(), _skip(), _sphere(), _gate(), _gain(), _optimum()]


def _gradient() -> Step:
    total = sp.log(1 + _alpha * _s**2) / 2
    classes = _share * sp.log(1 + _alpha_j * _s**2) / 2
    push, pull = sp.diff(total, _s), sp.diff(classes, _s)
    expand, compress = sp.simplify(push / _s), sp.simplify(pull / (_share * _s))
    _holds(expand - _alpha / (1 + _alpha * _s**2))
    _holds(compress - _alpha_j / (1 + _alpha_j * _s**2))
    return Step(
        "Where E and C_j come from",
        (
            "The objective is dR = R - Rc: much volume for the whole, little for each class. In a direction of "
            "singular value s it is",
            _line("R", total),
            _line("Rc", classes, "alpha = d/(m*eps2), alpha_j = d/(m_j*eps2), gam_j = m_j/m"),
            "and its derivative by s is what a matrix does to a feature:",
            _line("dR/ds", push, "E s with E = alpha (I + alpha Z Z')^-1"),
            _line("dRc/ds", pull, "gam_j C_j s with C_j = alpha_j (I + alpha_j Z_j Z_j')^-1"),
        ),
    )


def _skip() -> Step:
    """One step of gradient ascent; and for orthogonal classes what it does to a singular value."""
    expand, compress = _alpha / (1 + _alpha * _s**2), _alpha_j / (1 + _alpha_j * _s**2)
    after = _s + _eta * (expand * _s - _alpha / _alpha_j * compress * _s)
    short = _s * (1 + _eta * _alpha * (1 / (1 + _alpha * _s**2) - 1 / (1 + _alpha_j * _s**2)))
    _holds(after - short)
    growth = sp.factor(sp.together(short / _s - 1))
    _holds(growth - _eta * _alpha * _s**2 * (_alpha_j - _alpha) / ((1 + _alpha * _s**2) * (1 + _alpha_j * _s**2)))
    return Step(
        "The skip connection is the step",
        (
            "Gradient ascent adds to what is there: z + eta (E z - gam_j C_j z). The z is the skip connection, the "
            "rest the branch; nobody put it in. Since gam_j alpha_j = alpha, the step is exactly this where "
            "classes are orthogonal:",
            _line("s'", short, "before the projection; every direction on its own"),
            "Since alpha_j >= alpha it never shrinks, and a direction of s = 0 stays 0: the rank of a class is kept.",
            _line("s'/s - 1", growth, "not negative"),
        ),
    )


def _sphere() -> Step:
    """k orthogonal classes of rank r, every singular value scaled by t."""
    objective = _k * _r / 2 * sp.log(1 + _alpha * _t**2) - _r / 2 * sp.log(1 + _k * _alpha * _t**2)
    slope = sp.factor(sp.together(sp.diff(objective, _t)))
    growth = sp.limit(_t * slope, _t, sp.oo)
    _holds(growth - (_k - 1) * _r)
    return Step(
        "The normalisation is the sphere",
        (
            "For k orthogonal classes of rank r, all features scaled by t, the objective is",
            _line("dR", objective),
            _line("t * d(dR)/dt as t grows", growth, "dR grows like (k - 1) r log t, without end"),
            "Ascent alone would only turn up the light. So length must be fixed, and ascent under |z| = 1 is a step "
            "and a projection: P(v) = v/|v|, a normalisation layer.",
        ),
    )


def _gate() -> Step:
    """The stationary point of cost plus entropy over assignments that sum to 1."""
    costs = sp.symbols("c_1:4", positive=True)
    shares = [sp.exp(-_lam * c) / sum(sp.exp(-_lam * b) for b in costs) for c in costs]
    slopes = [c + (sp.log(p) + 1) / _lam for c, p in zip(costs, shares, strict=True)]
    for slope in slopes[1:]:
        _holds(sp.expand_log(slope - slopes[0], force=True))
    _holds(sum(shares) - 1)
    c, other = costs[:2]
    two = sp.simplify(1 / (1 + sp.exp(-_lam * (other - c))))
    _holds(sp.exp(-_lam * c) / (sp.exp(-_lam * c) + sp.exp(-_lam * other)) - two)
    return Step(
        "The gate is the soft assignment",
        (
            "A new example has no label. Each class would compress it by |C_j z|, which is small for its own class. "
            "Shares pi_j that make sum_j pi_j |C_j z| small and stay as undecided as that allows, by entropy at "
            "temperature 1/lam,",
            _line("0", sp.Symbol("|C_j z| + (log(pi_j) + 1)/lam - const"), "stationary for every j"),
            _line("pi_j", sp.Symbol("exp(-lam*|C_j z|)/sum_i exp(-lam*|C_i z|)"), "the only solution that sums to 1"),
            _line("pi_1 of two", two, "a sigmoid: the gate of an LSTM is the case of two classes"),
        ),
    )


def _gain() -> Step:
    """The series of P(z + eta d) in eta, which makes the orders of the gain."""
    a, c = sp.symbols("a c")
    length = sp.sqrt(1 + 2 * _eta * a + _eta**2 * c)
    series = sp.series(1 / length, _eta, 0, 6).removeO()
    f = [sp.expand(series).coeff(_eta, n) for n in range(6)]
    for n in range(5):
        _holds((n + 1) * f[n + 1] + (2 * n + 1) * a * f[n] + (n * c * f[n - 1] if n else 0))
    return Step(
        "What a layer gains",
        (
            "With a = <z, d> and c = <d, d> the projection divides by",
            _line("|z + eta d|", length),
            _line("its inverse", sum(f[n] * _eta**n for n in range(3)), "to second order in eta"),
            "so z' = z + eta (d - a z) + eta^2 ((3 a^2/2 - c/2) z - a d) + ...: to first order only the part of the "
            "gradient tangent to the sphere counts, eta |G_t|^2 in all. Taking eta |G|^2 instead is wrong by a fixed "
            "share that no small eta removes. The first two orders are in the effects above; orders three to five, by "
            "(n + 1) f_(n+1) = -(2 n + 1) a f_n - n c f_(n-1), bound what they leave out.",
        ),
    )


def _optimum() -> Step:
    total = _d / 2 * sp.log(1 + 1 / _e2)
    classes = sp.log(1 + _d / _e2) / 2
    equal = _k * _r / 2 * sp.log(1 + _d / (_k * _r * _e2)) - _r / 2 * sp.log(1 + _d / (_r * _e2))
    _holds(equal.subs({_r: 1, _k: _d}) - (total - classes))
    three = float((total - classes).subs({_d: 3, _e2: sp.Rational(1, 10)}))
    return Step(
        "Where it ends",
        (
            "The logarithm is concave, so R is largest when all directions carry the same, and Rc smallest when every "
            "class is a line. k equal orthogonal classes of rank r reach",
            _line("dR", equal),
            _line("dR at k = d, r = 1", total - classes, f"the global optimum; {three:.6f} for d = 3, eps2 = 0.1"),
        ),
    )


def _line(left: str, right: sp.Expr, about: str = "") -> Line:
    return Line(left, text(right), f"\\text{{{left}}} = {latex(right)}", about)


def _holds(zero: sp.Expr) -> None:
    """Raise where an expression that must vanish does not."""
    if sp.simplify(zero) != 0:
        raise ArithmeticError(f"{zero} is not zero")
