"""Plain stacks (dense layers and pointwise functions in a row, no positions): NNGP and NTK in one sweep forward.

The recursion of Jacot et al. 2018: with K the covariance and Theta the tangent kernel before a layer,

    dense      K' = g^2 K + sigma_b^2 + b_0^2,     Theta' = g^2 Theta + K' - b_0^2
    pointwise  K' = E f(u) f(v),                   Theta' = Theta * E f'(u) f'(v)

Only pairs of different samples are kept in the arrays, and the samples themselves in vectors: half the work, and the
derivative of a kernel at correlation 1 needs no digits that a rounded correlation does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.homogeneous import sides
from lensnet.algebra.bivariate.law import determinant, geometric_mean
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
    bends = _bends(layers)
    if bends is not None:
        return _by_angle(layers, bends, gram, tangent)
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


def _bends(layers: list[Layer]) -> list[tuple[float, float]] | None:
    """E f^2 at unit variance and how much the function bends, layer by layer (dense ones: nothing), where every
    function is a multiple of |x| on either side of 0 and no mean is added; else None."""
    found = []
    for layer in layers:
        if isinstance(layer, Dense):
            if layer.mean or not layer.gain:
                return None
            found.append((1.0, 0.0))
            continue
        of = sides(layer)
        if of is None or of.degree != 1 or not (of.above or of.below):
            return None
        square = 0.5 * (of.above**2 + of.below**2)
        found.append((square, (of.above + of.below) ** 2 / (2.0 * pi * square)))
    return found


def _by_angle(layers: list[Layer], bends: list[tuple[float, float]], gram: Array, tangent: bool) -> tuple[Array, Array]:
    """The sweep in gaps e = 1 - cos(t) and in Theta over the product of standard deviations, both for all pairs.

    A function of one piece on either side of 0 multiplies Theta by 1 - b t and takes b (sin(t) - t cos(t)) off the gap,
    b = 1/pi for relu (Cho and Saul 2009); without bias no pair needs its variances. Gaps keep their digits where
    correlations have lost them, and at 1 nothing has to be treated apart.
    """
    first, second = np.triu_indices(len(gram))
    own = np.diagonal(gram)
    size = geometric_mean(own[first], own[second])
    gap = _gaps(own[first], own[second], gram[first, second], size)
    theta, angle, sine = np.zeros_like(gap), np.empty_like(gap), np.empty_like(gap)
    for layer, (square, bend) in zip(layers, bends, strict=True):
        if isinstance(layer, Dense):
            if tangent:
                theta += layer.weight_share / layer.gain * (1.0 - gap)
            own, size = layer.gain * own, layer.gain * size
            if layer.bias:
                size, gap, theta = _biased(layer, own[first], own[second], size, gap, theta)
                own = own + layer.bias
            continue
        own, size = square * own, square * size
        if not bend:
            continue
        blunt = bool(gap.max() > 1.0)  # beyond a right angle the sine of its half has lost what is left to pi
        np.multiply(np.minimum(gap, 2.0 - gap) if blunt else gap, 0.5, out=angle)
        np.arcsin(np.sqrt(angle, out=angle), out=angle)
        angle *= 2.0
        if blunt:
            np.subtract(pi, angle, out=angle, where=gap > 1.0)
        np.subtract(2.0, gap, out=sine)
        sine *= gap
        np.sqrt(sine, out=sine)
        sine -= angle
        sine += angle * gap
        sine *= bend
        gap -= sine
        np.maximum(gap, 0.0, out=gap)
        if tangent:
            angle *= -bend
            angle += 1.0
            theta *= angle
    return _both_ways(size - size * gap, first, second), _both_ways(size * theta, first, second)


def _gaps(one: Array, other: Array, both: Array, size: Array) -> Array:
    """1 - correlation, to the last digit that the covariances leave; 1 where a variance is 0."""
    scale = np.ldexp(1.0, -np.frexp(size.max(initial=0.0))[1])  # products of variances need not be numbers
    one, other, both, size = scale * one, scale * other, scale * both, scale * size
    sharp = both > 0
    missing = np.where(sharp, determinant(one, other, both), size * (size - both))
    gap = np.divide(missing, size * (size + np.maximum(both, 0.0)), out=np.ones_like(size), where=size > 0)
    return np.asarray(np.clip(gap, 0.0, 2.0))


def _biased(
    layer: Dense, one: Array, other: Array, size: Array, gap: Array, theta: Array
) -> tuple[Array, Array, Array]:
    """A bias brings two inputs of unequal variance apart in size no less than it brings them together in angle."""
    made = geometric_mean(one + layer.bias, other + layer.bias)
    unequal = layer.bias * (np.sqrt(one) - np.sqrt(other)) ** 2 / (made + size + layer.bias)
    return made, (size * gap + unequal) / made, (size * theta + layer.bias_share) / made


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


def _both_ways(pairs: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
    out = np.empty((int(first[-1]) + 1,) * 2)
    out[first, second] = pairs
    out[second, first] = pairs
    return out


def _square(own: Array, pairs: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
    out = np.empty((len(own), len(own)))
    out[first, second] = pairs
    out[second, first] = pairs
    np.fill_diagonal(out, own)
    return out
