"""Plain stacks (dense layers and pointwise functions in a row, no positions): NNGP and NTK in one sweep forward.

The recursion of Jacot et al. 2018: with K the covariance and Theta the tangent kernel before a layer,

    dense      K' = g^2 K + sigma_b^2 + b_0^2,     Theta' = g^2 Theta + K' - b_0^2
    pointwise  K' = E f(u) f(v),                   Theta' = Theta * E f'(u) f'(v)

Only pairs of different samples are kept in the arrays, and the samples themselves in vectors: half the work, and the
derivative of a kernel at correlation 1 needs no digits that a rounded correlation does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.network.graph import INPUT, Network
from lensnet.predict.moments.pointwise import function_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dense:
    """gain^2, bias variance and mean; what the tangent kernel counts for the weights and for the bias."""

    gain: float
    bias: float
    mean: float
    weight_share: float
    bias_share: float


Layer = Dense | PointwiseFunction


def stack_of(network: Network, standard: bool = False) -> list[Layer] | None:
    """The layers of a plain stack, None where the network is anything else."""
    if network.input.shape.positions or network.input.shape.kind == "ids":
        return None
    layers: list[Layer] = []
    before = INPUT
    for node in network:
        if node.inputs != (before,) or node.shares:
            return None
        before = node.path
        if node.component.function is not None:
            if not layers or not isinstance(layers[-1], Dense):
                return None  # a function of a function, or of an input that is not Gaussian
            layers.append(function_of(node))
        elif node.kind == "linear":
            law = node.weights["weight"]
            gain, bias = law.fan_in * law.variance, law.bias_std**2
            own = (float(law.fan_in), float(law.has_bias)) if standard else (gain, bias)
            layers.append(Dense(gain, bias, law.bias_mean, *own))
        else:
            return None
    return layers


def sweep(layers: list[Layer], gram: Array, tangent: bool = True) -> tuple[Array, Array]:
    """Covariance of the output and tangent kernel of one output channel, `(N, N)` each, from the input's covariance.

    In the standard parametrisation Theta grows by the width of each layer, which `Dense.weight_share` holds.
    """
    first, second = np.triu_indices(len(gram), 1)
    own, pairs = np.diagonal(gram).copy(), gram[first, second]
    own_theta, theta = np.zeros_like(own), np.zeros_like(pairs)
    mean = 0.0
    for layer in layers:
        if isinstance(layer, Dense):
            if tangent:
                own_theta = layer.gain * own_theta + layer.weight_share * own + layer.bias_share
                theta *= layer.gain
                theta += layer.weight_share * pairs + layer.bias_share
            mean, offset = layer.mean, layer.bias + layer.mean**2
            own = layer.gain * own + offset
            pairs = layer.gain * pairs
            if offset:
                pairs += offset
            continue
        variance = own - mean**2 if mean else own
        self_second, self_slope = _own(layer, variance, mean)
        covariance = pairs - mean**2 if mean else pairs
        if layer.homogeneity is None:  # what depends on one sample alone is the greater part of the work
            value, slope = _outer(layer, variance, _square(0 * variance, covariance, first, second), mean, tangent)
            pairs = value[first, second]
            if tangent:
                theta *= slope[first, second]
                own_theta *= self_slope
            own = self_second
            continue
        one, other = variance.take(first, mode="clip"), variance.take(second, mode="clip")
        if tangent:
            found, slopes = dual(layer).both(one, other, covariance, mean, mean)
            theta *= slopes.value
            own_theta *= self_slope
        else:
            found = dual(layer).kernel(one, other, covariance, mean, mean)
        own, pairs = self_second, np.asarray(found.value)
    return _square(own, pairs, first, second), _square(own_theta, theta, first, second)


def _outer(
    function: PointwiseFunction, variance: Array, covariance: Array, mean: float, tangent: bool
) -> tuple[Array, Array]:
    """Kernel and gradient kernel as matrices over samples."""
    arguments = variance[:, None], variance[None, :], covariance, mean, mean
    if not tangent:
        return np.asarray(dual(function).kernel(*arguments).value), np.zeros(())
    value, slope = dual(function).both(*arguments)
    return np.asarray(value.value), np.asarray(slope.value)


def _own(function: PointwiseFunction, variance: Array, mean: float) -> tuple[Array, Array]:
    """E f^2 and E f'^2 of every sample; of a homogeneous function, one number scaled."""
    degree = function.homogeneity
    if degree is None or mean:
        moments = expect(function, mean, np.sqrt(variance))
        return moments.second_moment.value, moments.slope_second_moment.value
    if "unit" not in function.tables:
        unit = expect(function, 0.0, 1.0)
        function.tables["unit"] = float(unit.second_moment.value), float(unit.slope_second_moment.value)
    second, slope = function.tables["unit"]
    if degree == 1:
        return second * variance, np.full_like(variance, slope)
    return second * variance**degree, slope * variance ** (degree - 1)


def _square(own: Array, pairs: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
    out = np.empty((len(own), len(own)))
    out[first, second] = pairs
    out[second, first] = pairs
    np.fill_diagonal(out, own)
    return out
