"""The kernel level by classes of pairs: what large images need, where every pair of positions would be too many.

A state keeps mean and second moment of every sample exactly as fields, and of pairs the average over a class: those at
one displacement (stationary), or all at different positions (averaged). A single pair is taken as the correlation of
its class times the sizes at both ends. By displacement that is exact for stationary signals, where a random convolution
keeps the autocovariance and a pool filters it; with zero padding the sizes fade towards the edges (exactly) while the
correlation there is taken from the average. By two averages it is exact where positions may be exchanged. Activations
act at the typical size of an example; for homogeneous ones (ReLU) that makes no difference. Forward only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.levels.classes import AveragedPairs, ClassedPairs
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field
from lensnet.network.geometry import Pointwise, Window
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.kernel.classed import OPERATORS, Place
from lensnet.predict.kernel.forward import KERNEL, Step, assumed, finite_terms, gaussian, placed, stated_error
from lensnet.predict.kernel.patches import PatchesNearby, patches_of
from lensnet.predict.kernel.pointwise import applied, behind, uniform
from lensnet.predict.kernel.propagate import Kernels
from lensnet.predict.moments.pointwise import function_of
from lensnet.predict.prediction import Check

NOT_STATIONARY = "no formula by classes of pairs"
ERRORS = {"stationary": 0.05, "averaged": 0.1}
"""Relative to the diagonal: what taking correlations by class alone leaves, see docs/effects/kernels.md."""
_UNEVEN = 1.0


def input_by_class(network: Network, batch: Field, layout: ClassedPairs) -> Covariance:
    """The state at the input, exactly: averages over classes of pairs, of the first examples of a batch in torch
    layout. Token ids have the covariance of one-hot vectors."""
    shape, examples = network.input.shape, layout.examples
    batch = np.asarray(batch[:examples])
    if shape.kind == "ids":
        seen = ((batch == word).astype(float) for word in np.unique(batch))
        pairs = layout.correlated((one, one) for one in seen) / np.maximum(layout.counts, 1.0)
        return Covariance(np.zeros(layout.field_shape), pairs, layout, own=np.ones(layout.field_shape))
    x = np.moveaxis(batch.astype(float), shape.channel_axis, 0)
    pairs = layout.correlated((channel, channel) for channel in x) / np.maximum(layout.counts, 1.0) / len(x)
    return Covariance(x.mean(axis=0), np.asarray(pairs), layout, own=(x**2).mean(axis=0))


def propagate_by_class(network: Network, source: Covariance, batch: Field | None = None) -> Kernels:
    """States at every output as far as there are formulas by classes of pairs.

    `batch`: the input itself in torch layout, for what its average over classes does not tell (`classed_batch`).
    """
    out = Kernels(network, {INPUT: source}, {INPUT: ()}, {INPUT: 0.0})
    out.inverse_width[INPUT] = 0.0
    for node in network:
        blocked = [producer for producer in node.inputs if producer not in out.states]
        if blocked:
            out.reasons[node.path] = f"behind {blocked[0]}"
            continue
        states = [out.states[producer] for producer in node.inputs]
        step = _forward(node, states, network, batch)
        if step.state is None:
            out.reasons[node.path] = step.reason
            continue
        out.states[node.path] = step.state
        out.checks[node.path] = (*step.checks, *out.failing(node).values())
        out.errors[node.path] = step.error + max(out.errors[producer] for producer in node.inputs)
        out.errors[node.path] = max(out.errors[node.path], _positional_error(node, states, step.state))
        out.inverse_width[node.path] = out.width_so_far(node)
    return out


def _positional_error(node: Node, states: Sequence[Covariance], state: Covariance) -> float:
    """The error of the mode, relative to the second moment: a pool over positions leaves it, and less signal."""
    left = ERRORS[state.layout.mode]
    if node.shape.positions:
        return left
    if not states[0].layout.positions:
        return 0.0
    before, after = float(states[0].second_moment.mean()), float(state.second_moment.mean())
    return left * before / after if after > 0 else 1.0


def _forward(node: Node, states: Sequence[Covariance], network: Network, batch: Field | None = None) -> Step:
    if node.component.is_fork:
        return Step(states[0])
    if node.component.function is not None:
        return Step(_pointwise(node, states[0]), (gaussian(states[0]),), finite_terms(states[0]))
    models = node.component.effects(Level.KERNEL)
    model = models.get(KERNEL)
    windows = isinstance(node.geometry, Window | Pointwise) or not {"gather_same", "gather_all"} & _called(node)
    if model is None or not _called(node) <= OPERATORS or not windows:
        return Step(None, reason=NOT_STATIONARY)
    averaged = isinstance(states[0].layout, AveragedPairs)
    if not averaged and ("attended" in _called(node) or placed(node)):
        return Step(None, reason="positions that are not alike have no formula by displacement")
    made = type(states[0].layout)(states[0].layout.examples, node.shape.positions)
    means = models.get("mean") or node.component.effects(Level.MOMENTS).get("mean")
    checks: list[Check] = [_even(states)]
    if len(states) > 1 and not _apart(network, node):
        checks.append(Check("the signals that meet are uncorrelated", -1.0, Level.FLUCTUATION))
    place = Place(node, states, made, patches_of(network, node.inputs[0], batch))
    mean = np.zeros(made.field_shape)
    if means is not None:
        value = np.asarray(place.fields.evaluate(means.formula), dtype=float)
        mean = np.broadcast_to(_shaped(value, made), made.field_shape)
    place.mean = mean
    own = np.broadcast_to(_shaped(np.asarray(place.own.evaluate(model.formula)), made), made.field_shape)
    pairs = place.pairs(model.formula, own)
    checks += [*assumed(model, place.fields), *place.checks]
    error = stated_error(model, place.fields) + place.sampled
    state = Covariance(mean, pairs, made, own=own)
    population = _population(node, states, state)
    if population is not None:
        mine = patches_of(network, node.path, batch)
        population = replace(population, near=place.near if mine is None else PatchesNearby(mine))
    return Step(replace(state, population=population), tuple(checks), error)


def _called(node: Node) -> set[str]:
    model = node.component.effects(Level.KERNEL).get(KERNEL)
    return set(model.formula.tape.operators) if model else set()


def _pointwise(node: Node, state: Covariance) -> Covariance | None:
    population = behind(state)
    population = replace(population, own=population.second_moment)
    if not uniform(population):
        return None
    layout: ClassedPairs = state.layout
    function = applied(population, function_of(node))
    own = expect(function, population.mean, np.sqrt(population.variance))
    cosine = np.clip(layout.cosines(population.covariance, np.sqrt(population.variance)), -1.0, 1.0)
    variance, mean = layout.typical(population.variance), layout.typical(population.mean)
    first, second = layout.upper
    tail = (-1, *layout.tail)
    v1, v2 = variance[first].reshape(tail), variance[second].reshape(tail)
    m1, m2 = mean[first].reshape(tail), mean[second].reshape(tail)
    means = (m1, m2) if mean.any() else (0.0, 0.0)
    found = dual(function).kernel(v1, v2, cosine[first, second] * np.sqrt(v1 * v2), *means).value
    power = expect(function, mean, np.sqrt(variance)).second_moment.value
    ratio = layout.mirrored(found / np.sqrt(power[first] * power[second]).reshape(tail))
    root = np.sqrt(own.second_moment.value)
    after = replace(population, chain=(function,), scale=1.0, shift=0.0)
    known = after if state.population is not None else None
    return Covariance(own.mean.value, ratio * layout.products(root, root), layout, known, own.second_moment.value)


def _population(node: Node, states: Sequence[Covariance], state: Covariance) -> Population | None:
    """A Gaussian where fresh weights made one, or where a linear component keeps it."""
    kind = node.component.coherence.kind
    plain = all(one.population is not None and one.population.plain for one in states)
    if node.component.law == "broken" or not (kind == "fresh" or (kind == "linear" and plain)):
        return None
    terms = float(list(node.weights.values())[-1].fan_in) if node.weights else float("inf")
    return Population(
        node.path, node.shape.channels, terms, state.mean, state.pairs, state.layout, own=state.second_moment
    )


def _even(states: Sequence[Covariance]) -> Check:
    """Sizes that vary from place to place: where they vary much, typical sizes say little."""
    power = [state.second_moment.reshape(len(state.second_moment), -1) for state in states]
    spread = max(float(np.max(p.var(axis=1) / np.maximum(p.mean(axis=1) ** 2, 1e-300))) for p in power)
    text = f"sizes vary little over positions (relative variance at most {_UNEVEN:g})"
    return Check(text, max(1.0 - spread / _UNEVEN, -1.0), Level.FLUCTUATION)


def _apart(network: Network, node: Node) -> bool:
    """Whether all ports but one are linear functions of fresh weights that no other port has seen."""
    ends = [_last_fresh(network, producer) for producer in node.inputs]
    known = [end for end in ends if end is not None]
    return len(known) >= len(ends) - 1 and len(set(known)) == len(known)


def _last_fresh(network: Network, path: str) -> str | None:
    while path != INPUT:
        node = network[path]
        if node.component.coherence.kind == "fresh":
            return path
        if node.component.coherence.kind != "linear" or len(node.ports) > 1 and not node.component.is_fork:
            return None
        path = node.inputs[0]
    return None


def _shaped(value: Field, made: ClassedPairs) -> Field:
    return value.reshape(-1, *([1] * len(made.positions))) if value.ndim == 1 and made.positions else value
