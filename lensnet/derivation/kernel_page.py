"""How the kernel of a pointwise component follows from its function, and the moments level from the kernel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp

from lensnet.algebra.bivariate.hermite import product, series_of
from lensnet.algebra.bivariate.law import Law
from lensnet.algebra.dual import dual, slope_of
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.catalog.component import Component
from lensnet.derivation.effects_of_function import Q, closed_form
from lensnet.derivation.kernel_average import (
    BOTH_BELOW,
    K11,
    K12,
    K22,
    PairRule,
    at_correlation,
    in_one_place,
    kernel_form,
)
from lensnet.derivation.normal_form import OutOfReach
from lensnet.derivation.notation import latex, text
from lensnet.derivation.pieces import CutFunction, cut
from lensnet.derivation.result import Derivation, Line, Part, Step, Table
from lensnet.derivation.sources import sources_step
from lensnet.report.numbers import short

KERNEL = "kernel"
_CORRELATIONS = (-0.9, 0.0, 0.5, 0.9, 0.99, 1.0)
_SAME = 1e-10
_COEFFICIENTS = 64

Form = tuple[sp.Expr, tuple[PairRule, ...]]


def derive_kernel(component: Component, parameters: Mapping[str, float]) -> Derivation:
    """The derivation of E f(u) f(v) and E f'(u) f'(v), closed forms where there are, down to the moments level."""
    f = cut(component, parameters, keep=False)
    function = f.numeric
    kernel, slopes = _form(function), _form(slope_of(function))
    steps = [_function(component, f), _question(), _answer(function, kernel), _gradient(function, kernel, slopes)]
    steps += [_moments(f, kernel, slopes), _numbers(function), _rests()]
    results: dict[str, Line] = {}
    expressions: dict[str, sp.Expr] = {}
    for name, left, form in (("kernel", "k'", kernel), ("gradient_kernel", "k_grad", slopes)):
        if form is not None:
            results[name] = Line(left, text(form[0]), f"{_LATEX[left]} = {latex(form[0])}")
            expressions[name] = form[0]
    one, half = (float(dual(function).kernel(1.0, 1.0, c).value) for c in (1.0, 0.5))
    numbers = {"kernel at correlation 1": one, "kernel at correlation 1/2": half}
    steps += sources_step(component)
    return Derivation(component.name, component.title, "component", tuple(steps), results, expressions, numbers)


_LATEX = {"k'": "k'", "k_grad": r"\dot{k}"}


def _form(function: PointwiseFunction) -> Form | None:
    try:
        return kernel_form(function)
    except OutOfReach:
        return None


def _function(component: Component, f: CutFunction) -> Step:
    written = text(f.expression)
    parts: list[Part] = [Line("f(x)", written, f"f(x) = {latex(f.expression)}")]
    if component.parameters:
        parts.append("with " + ", ".join(f"{name} = {f.values[name]:g}" for name in component.parameters))
    return Step("The function", tuple(parts))


def _question() -> Step:
    return Step(
        "Two inputs instead of one",
        (
            "At a neuron two inputs of the batch give two values, u and v: the same random weights, summed over "
            "different signals. They are normal together, with variances k11 and k22 and covariance k12. What becomes "
            "of the covariance is an average over both:",
            Line("k'", "E f(u) f(v)", r"k' = \mathbb{E}\, f(u) f(v)", "the dual activation of f"),
            Line("k_grad", "E f'(u) f'(v)", r"\dot{k} = \mathbb{E}\, f'(u) f'(v)",
                 "factor on the covariance of the two gradients, and on the tangent kernel"),
        ),
    )  # fmt: skip


def _answer(function: PointwiseFunction, form: Form | None) -> Step:
    if form is None:
        return Step("The average done", tuple(_series(function)))
    expression, rules = form
    parts: list[Part] = []
    if rules:
        parts.append("What is used, for inputs of mean 0:")
        parts += [f"- {rule.value}." for rule in rules]
    parts.append(Line("k'", text(expression), f"k' = {latex(expression)}"))
    at_one = at_correlation(expression)
    parts.append(Line("k'(c)", text(at_one), f"k'(c) = {latex(at_one)}", "at unit variances and correlation c"))
    parts.append(_checked(function, expression))
    return Step("The average done", tuple(parts))


def _series(function: PointwiseFunction) -> list[Part]:
    parts: list[Part] = []
    if dual(function).method != "series":
        return [
            "There is a closed form, by conditioning and the normal distribution function of two variables, but it is "
            "too long to be read. The engine evaluates it as it stands, with a bound on the rounding."
        ]
    series = series_of(function, np.zeros(1), np.ones(1), _COEFFICIENTS)
    coefficients = series.coefficients[:, 0]
    told = [(k, a) for k, a in enumerate(coefficients[:12]) if abs(a) > 1e-9]
    parts.append(
        "No closed form is known. Hermite polynomials are orthogonal under the normal density, and Mehler's formula "
        "says that correlation c multiplies the k-th one by c**k:"
    )
    parts.append(
        Line("k'", "sum over k of a_k(k11)*a_k(k22)*c**k,  a_k(q) = E f(sqrt(q)*z) h_k(z)",
             r"k' = \sum_k a_k(k_{11})\, a_k(k_{22})\, c^k,\quad a_k(q) = \mathbb{E}\, f(\sqrt{q}\,z)\, h_k(z)")
    )  # fmt: skip
    parts.append(Table(tuple((str(k), f"{a:.8f}", short(a * a / series.power[0])) for k, a in told),
                       ("k", "a_k at q = 1", "share of E f**2")))  # fmt: skip
    parts.append(
        f"After the terms up to k = {_COEFFICIENTS} the rest is at most {short(float(series.rest[0]))}*|c|**"
        f"{_COEFFICIENTS + 1}, by Cauchy and Schwarz: E f**2 less the squares so far. The engine takes as many terms "
        "as its tolerance needs and reports this bound."
    )
    return parts


def _gradient(function: PointwiseFunction, kernel: Form | None, form: Form | None) -> Step:
    parts: list[Part] = ["Price's theorem: the derivative of E f(u) f(v) by the covariance k12 is E f'(u) f'(v)."]
    jumps = function.jumps
    if form is None:
        parts.append("It has no form to be read here; the engine evaluates it like the kernel, from f'.")
        return Step("The gradient", tuple(parts))
    expression = form[0]
    parts.append(Line("k_grad", text(expression), rf"\dot{{k}} = {latex(expression)}"))
    if kernel is not None and not jumps and not kernel[0].has(BOTH_BELOW):
        slope = sp.diff(kernel[0], K12)
        worst = max(_difference(slope, expression, *point) for point in _POINTS)
        parts.append(
            f"Checked: the derivative of k' by k12 and this differ by at most {worst:.1e} at {len(_POINTS)} points."
        )
    if jumps:
        parts.append(
            "The value of f jumps. Autograd sees nothing of a jump, so no gradient passes there; the derivative of k' "
            "by k12 holds the jump as well, and is infinite at correlation 1."
        )
    return Step("The gradient", tuple(parts))


_POINTS = ((1.0, 1.0, 0.5), (2.0, 0.7, -0.4), (0.3, 1.5, 0.6), (4.0, 3.0, 2.0))


def _difference(first: sp.Expr, second: sp.Expr, k11: float, k22: float, k12: float) -> float:
    values = {K11: k11, K22: k22, K12: k12}
    return abs(float(first.subs(values)) - float(second.subs(values)))


def _checked(function: PointwiseFunction, expression: sp.Expr) -> str:
    if expression.has(BOTH_BELOW):
        return "Phi_2 is the distribution function of two normal variables, r its correlation."
    worst = 0.0
    for point in _POINTS:
        shown = float(expression.subs(dict(zip((K11, K22, K12), point, strict=True))))
        series = _by_series(function, *point)
        worst = max(worst, abs(shown - series) / max(abs(shown), 1e-3))
    return f"Checked: at {len(_POINTS)} points this and the Mehler series differ by at most {worst:.1e} of the value."


def _by_series(function: PointwiseFunction, k11: float, k22: float, k12: float) -> float:
    return float(product(function, function, Law.of(k11, k22, k12), 1e-13)[0])


def _moments(f: CutFunction, kernel: Form | None, slopes: Form | None) -> Step:
    parts: list[Part] = [
        "Let the two inputs be one and the same: k11 = k22 = k12 = q. Then u = v, and the kernel is the second moment "
        "of the moments level, the gradient kernel its factor on the gradient's second moment. The moments level "
        "follows one typical input; what it gives up is everything off the diagonal."
    ]
    for form, left, quantity in ((kernel, "q'", "second_moment"), (slopes, "p'/p", "backward_second_moment")):
        if form is None:
            continue
        there = in_one_place(form[0], Q)
        known = closed_form(f, quantity, centred=True)
        if there.has(sp.nan, sp.zoo, BOTH_BELOW):
            continue
        said = ""
        if known is not None:
            same = sp.simplify(there - known.centred) == 0
            said = (
                "sympy: the same as what the moments level derives by itself"
                if same
                else _agreement(there, known.centred)
            )
        parts.append(Line(left, text(there), f"{left} = {latex(there)}", said))
    function = f.numeric
    moments = expect(function, 0.0, np.array([0.6, 1.0, 1.7]))
    own = dual(function).kernel(np.array([0.36, 1.0, 2.89]), np.array([0.36, 1.0, 2.89]), np.array([0.36, 1.0, 2.89]))
    off = float(np.max(np.abs(own.value / np.maximum(moments.second_moment.value, 1e-300) - 1.0)))
    parts.append(f"In numbers: at three variances the engine's kernel on the diagonal and E f**2 differ by {off:.1e}.")
    return Step("Down to the moments level", tuple(parts))


def _agreement(first: sp.Expr, second: sp.Expr) -> str:
    worst = max(abs(complex(first.subs(Q, q)) - complex(second.subs(Q, q))) for q in (0.3, 1.0, 4.0))
    return f"in numbers the same as the moments level's own: {worst:.1e}" if worst < _SAME else ""


def _numbers(function: PointwiseFunction) -> Step:
    activation = dual(function)
    c = np.array(_CORRELATIONS)
    value, error = activation.kernel(1.0, 1.0, c)
    slope, _ = activation.gradient_kernel(1.0, 1.0, c)
    top = value[-1]
    rows = tuple(
        (f"{at:g}", f"{k:.8f}", f"{k / top:.6f}" if top > 0 else "", f"{s:.8f}")
        for at, k, s in zip(c, value, slope, strict=True)
    )
    return Step(
        "At unit variances",
        (
            Table(rows, ("c", "k'", "k'/k'(1)", "k_grad")),
            f"Bound on the error of k': {short(float(np.max(error)))}. The third column is the cosine between the two "
            "outputs: where it lies above c, a layer makes inputs more alike.",
        ),
    )


def _rests() -> Step:
    return Step(
        "What this rests on",
        (
            "u and v are normal together over weight draws: fresh weights in front, wide enough (terms O(1/fan_in)). "
            "Means other than 0 are followed by the engine with the same rules; the forms here are those of mean 0.",
        ),
    )
