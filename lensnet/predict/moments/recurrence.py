"""A gradient that knows the sign of what it meets: an activation whose output is skipped to the next activation.

Behind y = f(x) stands a residual block whose sum u = a*y + r passes another activation h. The gradient that comes back
over the skip carries h'(a*f(x) + r), which is correlated with f'(x): where x is positive and f, h are rectifiers, both
let light through. With r Gaussian and independent of x (fresh weights end the branch) the factor on that part of the
gradient is E[f'(x)^2 h'(a f(x) + r)^2] / E[h'(a f(x) + r)^2] instead of E f'(x)^2; for two rectifiers of unit signals
it is larger by 1.2. What comes back through the branch's weights knows nothing of x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import compose, product
from lensnet.levels.signal import Field, Signal
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Network, Node
from lensnet.predict.environment import linear_factor
from lensnet.predict.moments.pointwise import chained, function_of, gaussian_behind, slope_of

Edge = tuple[str, str]
_NODES = 96  # of the average over x, half of them on each side of its kinks


@dataclass(frozen=True)
class Skip:
    """The skip edge behind an activation, the merge that it enters, and the activation after the merge."""

    edge: Edge
    merge: Node
    activation: Node


def skip_behind(network: Network, node: Node) -> Skip | None:
    """The skip from a pointwise component over one linear merge into another pointwise component, if there is one."""
    if node.component.function is None:
        return None
    uses = network.consumers(node.path)
    if len(uses) != 1 or not uses[0][0].component.is_fork:
        return None
    for merge, port in network.consumers(uses[0][0].path):
        followers = network.consumers(merge.path)
        linear = merge.component.coherence.kind == "linear" and isinstance(merge.geometry, Pointwise)
        if linear and len(merge.ports) > 1 and len(followers) == 1 and followers[0][0].component.function is not None:
            return Skip((merge.path, port), merge, followers[0][0])
    return None


def remembered_slope(
    node: Node, skip: Skip, signals: Mapping[str, Signal], gradient: Field, over_skip: Field
) -> Field | None:
    """E[g^2 f'(x)^2]/E[g^2] for the gradient g at the output of `node`, fields `(E, *positions)`.

    `gradient`: second moment of g; `over_skip`: of the part that comes back over the skip. None where the input of the
    node is not known to be Gaussian.
    """
    signal = signals[node.inputs[0]]
    if signal.law is None or signal.law.chain:
        return None
    here = [signals[producer] for producer in skip.merge.inputs]
    index = skip.merge.ports.index(skip.edge[1])
    factors = [float(np.mean(linear_factor(skip.merge, port, here))) for port in skip.merge.ports]
    others = [(f, s) for place, (f, s) in enumerate(zip(factors, here, strict=True)) if place != index]
    rest_mean = sum(f * float(np.mean(s.mean)) for f, s in others)
    rest_variance = sum(f**2 * float(np.mean(s.variance)) for f, s in others)
    law = gaussian_behind(signal)
    ratio = _ratio(
        lambda x: np.asarray(function_of(node)(x)),
        lambda x: np.asarray(function_of(node).derivative(x)) ** 2,
        lambda y: (
            expect(
                function_of(skip.activation), factors[index] * y + rest_mean, np.sqrt(rest_variance)
            ).slope_second_moment.value
        ),
        float(np.mean(law.mean)),
        float(np.sqrt(np.mean(law.variance))),
        function_of(node).kinks.points,
    )
    slope = expect(function_of(node), law.mean, np.sqrt(law.variance)).slope_second_moment.value
    share = np.divide(
        over_skip, gradient, out=np.zeros(np.broadcast_shapes(over_skip.shape, gradient.shape)), where=gradient > 0
    )
    return np.asarray(slope * (1 + (ratio - 1) * share))


def _ratio(
    value: Callable[[Field], Field],
    slope_square: Callable[[Field], Field],
    passed: Callable[[Field], Field],
    mean: float,
    std: float,
    kinks: tuple[float, ...],
) -> float:
    """E[f'^2 W] / (E f'^2 E W) over x ~ N(mean, std^2), W = E_r h'(a f(x) + r)^2."""
    edges = sorted({-8.0, 8.0, *(z for k in kinks if abs(z := (k - mean) / std) < 8.0)}) if std > 0 else []
    if len(edges) < 2:
        return 1.0
    nodes, weights = np.polynomial.legendre.leggauss(_NODES // 2)
    lows, highs = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    z = ((highs + lows) / 2 + (highs - lows) / 2 * nodes).ravel()
    weight = ((highs - lows) / 2 * weights).ravel() * np.exp(-(z**2) / 2)
    weight /= weight.sum()
    x = mean + std * z
    steep, let_through = slope_square(x), passed(value(x))
    both = float(weight @ (steep * let_through))
    apart = float(weight @ steep) * float(weight @ let_through)
    return both / apart if apart > 0 else 1.0


def slope_before(network: Network, node: Node, signal: Signal) -> Field | None:
    """E[f'^2 h'(f)^2]/E[h'(f)^2] of an activation f whose only user is another activation h: both slopes depend on the
    same value. None where there is no such user, or the law of the input is unknown."""
    users = network.consumers(node.path)
    if node.component.function is None or signal.law is None or len(users) != 1:
        return None
    follower = users[0][0]
    if follower.component.function is None:
        return None
    own, law = function_of(node), signal.law
    behind = compose(slope_of(function_of(follower)), own)
    both = expect(chained(law, product(slope_of(own), behind)), law.mean, np.sqrt(law.variance)).second_moment.value
    alone = expect(chained(law, behind), law.mean, np.sqrt(law.variance)).second_moment.value
    return np.divide(both, alone, out=np.zeros_like(both), where=alone > 0)
