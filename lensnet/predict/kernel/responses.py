"""Local response normalisation for two samples: E x_1 x_2 (D_1 D_2)^-beta with D = offset + alpha * sum of n squares.

A sample with itself is an integral over one variable and exact (`NeighbourResponse`). Two are as much less as the
second order of the expansion around E D says: its ratio to the same expansion of both samples with themselves. The
expansion needs E x_1^3 x_2 and E x_1^2 x_2^2 of one channel, which are dual activations of powers of its function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lensnet.algebra.dual import pair
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction, product
from lensnet.levels.bands import BandPairs
from lensnet.levels.covariance import Population
from lensnet.levels.pairs import Field, Pairs
from lensnet.levels.signal import Law, Signal
from lensnet.predict.kernel.environment import Environment, state_operator
from lensnet.predict.kernel.pointwise import behind, channel
from lensnet.predict.neighbour_response import NeighbourResponse


@dataclass(frozen=True)
class _Powers:
    """Of one channel x for two samples: E x_1 x_2, E x_1^3 x_2, E x_1 x_2^3, E x_1^2 x_2^2; E x^2, E x^4 of each."""

    both: Any
    first_cubed: Any
    second_cubed: Any
    squares: Any
    q_1: Any
    q_2: Any
    fourth_1: Any
    fourth_2: Any


@state_operator("response_level")
def response_level(environment: Environment, beta: Any) -> Field:
    """E x D^-beta, a field."""
    return _alone(environment).moment(1, float(beta))


@state_operator("response_kernel")
def response_kernel(environment: Environment, k: Any, beta: Any) -> Pairs:
    """E x_1 x_2 (D_1 D_2)^-beta of every two samples."""
    beta = float(beta)
    own = _alone(environment).moment(2, 2 * beta)
    return _as_much_less(environment, k, own, lambda powers: _forward(environment, powers, beta))


@state_operator("response_gradient")
def response_gradient(environment: Environment, k: Any, beta: Any) -> Pairs:
    """The factor on the covariance of a gradient."""
    beta, alone = float(beta), _alone(environment)
    alpha = float(environment.place.static["alpha"])
    own = alone.moment(0, 2 * beta) - 4 * alpha * beta * alone.moment(2, 2 * beta + 1)
    own = np.maximum(own + 4 * alpha**2 * beta**2 * alone.pair(2 * beta + 2), 0.0)
    return _as_much_less(environment, k, own, lambda powers: _backward(environment, powers, beta))


def _as_much_less(environment: Environment, k: Any, own: Field, expanded: Callable[[_Powers], Any]) -> Pairs:
    """For every two samples the geometric mean of what is exact of each, times the ratio that the expansion has."""
    layout, root = environment.place.given, np.sqrt(own)
    moments = _Moments.of(environment)

    def worked_out(layout: Any, k: Any, covariance: Any) -> Pairs:
        pairs, first, second = moments.powers(layout, k, covariance)
        size = np.sqrt(expanded(first) * expanded(second))
        value = expanded(pairs) / np.where(size > 0, size, 1.0)
        return np.asarray(value * layout.first(root) * layout.second(root))

    k, covariance = layout.whole(k), moments.population.covariance
    if not isinstance(layout, BandPairs):
        return np.asarray(layout.with_diagonal(worked_out(layout, k, covariance), own))
    out = np.empty(layout.shape)
    for part, some in layout.halves():
        out[:, :, part] = worked_out(some, k[:, :, part], covariance[:, :, part])
    layout.mirror(out)
    return np.asarray(layout.with_diagonal(out, own))


def _forward(environment: Environment, x: _Powers, beta: float) -> Any:
    """The second order of E x_1 x_2 (D_1 D_2)^-beta around E D, all but the first channel independent of x."""
    alpha, n, d_1, d_2 = _sums(environment, x)
    a, b = alpha / d_1, alpha / d_2
    bent = _bent(environment, x, beta)
    own = beta * (a * (x.first_cubed - x.both * x.q_1) + b * (x.second_cubed - x.both * x.q_2))
    return (d_1 * d_2) ** -beta * (x.both * (1 + bent) - own)


def _backward(environment: Environment, x: _Powers, beta: float) -> Any:
    alpha, n, d_1, d_2 = _sums(environment, x)
    a, b = alpha / d_1, alpha / d_2
    turned = -2 * beta * (a * x.q_1 + b * x.q_2) + 4 * beta**2 * a * b * ((n - 1) * x.both**2 + x.squares)
    return np.maximum(1 + _bent(environment, x, beta) + turned, 1e-6) * (d_1 * d_2) ** -beta


def _bent(environment: Environment, x: _Powers, beta: float) -> Any:
    """Second order of (D_1 D_2)^-beta, relative."""
    alpha, n, d_1, d_2 = _sums(environment, x)
    a, b = alpha / d_1, alpha / d_2
    alone = a**2 * (x.fourth_1 - x.q_1**2) + b**2 * (x.fourth_2 - x.q_2**2)
    return n * (beta * (beta + 1) / 2 * alone + beta**2 * a * b * (x.squares - x.q_1 * x.q_2))


def _sums(environment: Environment, x: _Powers) -> tuple[float, float, Any, Any]:
    alpha, size, offset = (float(environment.place.static[name]) for name in ("alpha", "size", "offset"))
    return alpha, size, offset + alpha * size * x.q_1, offset + alpha * size * x.q_2


def _alone(environment: Environment) -> NeighbourResponse:
    state, static = environment.states[0], environment.place.static
    population = behind(state)
    law = Law(population.mean, population.variance, population.terms, population.origin, population.chain)
    signal = Signal(state.mean, state.second_moment, law)
    channels = environment.place.node.shapes_in[0].channels
    return NeighbourResponse(signal, channels, int(static["size"]), float(static["alpha"]), float(static["offset"]))


@dataclass(frozen=True)
class _Moments:
    """What the powers of a channel need of every sample: fields. `scale`: the root of its second moment over that of
    the function of the Gaussian alone; `fourth`: E x^4."""

    population: Population
    function: PointwiseFunction
    second: Field
    fourth: Field
    scale: Field

    @classmethod
    def of(cls, environment: Environment) -> _Moments:
        state = environment.states[0]
        population, f = behind(state), channel(behind(state))
        mean, std, q = population.mean, np.sqrt(population.variance), state.second_moment
        law = expect(f, mean, std).second_moment.value
        scale = np.sqrt(np.divide(q, law, out=np.ones_like(q), where=law > 0))
        return cls(population, f, q, scale**4 * expect(product(f, f), mean, std).second_moment.value, scale)

    def powers(self, layout: Any, k: Any, covariance: Any) -> tuple[_Powers, _Powers, _Powers]:
        """Of the pairs of a layout, and of their first and second samples with themselves."""
        mean, variance, f = self.population.mean, self.population.variance, self.function
        means = (layout.first(mean), layout.second(mean)) if mean.any() else (0.0, 0.0)
        given = (layout.first(variance), layout.second(variance), covariance, *means)
        s_1, s_2 = layout.first(self.scale), layout.second(self.scale)
        q_1, q_2, fourth_1, fourth_2 = (
            seen(of) for of in (self.second, self.fourth) for seen in (layout.first, layout.second)
        )
        square, cube = product(f, f), product(product(f, f), f)

        def average(left: PointwiseFunction, right: PointwiseFunction) -> Any:
            return pair(left, right).kernel(*given).value

        both = _Powers(
            k, s_1**3 * s_2 * average(cube, f), s_1 * s_2**3 * average(f, cube),
            s_1**2 * s_2**2 * average(square, square), q_1, q_2, fourth_1, fourth_2,
        )  # fmt: skip
        first, second = (_Powers(a, c, c, c, a, a, c, c) for a, c in ((q_1, fourth_1), (q_2, fourth_2)))
        return both, first, second
