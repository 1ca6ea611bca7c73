"""One component backward at the kernel level: the covariance of the gradient at its ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Network
from lensnet.predict.kernel.cross import is_linear
from lensnet.predict.kernel.environment import CrossPairs, Environment, KernelPlace
from lensnet.predict.kernel.forward import BACKWARD, assumed, stated_error
from lensnet.predict.kernel.pointwise import behind, slope_pairs
from lensnet.predict.prediction import Check

UNKNOWN_USES = "the correlation between the gradients of the uses is known"


@dataclass(frozen=True)
class BackStep:
    """Gradient covariance at one port; None where no formula says it.

    `passing`: E f'_a f'_b of the function before the component, as this gradient sees it: winners of a max pool are
    mostly large, so a rectifier stops little of what goes to them. None where the gradient is indifferent.
    """

    pairs: Pairs | None
    checks: tuple[Check, ...] = ()
    error: float = 0.0
    passing: Pairs | None = None


def backward(
    place: KernelPlace,
    states: Sequence[Covariance],
    p: Pairs,
    crosses: CrossPairs | None = None,
    passing: Pairs | None = None,
) -> dict[str, BackStep]:
    """E g_a g_b at every port of a component from that at its output (one gradient, not several of a fork).

    `passing`: that of the gradient at the output, see `BackStep`.
    """
    node = place.node
    if node.component.function is not None:
        slopes = passing if passing is not None and behind(states[0]).plain else slope_pairs(node, states[0])
        return {node.ports[0]: BackStep(slopes * p)}
    models = node.component.port_effects(Level.KERNEL, BACKWARD)
    environment = Environment(place, states, crosses, place.made.whole(p))
    out = {}
    for index, port in enumerate(node.ports):
        if node.shapes_in[index].kind == "ids":
            continue
        model = models.get(port.split(".")[0]) or models.get("")
        if model is None:
            out[port] = BackStep(None)
            continue
        found = np.asarray(place.ports[index].whole(environment.evaluate(model.formula)))
        seen = passing if is_linear(node) and isinstance(node.geometry, Pointwise) and len(node.ports) == 1 else None
        if environment.passed is not None:
            seen = np.divide(environment.passed, found, out=np.zeros(found.shape), where=found != 0)
        out[port] = BackStep(found, tuple(assumed(model, environment)), stated_error(model, environment), seen)
    return out


def slopes_met_again(network: Network, path: str) -> bool:
    """Whether an output reaches another pointwise function with no fresh weights between (on a skip, behind a norm):
    then the gradient from above depends on the signal here, and passes where this one does more than by chance."""
    waiting, seen = [path], {path}
    while waiting:
        for user, _ in network.consumers(waiting.pop()):
            passes = user.component.is_fork or user.component.coherence.kind == "linear" or user.kind == "identity"
            if user.component.coherence.kind == "pointwise" and user.kind != "identity":
                return True
            if passes and user.path not in seen:
                seen.add(user.path)
                waiting.append(user.path)
    return False


def gathered_uses(
    gradients: Sequence[Pairs], crosses: Mapping[tuple[int, int], Pairs | None], turned: Callable[[Pairs], Pairs]
) -> tuple[Pairs, tuple[Check, ...]]:
    """The gradient of what forks: the sum over its uses, with the covariances of every two of them."""
    total = np.sum(gradients, axis=0)
    checks: tuple[Check, ...] = ()
    for cross in crosses.values():
        if cross is None:
            checks = (Check(UNKNOWN_USES, -1.0, Level.FLUCTUATION),)
        else:
            total = total + cross + turned(cross)
    return total, checks
