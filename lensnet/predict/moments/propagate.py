"""The prediction propagated through a network from its input: the `through` view of the moments level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.edges import OUTPUT, Edge
from lensnet.predict.moments.backward import backward
from lensnet.predict.moments.beyond_law import behind_sum
from lensnet.predict.moments.cross import BackwardCross, ForwardCross
from lensnet.predict.moments.forward import field_shape, forward
from lensnet.predict.moments.recurrence import remembered_slope, skip_behind, slope_before
from lensnet.predict.moments.selection import pool_behind, selected_slope
from lensnet.predict.prediction import Check, Effect, Prediction
from lensnet.predict.scatter import DRAWS_FOLLOW, Scatter, own_scatter, scatter_after

SideQuantities = Mapping[tuple[str, str, str], Field]
CROSS_MOMENT = "cross_moment"


def propagate(
    network: Network,
    signal: Signal,
    sides: SideQuantities | None = None,
    measured: Mapping[str, Signal] | None = None,
    gradients: bool = True,
) -> Prediction:
    """Predict every output and every gradient of `network` from the signal at its input.

    `sides[path, port, quantity]`: side quantities taken from a measurement where the spec declares none (cross moments
    of two ports use the port name `"a,b"`). `measured`: signals from which to go on behind components without an
    effect model. Without them, what depends on an unknown is marked out of regime, and what stands behind a component
    without a model is not modelled.
    """
    sides = sides or {}
    out = Prediction(signals={INPUT: signal})
    cross = ForwardCross(network, out.signals)
    upstream: dict[str, tuple[Check, ...]] = {}
    errors: dict[str, float] = {INPUT: 0.0}
    scatters: dict[str, Scatter] = {INPUT: Scatter()}
    for node in network:
        signals = [out.signals[producer].with_side(side_of(node, port, sides)) for producer, port in wires(node)]
        crosses = forward_crosses(node, cross, sides)
        result, effects = forward(node, signals, crosses)
        if result.law is None and (beyond := behind_sum(node, signals, cross)):
            result = replace(result, distribution=beyond)
        doubts = _doubts_from(node, upstream)
        if node.component.scale_invariant:  # whatever chance has done to the scale upstream, it ends here
            doubts = tuple(check for check in doubts if not check.text.startswith(DRAWS_FOLLOW))
        own = max((effect.error for effect in effects), default=0.0)
        errors[node.path] = own + max(errors[producer] for producer in node.inputs)
        before = [scatters[producer] for producer in node.inputs]
        scatters[node.path] = scatter_after(node, signals, before, result.second_moment)
        if not any(check.text.startswith(DRAWS_FOLLOW) for check in doubts) and (
            unstable := scatters[node.path].check()
        ):
            doubts = (*doubts, unstable)
        if effects[0].status == "not-modelled" and measured and node.path in measured:
            result, doubts = measured[node.path], ()
        out.signals[node.path] = result
        upstream[node.path] = doubts or _new_doubts(node, effects)
        out.effects += [_through(effect, doubts, errors[node.path], scatters[node.path].variance) for effect in effects]
    if gradients:
        _propagate_gradients(network, out, sides, upstream)
    return out


def _propagate_gradients(
    network: Network, out: Prediction, sides: SideQuantities, upstream: Mapping[str, tuple[Check, ...]]
) -> None:
    forward_cross = ForwardCross(network, out.signals)
    last = network.nodes[-1]
    out.gradients[OUTPUT] = np.ones(field_shape(last, [out.signals[producer] for producer in last.inputs]))
    cross = BackwardCross(network, out.signals, out.gradients)
    doubts: dict[Edge, tuple[Check, ...]] = {OUTPUT: ()}
    errors: dict[Edge, float] = {OUTPUT: 0.0}
    scatters: dict[Edge, float] = {OUTPUT: 0.0}
    for node in reversed(network.nodes):
        uses: list[Edge] = [(user.path, port) for user, port in network.consumers(node.path)] or [OUTPUT]
        if any(use not in out.gradients for use in uses):
            continue  # behind a component without a backward model
        signals = [out.signals[producer].with_side(side_of(node, port, sides)) for producer, port in wires(node)]
        if uses == [OUTPUT]:
            signals = [replace(signal, side={**indifferent_probe(node), **signal.side}) for signal in signals]
        gradient, gradient_crosses = out.gradients[uses[0]], None
        if node.component.is_fork:
            gradient = np.stack(np.broadcast_arrays(*(out.gradients[use] for use in uses)))
            gradient_crosses = {(i, j): cross.moment(uses[i], uses[j]) for i, j in combinations(range(len(uses)), 2)}
        known = tuple({check.text: check for use in uses for check in doubts[use]}.values())
        crosses = forward_crosses(node, forward_cross, sides)
        selected = _selected(network, node, out, sides)
        if selected is None and (skip := skip_behind(network, node)) and skip.edge in out.gradients:
            selected = remembered_slope(node, skip, out.signals, gradient, out.gradients[skip.edge])
        if selected is None:
            selected = slope_before(network, node, out.signals[node.inputs[0]])
        for port, effect in backward(node, signals, gradient, crosses, gradient_crosses, selected=selected).items():
            edge = (node.path, port)
            mine = tuple({c.text: c for c in (*known, *_doubts_from(node, upstream))}.values())
            errors[edge] = effect.error + max(errors[use] for use in uses)
            scatters[edge] = own_scatter(node, signals) + max(scatters[use] for use in uses)
            if effect.field is not None:
                out.gradients[edge] = effect.field
                doubts[edge] = mine or _new_doubts(node, [effect])
            out.effects.append(_through(effect, mine, errors[edge], scatters[edge]))


def _selected(network: Network, node: Node, out: Prediction, sides: SideQuantities) -> Field | None:
    """What a max pool behind a pointwise component makes of its slope; None where there is no such pool."""
    pool = pool_behind(network, node)
    if pool is None:
        return None
    signal = out.signals[pool.inputs[0]].with_side(side_of(pool, pool.ports[0], sides))
    uses: list[Edge] = [(user.path, port) for user, port in network.consumers(pool.path)] or [OUTPUT]
    return selected_slope(node, out.signals[node.inputs[0]], pool, signal, lambda: out.gradients.get(uses[0]))


def wires(node: Node) -> list[tuple[str, str]]:
    """(producer, port) pairs of a node."""
    return list(zip(node.inputs, node.ports, strict=True))


def side_of(node: Node, port: str, sides: SideQuantities) -> dict[str, Field]:
    """The side quantities known at one port, by name."""
    return {name: sides[node.path, port, name] for name in node.component.needs if (node.path, port, name) in sides}


def indifferent_probe(node: Node) -> dict[str, float]:
    """What is known of the gradient at the network's output: the probe is random, so all its correlations vanish."""
    needs = node.component.needs.items()
    return {
        name: float(need.otherwise)
        for name, need in needs
        if name.startswith("gradient_") and need.otherwise is not None
    }


