"""What a step of an algorithm does on each objective of the catalogue: gradient and curvature put into its formula."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.catalog.effects import EffectModel
from lensnet.catalog.objective import ITERATE, ObjectiveModel
from lensnet.derivation.notation import latex, symbol_latex, text
from lensnet.derivation.result import Line, Step
from lensnet.expressions.symbolic import to_sympy

AFTER = "g_after"


def on_objectives(component: Component, models: Mapping[tuple[str, str, str], EffectModel]) -> Step | None:
    """The step in the coordinates of every objective; None for a component that is no step, or acts on one alone."""
    effect = next((model for (_, name, _), model in models.items() if name == ITERATE), None)
    if effect is None or not component.acts_on_state:
        return None
    lines: list[Line] = []
    for name in catalog().objectives():
        objective = catalog()[name].objective
        if objective is not None:
            lines += _lines(name, effect.formula.expression, objective)
    return Step("On an objective, mode by mode", ("With g and lam derived from the loss of a mode:", *lines))


def _lines(name: str, formula: sp.Expr, objective: ObjectiveModel) -> list[Line]:
    implicit = any(symbol.name == AFTER for symbol in formula.free_symbols)
    if implicit and len(objective.coordinates) > 1:
        told = f"{name}: {' and '.join(f'{coordinate}`' for coordinate in objective.coordinates)} solve it together"
        return [Line("", told.replace("`", "'"), "", "an equation for every mode, solved by Newton's method")]
    lines = []
    for coordinate, slopes in objective.slopes.items():
        gradient, curvature = map(to_sympy, slopes)
        after = _moved(formula, sp.Symbol(coordinate, real=True), sp.factor(gradient), curvature)
        lines.append(Line(f"{coordinate}'", text(after), f"{symbol_latex(coordinate)}' = {latex(after)}", name))
    return lines


def _moved(formula: sp.Expr, z: sp.Symbol, gradient: sp.Expr, curvature: sp.Expr) -> sp.Expr:
    """The coordinate after the step, as z times a factor where it is one."""
    after = sp.Symbol("after", real=True)
    moved = _put(formula, {"z": z, "g": gradient, "lam": curvature, AFTER: gradient.subs(z, after)})
    if after in moved.free_symbols:
        moved = sp.solve(moved - after, after)[0]
    factor = sp.simplify(moved / z)
    return z * factor if z not in factor.free_symbols else moved


def _put(formula: sp.Expr, values: Mapping[str, sp.Expr]) -> sp.Expr:
    return formula.xreplace({symbol: values[symbol.name] for symbol in formula.free_symbols if symbol.name in values})
