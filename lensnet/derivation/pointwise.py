"""How the effects of a pointwise component follow from its function: a teaching text, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from lensnet.algebra.gaussian import Expectation
from lensnet.catalog.component import Component
from lensnet.derivation.effects_of_function import (
    QUANTITIES,
    ClosedForm,
    Q,
    closed_form,
    middle,
    unevaluated,
)
from lensnet.derivation.gain import G, critical_gain, preserving_gain, unit_moments
from lensnet.derivation.notation import latex, symbol_latex, text
from lensnet.derivation.pieces import CutFunction, cut
from lensnet.derivation.result import Derivation, Line, Part, Step, Table
from lensnet.derivation.sources import sources_step
from lensnet.expressions.symbolic import exact
from lensnet.report.numbers import short

LEFT = {"mean": "m'", "second_moment": "q'", "backward_second_moment": "p'/p"}
INTEGRAND = {"mean": "f(x)", "second_moment": "f(x)**2", "backward_second_moment": "f'(x)**2"}
_LATEX_LEFT = {"mean": "m'", "second_moment": "q'", "backward_second_moment": "p'/p"}
_READABLE = 60
_LATEX_F = {
    "mean": r"f(\mu + s z)",
    "second_moment": r"f(\mu + s z)^2",
    "backward_second_moment": r"f'(\mu + s z)^2",
}
_SAYS = {
    "mean": "mean of the output",
    "second_moment": "second moment of the output",
    "backward_second_moment": "factor on the second moment of the gradient, on its way back",
}


def derive_pointwise(component: Component, quantity: str | None, parameters: Mapping[str, float]) -> Derivation:
    """The derivation of one effect, or of all three (`quantity` None)."""
    wanted = [quantity] if quantity else list(QUANTITIES)
    f = cut(component, parameters)
    forms = {name: closed_form(f, name) for name in wanted}
    steps = [_function(component, f), _question(wanted)]
    if f.pieces is None or len(f.pieces) > 1:
        steps.append(_pieces(f))
    steps += [_closed(f, forms), _centred(f, forms), _numbers(f, wanted)]
    numbers = _values(f, wanted)
    if "second_moment" in wanted:
        gain = _gain(f, forms["second_moment"])
        if gain is not None:
            steps.append(gain[0])
            numbers |= gain[1]
    steps.append(_assumes())
    steps += sources_step(component)
    results, expressions = {}, {}
    for name, form in forms.items():
        expression = form.expression if form else unevaluated(f.numeric, name)
        results[name] = _line(name, expression)
        expressions[name] = expression
        if form:
            expressions[f"centred {name}"] = form.centred
    return Derivation(
        component.name, component.title, "component", tuple(steps), results, expressions, numbers
    )  # fmt: skip


def _line(name: str, expression: sp.Expr, about: str = "") -> Line:
    return Line(LEFT[name], text(expression), f"{_LATEX_LEFT[name]} = {latex(expression)}", about)


def _function(component: Component, f: CutFunction) -> Step:
    assert component.function is not None
    written = text(f.expression) if f.constants else " ".join(component.function.split())
    parts: list[Part] = [Line("f(x)", written, f"f(x) = {latex(f.expression)}")]
    for name, value in f.constants.items():
        parts.append(Line(name, repr(value), rf"{symbol_latex(name)} = {value!r}"))
    for name, spec in component.parameters.items():
        value = f.values[name]
        parts.append(f"{spec.symbol or name}: {spec.about or name} (here {value:g} where a number is needed)")
    parts.append("Applied to every element by itself, so what it does to a random value is all there is to know.")
    return Step("The function", tuple(parts))


def _question(wanted: list[str]) -> Step:
    parts: list[Part] = [
        "Its input is a sum of many independent random weights times what came before, hence normal: x ~ N(mu, s**2), "
        "x = mu + s*z with z ~ N(0, 1) of density phi(z) = exp(-z**2/2)/sqrt(2*pi). The input's mean is m = mu, its "
        "second moment q = mu**2 + s**2. Every effect is an average over z:"
    ]
    for name in wanted:
        inside = INTEGRAND[name].replace("(x)", "(mu + s*z)")
        integral = rf"\int_{{-\infty}}^{{\infty}} {_LATEX_F[name]}\,\varphi(z)\,dz"
        parts.append(
            Line(LEFT[name], f"E {INTEGRAND[name]} = integral {inside}*phi(z) dz", f"{_LATEX_LEFT[name]} = {integral}",
                 _SAYS[name])
        )  # fmt: skip
    return Step("The question as an integral", tuple(parts))


def _pieces(f: CutFunction) -> Step:
    if f.pieces is None:
        return Step("Split", ("There are too many kinks to write the pieces down; integrals are split at each.",))
    rows = []
    slopes = f.slope_pieces()
    for piece, slope in zip(f.pieces, slopes, strict=True):
        low, high = ("" if end in (-sp.oo, sp.oo) else text(end) for end in (piece.low, piece.high))
        where = " < ".join(part for part in (low, "x", high) if part)
        rows.append((where, text(piece.expression), text(slope.expression)))
    parts: list[Part] = [
        "A kink is no place to differentiate across, and no rule of quadrature may straddle it. Between kinks f is "
        "smooth:",
        Table(tuple(rows), ("where", "f(x)", "f'(x)")),
    ]
    jumps = f.numeric.jumps
    if jumps:
        where = ", ".join(f"{position:g}" for position, _ in jumps)
        parts.append(
            f"At x = {where} the value itself jumps. The derivative almost everywhere, which is what autograd sees, "
            "knows nothing of it: no gradient passes through a jump."
        )
    return Step("Split at the kinks", tuple(parts))


def _closed(f: CutFunction, forms: Mapping[str, ClosedForm | None]) -> Step:
    found = {name: form for name, form in forms.items() if form is not None}
    rules = dict.fromkeys(rule for form in found.values() for rule in form.rules)
    parts: list[Part] = []
    if rules:
        parts.append("What is used:")
        parts += [f"- {rule.value}." for rule in rules]
    by_sympy = [name for name, form in found.items() if not form.rules and not form.general]
    if by_sympy:
        parts.append(f"For a centred input (mu = 0) sympy integrates {_listed(by_sympy)}.")
    for name, form in found.items():
        if name == "backward_second_moment":
            parts.append(f"For the gradient the integrand is {INTEGRAND[name]}, by the chain rule:")
        parts.append(_line(name, form.expression))
    missing = [name for name in forms if forms[name] is None]
    if missing:
        parts.append(
            f"No closed form of {_listed(missing)} is known: the rules of "
            "powers, exponentials, erf and sines do not reach it, and neither does sympy. The engine integrates "
            "numerically, on panels that end at the kinks and wherever f bends, with a bound on its error."
        )
        parts += [_line(name, unevaluated(f.numeric, name)) for name in missing]
    if found:
        worst, points = max(form.worst for form in found.values()), max(form.points for form in found.values())
        parts.append(
            f"Checked: at {points} pairs (mu, s) these formulas and quadrature differ by at most {worst:.1e} of the "
            "value."
        )
        parts.append("Phi and phi are the distribution function and the density of N(0, 1).")
    return Step("The integral done", tuple(parts))


def _listed(names: list[str]) -> str:
    return " and ".join(f"E {INTEGRAND[name]}" for name in names)


def _centred(f: CutFunction, forms: Mapping[str, ClosedForm | None]) -> Step:
    parts: list[Part] = ["Behind zero-mean weights without a bias the input is centred: mu = 0 and s**2 = q."]
    half = middle(f.numeric)
    for name, form in forms.items():
        if form is None:
            if name == "mean" and half is not None:
                why = "f(x) + f(-x) is the same at every x (checked on a grid), and half of it is the mean"
                parts.append(_line(name, half, why))
            continue
        parts.append(_line(name, form.centred))
        own = set(f.values) - set(f.constants)
        bound = {symbol: exact(f.values[symbol.name]) for symbol in form.centred.free_symbols if symbol.name in own}
        if bound:
            at = ", ".join(f"{symbol.name} = {value}" for symbol, value in sorted(bound.items(), key=str))
            parts.append(_line(name, form.centred.subs(bound), f"at {at}"))
    if len(parts) == 1:
        parts.append("That does not help here: numbers follow.")
    return Step("A centred input", tuple(parts))


def _values(f: CutFunction, wanted: list[str]) -> dict[str, float]:
    moments = unit_moments(f.numeric)
    all_values = dict(zip(QUANTITIES, (moments.mean, moments.second_moment, moments.slope_second_moment), strict=True))
    return {f"{name} at N(0,1)": float(all_values[name].value) for name in wanted}


def _numbers(f: CutFunction, wanted: list[str]) -> Step:
    moments = unit_moments(f.numeric)
    values = dict(zip(QUANTITIES, (moments.mean, moments.second_moment, moments.slope_second_moment), strict=True))
    rows = [
        (LEFT[name], _digits(values[name]), f"+- {float(values[name].error):.0e}", name.replace("_", " "))
        for name in wanted
    ]
    parts: list[Part] = [Table(tuple(rows))]
    if {"mean", "second_moment"} <= set(wanted):
        second, mean = float(values["second_moment"].value), float(values["mean"].value)
        if second > 0 and abs(mean) > 1e-12:
            parts.append(f"The mean makes up {100 * mean**2 / second:.0f} % of the second moment.")
    return Step("At N(0, 1)", tuple(parts))


def _digits(average: Expectation) -> str:
    value, error = float(average.value), float(average.error)
    return "0" if abs(value) <= error else f"{value:.10g}"


def _gain(f: CutFunction, form: ClosedForm | None) -> tuple[Step, dict[str, float]] | None:
    critical = critical_gain(f.numeric)
    if critical is None:
        return None
    numbers = {"critical gain": critical.gain, "slope": critical.slope, "gradient factor": critical.gradient}
    parts: list[Part] = [
        "A dense layer of gain g in front multiplies the second moment by g**2. The signal is kept when the layer and "
        "f together give back what came in:"
    ]
    condition = form.centred if form is not None else unevaluated(f.numeric, "second_moment", sp.S.Zero, sp.sqrt(Q))
    parts.append(
        Line("g**2*E f(sqrt(q)*z)**2", "q", r"g^2\,\mathbb{E} f(\sqrt{q}\,z)^2 = q", "z ~ N(0, 1)")
    )  # fmt: skip
    solved = preserving_gain(form.centred) if form is not None else None
    if solved is not None and len(text(solved)) > _READABLE:
        solved = None
    if solved is not None:
        parts.append(f"With E f**2 = {text(condition)} sympy solves this for g:")
        parts.append(Line(G.name, text(solved), f"g = {latex(solved)}"))
    if not critical.everywhere:
        parts.append(Line("g", f"{critical.gain:.6f} at q = 1", rf"g = {critical.gain:.6f}"))
    parts.append(_slope_text(critical.slope, critical.everywhere))
    parts.append(_gradient_text(critical.gradient))
    return Step("The gain that keeps the signal", tuple(parts)), numbers


def _slope_text(slope: float, everywhere: bool) -> str:
    if everywhere:
        return (
            "The condition does not depend on q: this gain keeps a signal of any size, and an error in q is neither "
            "healed nor amplified (slope 1)."
        )
    if abs(slope) < 1e-6:
        return "The map q -> g**2 E f(sqrt(q) z)**2 is flat: an error in q is forgotten in one layer."
    start = f"At q = 1 the map q -> g**2 E f(sqrt(q) z)**2 has slope {slope:.4f}: "
    if abs(abs(slope) - 1) < 1e-6:
        return start + "an error in q stays as it is, to first order."
    if abs(slope) < 1:
        return start + f"stable, an error of 10 % is {short(10 * abs(slope) ** 10)} % ten layers on."
    grown = short(abs(slope) ** 10)
    return start + f"unstable, an error of 1 % is about {grown} % ten layers on, and grows from there."


def _gradient_text(factor: float) -> str:
    start = f"Backward, a square layer of that gain and f multiply the gradient's second moment by {factor:.4f}: "
    if factor == 0:
        return start + "no gradient passes."
    if abs(factor - 1) < 1e-9:
        return start + "what keeps the signal keeps the gradient too."
    return start + f"{short(factor**10)} over ten layers of them."


def _assumes() -> Step:
    return Step(
        "What this rests on",
        (
            "The input is normal over weight draws: a sum of at least 8 terms, off by O(1/fan_in) in its moments. "
            "Behind another pointwise function it is not; the engine then averages the composition over the normal "
            "variable further up, and where no such variable is known the row is out of regime and the fluctuation "
            "level holds.",
            "Backward, the gradient from above is independent of the signs of x, which fresh weights above make true.",
        ),
    )
