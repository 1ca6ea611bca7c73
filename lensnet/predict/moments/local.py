"""The prediction of each component from the measured statistics of its own input: the `local` view."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Protocol

import numpy as np

from lensnet.levels.signal import Field, Law, Signal
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.edges import OUTPUT
from lensnet.predict.moments.backward import backward
from lensnet.predict.moments.beyond_law import as_observed, behind_norm
from lensnet.predict.moments.cross import BackwardCross
from lensnet.predict.moments.forward import forward
from lensnet.predict.moments.propagate import CROSS_MOMENT, side_of, wires
from lensnet.predict.moments.recurrence import remembered_slope, skip_behind, slope_before
from lensnet.predict.moments.selection import pool_behind, selected_slope
from lensnet.predict.prediction import Effect, Prediction


class Moments(Protocol):
    """Measured mean and second moment fields of one output."""

    @property
    def mean(self) -> Field: ...
    @property
    def second_moment(self) -> Field: ...


class Observed(Protocol):
    """What one weight draw left behind, as numbers: see `lensnet.measure.statistics.SeedStatistics`."""

    @property
    def outputs(self) -> Mapping[str, Moments]: ...
    @property
    def gradients(self) -> Mapping[tuple[str, str], Field]: ...
    @property
    def side(self) -> Mapping[tuple[str, str, str], Field]: ...


def predict_locally(network: Network, through: Prediction, observed: Observed) -> list[Effect]:
    """Feed every component the statistics measured at its own ports in one weight draw.

    The structure that no statistic shows (which outputs are functions of which Gaussian, how gradients of a fork are
    related) comes from `through`, the numbers from `observed`. A component with a NaN at a port is left out.
    """
    effects: list[Effect] = []
    paths = (INPUT, *(node.path for node in network))
    signals = {path: _signal(network, path, through, observed) for path in paths if path in observed.outputs}
    if network.input.shape.kind == "ids":
        signals[INPUT] = through.signals[INPUT]  # nothing to measure: ids are not numbers
    probe = {OUTPUT: np.ones((1, *network.nodes[-1].shape.positions))}
    cross = BackwardCross(network, signals, {**observed.gradients, **probe})
    for node in network:
        if any(producer not in signals for producer in node.inputs):
            continue
        here = [signals[producer].with_side(side_of(node, port, observed.side)) for producer, port in wires(node)]
        crosses = _crosses(node, observed)
        effects += forward(node, here, crosses, drawn=False)[1]
        gradient, gradient_crosses = _gradient(network, node, observed, here, cross)
        if gradient is not None:
            selected = _selected(network, node, here[0], observed, signals, cross)
            if selected is None and (skip := skip_behind(network, node)) and skip.edge in observed.gradients:
                selected = remembered_slope(node, skip, signals, gradient, observed.gradients[skip.edge])
            if selected is None:
                selected = slope_before(network, node, here[0])
            effects += backward(node, here, gradient, crosses, gradient_crosses, False, selected).values()
    return effects


def _selected(
    network: Network,
    node: Node,
    signal: Signal,
    observed: Observed,
    signals: Mapping[str, Signal],
    cross: BackwardCross,
) -> Field | None:
    """What a max pool behind a pointwise component makes of its slope; None where there is no such pool."""
    pool = pool_behind(network, node)
    if pool is None or pool.inputs[0] not in signals:
        return None
    there = signals[pool.inputs[0]].with_side(side_of(pool, pool.ports[0], observed.side))
    return selected_slope(node, signal, pool, there, lambda: _gradient(network, pool, observed, [there], cross)[0])


def _signal(network: Network, path: str, through: Prediction, observed: Observed) -> Signal:
    stats = observed.outputs[path]
    predicted = through.signals.get(path)
    if predicted is None:
        return Signal(stats.mean, stats.second_moment)
    law = _law(predicted.law, observed)
    beyond = as_observed(predicted.distribution, lambda law: _law(law, observed), observed.outputs)
    if path != INPUT and beyond is None:
        node = network[path]
        side = side_of(node, node.ports[0], observed.side)
        beyond = behind_norm(node, side, stats.mean, stats.second_moment, law)
    return Signal(stats.mean, stats.second_moment, law, distribution=beyond)


def _law(law: Law | None, observed: Observed) -> Law | None:
    """The law with what was measured where it comes from."""
    if law is None or law.origin not in observed.outputs:
        return law
    origin = observed.outputs[law.origin]
    variance = np.maximum(origin.second_moment - origin.mean**2, 0.0)
    return Law(origin.mean, variance, law.terms, law.origin, law.chain)


def _crosses(node: Node, observed: Observed) -> dict[tuple[int, int], Field | None]:
    return {
        (i, j): observed.side.get((node.path, f"{node.ports[i]},{node.ports[j]}", CROSS_MOMENT))
        for i, j in combinations(range(len(node.ports)), 2)
        if node.shapes_in[i] == node.shapes_in[j]
    }


def _gradient(
    network: Network, node: Node, observed: Observed, here: list[Signal], cross: BackwardCross
) -> tuple[Field | None, dict[tuple[int, int], Field | None] | None]:
    """The measured gradient at a component's output; stacked over its uses, with their cross moments, for a fork."""
    if not observed.gradients:
        return None, None
    uses = [(user.path, port) for user, port in network.consumers(node.path)]
    if not uses:
        examples = here[0].mean.shape[0]
        return np.ones((examples, *node.shape.positions)), None
    if any(use not in observed.gradients for use in uses):
        return None, None
    if not node.component.is_fork:
        return observed.gradients[uses[0]], None
    stacked = np.stack(np.broadcast_arrays(*(observed.gradients[use] for use in uses)))
    return stacked, {(i, j): cross.moment(uses[i], uses[j]) for i, j in combinations(range(len(uses)), 2)}
