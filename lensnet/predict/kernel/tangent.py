"""The neural tangent kernel: how alike two examples pull at all weights.

For one output channel, Theta_ab = sum over weights of dy_a/dw dy_b/dw. A weight layer contributes the covariance of the
gradient at its output times that of what its weights multiply, summed over output channels and positions (Jacot et al.
2018; Yang 2020 for any architecture whose gradients are independent of the weights they pass).

Parametrisation: `ntk` writes a weight as std * w with w of unit variance and counts dy/dw; `standard` counts the
derivative by the weight itself, as torch's parameters have it: each layer then counts 1/variance times more.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Pairs
from lensnet.network.graph import Network, Node
from lensnet.predict.kernel.environment import Environment
from lensnet.predict.kernel.forward import KERNEL
from lensnet.predict.kernel.propagate import Gradients, Kernels, common_probe, propagate, propagate_back
from lensnet.predict.kernel.source import input_state
from lensnet.predict.kernel.stack import stack_of, sweep
from lensnet.predict.kernel.stationary import input_by_displacement, propagate_by_displacement

Parametrisation = Literal["ntk", "standard"]
PositionMode = Literal["auto", "full", "stationary"]
MOST_SAMPLES = 8192
"""Most samples whose pairs are followed one by one: 0.5 GB for each state."""
Array = NDArray[np.float64]


class KernelError(ValueError):
    """A kernel that was asked for and that no formula gives; the message names the components."""


def nngp(network: Network, batch: Array | None = None, mode: PositionMode = "auto") -> Array:
    """Covariance of the output over weight draws at infinite width, `(N, N)` over the samples of the output.

    batch: inputs in torch layout; None for the declared input. Samples are examples, times positions where the output
    has some, example-major. mode: `full` follows every pair of positions, `stationary` every displacement (an
    approximation, see `lensnet.predict.kernel.stationary`; the output must have no positions), `auto` the first that
    fits. Raises KernelError where a component on the way has no kernel formula.
    """
    if mode == "stationary" or (mode == "auto" and samples_of(network, batch) > MOST_SAMPLES):
        return _by_displacement(network, batch)
    source = input_state(network, batch)
    stack = stack_of(network)
    if stack is not None:
        return sweep(stack, source.pairs, tangent=False)[0]
    kernels = propagate(network, source)
    _complete(kernels)
    return np.array(kernels.states[network.nodes[-1].path].pairs)


def ntk(network: Network, batch: Array | None = None, parametrisation: Parametrisation = "ntk") -> Array:
    """The neural tangent kernel of one output channel, `(E, E)`.

    Counts every random weight and bias; not the scales and shifts of norms. Raises KernelError where a component has no
    formula, where weights are shared, where the output has positions (pool or flatten them first), or where there are
    too many positions to follow every pair.
    """
    if samples_of(network, batch) > MOST_SAMPLES:
        raise KernelError(f"more than {MOST_SAMPLES:,} samples (examples times positions): their pairs are too many")
    source = input_state(network, batch)
    stack = stack_of(network, parametrisation == "standard")
    if stack is not None:
        return sweep(stack, source.pairs)[1]
    kernels = propagate(network, source)
    _complete(kernels)
    if kernels.states[network.nodes[-1].path].layout.positions:
        raise KernelError(
            "the output has positions: a tangent kernel is that of an output without (pool or flatten it)"
        )
    gradients = propagate_back(kernels, common_probe(kernels))
    return tangent_kernel(kernels, gradients, parametrisation)


def tangent_kernel(kernels: Kernels, gradients: Gradients, parametrisation: Parametrisation = "ntk") -> Array:
    """The sum over weight layers, from states and from gradients of one question to all examples."""
    network = kernels.network
    examples = kernels.states[network.nodes[-1].path].layout.examples
    total = np.zeros((examples, examples))
    for node in network:
        if node.weights:
            p = gradients.arriving.get(node.path)
            if p is None or node.shares or len(node.weights) > 1:
                reason = "shares its weights" if node.shares else f"has no tangent formula ({node.kind})"
                raise KernelError(f"{node.path} {reason}")
            total += layer_tangent(kernels, node, p, parametrisation)
    return total / network.nodes[-1].shape.channels


def layer_tangent(kernels: Kernels, node: Node, p: Pairs, parametrisation: Parametrisation = "ntk") -> Array:
    """What the weights of one layer contribute, `(E, E)`, summed over the output channels of the network."""
    place = kernels.place(node)
    formula = node.component.effects(Level.KERNEL)[KERNEL].formula
    (law,) = node.weights.values()
    (name,) = node.weights
    suffix = "" if name == "weight" else f"_{name}"
    states = [kernels.states[producer] for producer in node.inputs]

    def at(variance: float, bias: float) -> Pairs:
        place.override = {f"b_0{suffix}": 0.0, f"sigma_b{suffix}": bias, f"w2{suffix}": variance}
        try:
            return np.asarray(Environment(place, states).evaluate(formula))
        finally:
            place.override = {}

    if parametrisation == "ntk":
        seen = at(law.variance, law.bias_std)
    else:
        seen = at(1.0, 1.0 if law.has_bias else 0.0)
    weighted = place.made.whole(p) * seen
    if not place.made.positions:
        return node.shape.channels * weighted
    return np.asarray(node.shape.channels * place.made.split(weighted).sum(axis=(1, 3)))


def samples_of(network: Network, batch: Array | None) -> int:
    """Most samples (examples times positions) that any edge carries."""
    examples = network.input.batch if batch is None else len(batch)
    return examples * max(shape.position_count for shape in (network.input.shape, *(node.shape for node in network)))


def _by_displacement(network: Network, batch: Array | None) -> Array:
    if batch is None:
        raise KernelError("displacements are read off a batch: give one")
    kernels = propagate_by_displacement(network, input_by_displacement(network, batch, len(batch)))
    _complete(kernels)
    state = kernels.states[network.nodes[-1].path]
    if state.layout.positions:
        raise KernelError("the output has positions: in stationary mode only averages over them are known")
    return np.array(state.pairs)


def _complete(kernels: Kernels) -> None:
    if kernels.reasons:
        path, reason = next(iter(kernels.reasons.items()))
        raise KernelError(f"the kernel ends at {path}: {reason}")