def forward_crosses(node: Node, cross: ForwardCross, sides: SideQuantities) -> dict[tuple[int, int], Field | None]:
    """E[a b] for every pair of ports: by structure where the graph tells, else measured, else None."""
    out: dict[tuple[int, int], Field | None] = {}
    for i, j in combinations(range(len(node.ports)), 2):
        if node.shapes_in[i] != node.shapes_in[j]:
            continue
        if CROSS_MOMENT in node.given:
            out[i, j] = np.full_like(cross.signals[node.inputs[i]].mean, node.given[CROSS_MOMENT])
            continue
        value = cross.moment(node.inputs[i], node.inputs[j])
        if value is None:
            value = sides.get((node.path, f"{node.ports[i]},{node.ports[j]}", CROSS_MOMENT))
            both = [cross.signals[node.inputs[port]].mean for port in (i, j)]
            if value is not None and max(map(len, both)) == 1 < len(value):
                value = value.mean(axis=0, keepdims=True)  # the signals are those of a typical example
        out[i, j] = value
    return out


def _doubts_from(node: Node, upstream: Mapping[str, tuple[Check, ...]]) -> tuple[Check, ...]:
    return tuple({c.text: c for producer in node.inputs for c in upstream.get(producer, ())}.values())


def _new_doubts(node: Node, effects: Sequence[Effect]) -> tuple[Check, ...]:
    """What everything behind this component must be told: its own prediction is not to be trusted."""
    if all(effect.status == "ok" for effect in effects):
        return ()
    reason = "is not modelled" if effects[0].status == "not-modelled" else "is out of its regime"
    failed = (
        check for effect in effects for check in effect.checks if check.margin is not None and not check.margin >= 0
    )
    below = next((check.below for check in failed if check.below), None)
    return (Check(f"everything upstream holds: {node.path} {reason}", -1.0, below),)


def _through(effect: Effect, doubts: tuple[Check, ...], error: float, scatter: float) -> Effect:
    status = "out-of-regime" if doubts and effect.status == "ok" else effect.status
    return Effect(
        effect.component, effect.quantity, effect.direction, effect.port, effect.field, error,
        (*effect.checks, *doubts), status, scatter, effect.level, effect.band, effect.floor,
    )  # fmt: skip
