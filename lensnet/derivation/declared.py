"""A component whose effects its file declares: the formulas, what every symbol means, when they hold, who says so."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import sympy as sp

from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.catalog.component import Component
from lensnet.catalog.effects import CompiledFormula, EffectModel
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.notation import latex, symbol_latex, text
from lensnet.derivation.on_objectives import on_objectives
from lensnet.derivation.result import Derivation, Line, Part, Step, Table
from lensnet.derivation.sources import sources_step
from lensnet.language.effect_spec import Assumption, Effect
from lensnet.language.source import did_you_mean
from lensnet.language.symbols import effect_symbols

_STORIES = {"redunet_layer": "lensnet.derivation.rate_ascent"}
"""Components whose form follows from an objective: where that is worked out."""
_LEFT = {"mean": "m'", "second_moment": "q'"}
_OPERATORS = {
    "gather": "sum over the window of each output position",
    "scatter": "the way back of gather: sum over the windows that saw each input position",
    "gather_squares": "the sum over the window with every weight of a tap squared",
    "scatter_squares": "the way back with every weight of a tap squared",
    "mean_positions": "average over the positions of an example",
    "mean_along": "average over one axis of the positions, or all (-1)",
    "mean_batch": "average over the examples and positions of the batch",
    "everywhere": "the same number at every input position",
    "sum_ports": "sum over the input ports",
    "sum_pairs": "sum over the pairs of input ports",
    "window_max_mean": "mean of the largest value in the window, from the correlations of its taps",
    "window_max_second_moment": "second moment of the largest value in the window",
    "window_max_backward": "gradient to the inputs that were the largest",
    "response": "average response of neighbouring channels",
    "response_pair": "the same for a pair",
    "contracted_mean": "mean of a sum of products of two signals, from their means along the summed axis",
    "contracted_square": "second moment of it: the sum of the products of both Gram matrices, entry by entry",
    "contracted_gradient": "gradient through the other signal, summed over what that one brought along",
}


def derive_declared(component: Component, quantity: str | None, expand: bool) -> Derivation:
    """The effects of one quantity (or of all) at every level that the file has; `expand`: abbreviations written out."""
    models = _models(component, quantity)
    if not models:
        known = list(dict.fromkeys(name for _, name, _ in _all_models(component)))
        if component.spec.objective is not None:
            told = f"{component.name} is an objective: it is the steps on it that have effects"
            raise DeriveError(told, "derive one of them: gradient_descent")
        if not known:
            raise DeriveError(f"{component.name} has no effect model: it is measured only")
        help = did_you_mean(quantity or "", known) or f"it has {', '.join(known)}"
        raise DeriveError(f"{component.name} has no effect called {quantity!r}", help)
    steps = [_what(component), _effects(models, expand)]
    if quantity is None and component.name in _STORIES:
        steps += import_module(_STORIES[component.name]).rate_ascent_steps()
    if (unfolded := on_objectives(component, models)) is not None:
        steps.append(unfolded)
    used = _used_lets(component, models)
    if used:
        steps.append(_abbreviations(component, used, expand))
    steps.append(_symbols(component, models, used, expand))
    steps += [step for step in (_assumes(component), _needs(component, models)) if step is not None]
    steps += sources_step(component, _cited(component, models))
    results = {_key(*where): _line(where, model, expand) for where, model in models.items()}
    expressions = {_key(*where): model.formula.expression for where, model in models.items()}
    return Derivation(component.name, component.title, "component", tuple(steps), results, expressions)


Where = tuple[str, str, str]
"""Level, quantity, port."""


def _all_models(component: Component) -> dict[Where, EffectModel]:
    out: dict[Where, EffectModel] = {}
    for level, effects in component.spec.effects.items():
        for name, entry in effects.items():
            ports = [""] if isinstance(entry, Effect) else list(entry)
            for port in ports:
                model = component.backward_effect(level, port) if name == "backward_second_moment" else None
                model = model or component.effects(level).get(name)
                if model is not None:
                    out[level, name, port] = model
    return out


def _models(component: Component, quantity: str | None) -> dict[Where, EffectModel]:
    return {where: model for where, model in _all_models(component).items() if quantity in (None, where[1])}


def _key(level: str, quantity: str, port: str) -> str:
    name = quantity if level == "moments" else f"{level}.{quantity}"
    return f"{name}.{port}" if port else name


def _line(where: Where, model: EffectModel, expand: bool) -> Line:
    _, quantity, port = where
    expression = model.formula.expression if expand else model.formula.short_expression
    left = _LEFT.get(quantity, quantity)
    latex_left = left if quantity in _LEFT else symbol_latex(quantity)
    if quantity == "backward_second_moment":
        left = f"p_{port}" if port else "p'"
        latex_left = symbol_latex(left) if port else left
    says = [quantity.replace("_", " ") + (f" at {port}" if port else "")]
    if model.error_formula is None:
        says.append("exact in the limit that this level takes")
    else:
        says.append(f"relative error of order {text(model.error_formula.short_expression)}")
    if model.about:
        says.append(model.about)
    return Line(left, text(expression), f"{latex_left} = {latex(expression)}", "; ".join(says))


def _what(component: Component) -> Step:
    parts: list[Part] = []
    if component.optics:
        parts.append(f"In optics: {component.optics}.")
    if component.intuition:
        parts.append(component.intuition)
    ports = ", ".join(f"{name}..." if component.variadic else name for name in component.ports_in)
    parts.append(f"Input {ports}; output {', '.join(component.spec.ports.outputs)}.")
    return Step("What it does", tuple(parts))


def _effects(models: Mapping[Where, EffectModel], expand: bool) -> Step:
    parts: list[Part] = []
    level = ""
    for where, model in models.items():
        if where[0] != level and len({at for at, _, _ in models}) > 1:
            level = where[0]
            parts.append(f"At the level of {level}:")
        parts.append(_line(where, model, expand))
    return Step("The effects", tuple(parts))


def _used_lets(component: Component, models: Mapping[Where, EffectModel]) -> dict[str, CompiledFormula]:
    """The abbreviations that the formulas use, directly or through each other, in the order they are defined."""
    lets = list(component.spec.let.items())
    compiled = {
        name: CompiledFormula(body, component.symbols, tuple(lets[:index])) for index, (name, body) in enumerate(lets)
    }
    formulas = [formula for model in models.values() for formula in (model.formula, model.error_formula) if formula]
    wanted = {symbol.name for formula in formulas for symbol in formula.short_expression.free_symbols}
    for name in reversed(list(compiled)):
        if name in wanted:
            wanted |= {symbol.name for symbol in compiled[name].short_expression.free_symbols}
    return {name: formula for name, formula in compiled.items() if name in wanted}


def _abbreviations(component: Component, used: Mapping[str, CompiledFormula], expand: bool) -> Step:
    parts: list[Part] = ["Written out in the formulas above; as the file has them:"] if expand else []
    for name, formula in used.items():
        expression = formula.short_expression
        parts.append(Line(name, text(expression), f"{symbol_latex(name)} = {latex(expression)}"))
    return Step("Abbreviations", tuple(parts))


def _symbols(
    component: Component, models: Mapping[Where, EffectModel], used: Mapping[str, CompiledFormula], expand: bool
) -> Step:
    shown = [model.formula.expression if expand else model.formula.short_expression for model in models.values()]
    shown += [formula.short_expression for formula in used.values()]
    shown += [m.error_formula.short_expression for m in models.values() if m.error_formula is not None]
    meaning = effect_symbols(component.spec)
    order = list(meaning)
    names = {symbol.name for expression in shown for symbol in expression.free_symbols} - set(used)
    rows = [(name, meaning.get(name, "")) for name in sorted(names, key=lambda n: order.index(n) if n in order else 0)]
    calls = {call.func.__name__ for expression in shown for call in expression.atoms(sp.core.function.AppliedUndef)}
    for name in sorted(calls):
        special = SPECIAL_FUNCTIONS.get(name)
        about = " ".join(special.about.split()) if special else _OPERATORS.get(name, "operator over positions")
        rows.append((f"{name}()", about))
    return Step("Every symbol", (Table(tuple(rows)),) if rows else ("The formulas hold numbers only.",))


def _assumes(component: Component) -> Step | None:
    parts = tuple(f"- {_assumption(given)}" for given in component.spec.assumes)
    return Step("What must hold", parts) if parts else None


def _assumption(given: Assumption) -> str:
    told = given.text or given.check or ""
    if given.check and given.text:
        told += f" ({given.check})"
    if given.check is None:
        return f"{told}: true by construction"
    return f"{told}; where it fails, the {given.below} level holds" if given.below else told


def _needs(component: Component, models: Mapping[Where, EffectModel]) -> Step | None:
    uses = {symbol.name for model in models.values() for symbol in model.formula.expression.free_symbols}
    parts = []
    for name, need in component.needs.items():
        symbol = need.symbol or name
        if symbol in uses:
            when = f" (where {need.when})" if need.when else ""
            otherwise = "" if need.otherwise is None else f"; {need.otherwise:g} and out of regime when nobody says"
            parts.append(f"- {symbol}: {need.about or name.replace('_', ' ')}{when}{otherwise}")
    if not parts:
        return None
    lead = "This level does not carry them. Declare them with `given:`, or a run measures them:"
    return Step("What must be told", (lead, *parts))


def _cited(component: Component, models: Mapping[Where, EffectModel]) -> list[str]:
    keys = [key for model in models.values() for key in model.cites]
    return keys + [key for given in component.spec.assumes for key in given.cites]
