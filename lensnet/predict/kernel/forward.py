"""One component forward at the kernel level: states in, state out, and what was assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from lensnet.catalog.effects import CompiledFormula, EffectModel
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Node
from lensnet.predict.kernel.cross import TRANSFER, is_linear
from lensnet.predict.kernel.environment import TABLE, CrossPairs, Environment, KernelPlace
from lensnet.predict.kernel.pointwise import behind, pointwise_state
from lensnet.predict.kernel.tied_back import is_tied
from lensnet.predict.moments.checks import GAUSSIAN, gaussian_terms_check
from lensnet.predict.prediction import Check

KERNEL, BACKWARD = "kernel", "backward_kernel"
NOT_MODELLED = "no kernel formula"


class Evaluates(Protocol):
    """The states at the ports of a component, as its formulas see them."""

    def evaluate(self, formula: CompiledFormula) -> Any: ...


@dataclass(frozen=True)
class Step:
    """What a component makes of the states at its ports. `state` is None where nothing is claimed (`reason`)."""

    state: Covariance | None
    checks: tuple[Check, ...] = ()
    error: float = 0.0
    reason: str = ""


def forward(place: KernelPlace, states: Sequence[Covariance], crosses: CrossPairs | None = None) -> Step:
    """The covariance at the output of a component, from those at its ports and between them."""
    node = place.node
    if node.component.is_fork:
        return Step(states[0])
    if node.component.function is not None:
        state, error = pointwise_state(node, states[0])
        return Step(state, (gaussian(states[0]),), error + finite_terms(states[0]))
    models = node.component.effects(Level.KERNEL)
    if KERNEL not in models:
        return Step(None, reason=node.component.spec.not_modelled.get("kernel", NOT_MODELLED))
    mean = mean_after(place, states, crosses)
    environment = Environment(place, states, crosses, mean=mean)
    pairs = np.asarray(place.made.whole(environment.evaluate(models[KERNEL].formula)))
    checks = [*_unknown_crosses(environment), *assumed(models[KERNEL], environment), *environment.checks]
    error = stated_error(models[KERNEL], environment) + environment.sampled
    state = Covariance(mean, pairs, place.made)
    return Step(replace(state, population=population_after(place, states, state)), tuple(checks), error)


def mean_after(place: KernelPlace, states: Sequence[Covariance], crosses: CrossPairs | None) -> Field:
    """The mean at the output: the component's kernel formula for it, else that of the moments at infinite width."""
    node = place.node
    model = node.component.effects(Level.KERNEL).get("mean") or node.component.effects(Level.MOMENTS).get("mean")
    if model is None:
        return np.zeros(place.made.field_shape)
    environment = Environment(place, states, _aligned(place, crosses), fields=True)
    value = np.asarray(environment.evaluate(model.formula), dtype=float)
    if value.ndim == 1 and place.made.positions:
        value = value.reshape(-1, *([1] * len(place.made.positions)))
    return np.broadcast_to(value, place.made.field_shape)


def _aligned(place: KernelPlace, crosses: CrossPairs | None) -> CrossPairs:
    """Cross moments of two ports at one sample, as fields: what a formula of means may use."""
    return {
        key: value if value is None or key == TABLE else place.given.diagonal(place.given.whole(value))
        for key, value in (crosses or {}).items()
    }


def population_after(place: KernelPlace, states: Sequence[Covariance], state: Covariance) -> Population | None:
    """What the channels at the output are independent draws of.

    Fresh weights make a Gaussian of anything wide. A linear component keeps a Gaussian, whatever its geometry, and a
    factor per sample keeps a function of one.
    """
    node, component = place.node, place.node.component
    if component.law == "broken" or is_tied(node):  # one logit of all is that of the row that came in
        return None
    if component.coherence.kind == "fresh":
        return _gaussian_population(node, state, _terms(node))
    known = [one.population for one in states if one.population is not None]
    if len(known) < len(states) or not is_linear(node):
        return None
    if all(population.plain for population in known):
        terms = min(population.terms for population in known)
        width = min(node.shape.channels, *(population.width for population in known))
        return replace(_gaussian_population(node, state, terms), width=width)
    if len(known) > 1 or not isinstance(node.geometry, Pointwise) or TRANSFER in component.effects(Level.KERNEL):
        return None
    formula = component.coherence.factor_formula(node.ports[0])
    factor = Environment(place, states, fields=True).evaluate(formula)
    before = known[0]
    return replace(before, scale=before.scale * factor, shift=state.mean + factor * (before.shift - states[0].mean))


def operators_of(node: Node) -> set[str]:
    """Operators on positions or whole states that the kernel formulas of a component call."""
    names = {name for formula in _formulas(node) for name in formula.tape.operators}
    return names - {"sum_ports", "sum_pairs"}


def placed(node: Node) -> bool:
    """Whether the kernel formulas of a component name what belongs to its positions."""
    return any(name.startswith(("code_", "turn_")) for formula in _formulas(node) for name in formula.uses)


def _formulas(node: Node) -> list[CompiledFormula]:
    quantities = (node.component.port_effects(Level.KERNEL, name) for name in (KERNEL, "mean", BACKWARD))
    return [model.formula for models in quantities for model in models.values()]


def _gaussian_population(node: Node, state: Covariance, terms: float) -> Population:
    return Population(node.path, node.shape.channels, terms, state.mean, state.pairs, state.layout)


def _terms(node: Node) -> float:
    if not node.weights or node.shapes_in[0].kind == "ids":
        return float("inf")
    return float(list(node.weights.values())[-1].fan_in)


def gaussian(state: Covariance) -> Check:
    """Whether the channels of a state are functions of a Gaussian."""
    population = state.population
    if population is None:
        return Check(f"{GAUSSIAN}: nothing known makes it so", -1.0, Level.FLUCTUATION)
    return gaussian_terms_check(population.terms)


def finite_terms(state: Covariance) -> float:
    """The relative error that sums of finitely many terms leave."""
    terms = behind(state).terms
    return 0.0 if np.isinf(terms) else 1.0 / terms


def _unknown_crosses(environment: Environment) -> list[Check]:
    names = sorted(name for name in environment.missing if name == "cross" or name.startswith("k_"))
    return [Check("the correlation between the signals that meet is known", -1.0, Level.FLUCTUATION)] if names else []


def stated_error(model: EffectModel, environment: Evaluates) -> float:
    """The declared relative error of a formula at these states."""
    return 0.0 if model.error_formula is None else float(np.max(environment.evaluate(model.error_formula)))


def assumed(model: EffectModel, environment: Evaluates) -> list[Check]:
    """The assumptions of one formula at these states, with their margins."""
    out = []
    for assumption in model.assumptions:
        comparison = assumption.comparison
        if comparison is None:
            out.append(Check(assumption.text))
        else:
            larger, smaller = environment.evaluate(comparison.larger), environment.evaluate(comparison.smaller)
            out.append(Check(assumption.text, comparison.slack(larger, smaller), assumption.below))
    return out
