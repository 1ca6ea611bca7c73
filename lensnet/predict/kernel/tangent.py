"""The neural tangent kernel: how alike two examples pull at all weights.

For one output channel, Theta_ab = sum over weights of dy_a/dw dy_b/dw. A weight layer contributes the covariance of the
gradient at its output times that of what its weights multiply, summed over output channels and positions (Jacot et al.
2018; Yang 2020 for any architecture whose gradients are independent of the weights they pass).

Parametrisation: `ntk` writes a weight as std * w with w of unit variance and counts dy/dw; `standard` counts the
derivative by the weight itself, as torch's parameters have it: each layer then counts 1/variance times more.

A layer that multiplies its input by one weight tensor needs no formula beside its kernel's. Components with several, or
that use one otherwise, say for each (`tangent`) the covariance of the gradient where its products enter, summed over
those products, and what it multiplies (`tangent_input`, else the input).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.classes import AveragedPairs, StationaryPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.graph import Network, Node
from lensnet.predict.edges import uses_of
from lensnet.predict.kernel.backward import UNKNOWN_USES
from lensnet.predict.kernel.environment import Environment
from lensnet.predict.kernel.forward import KERNEL
from lensnet.predict.kernel.propagate import Gradients, Kernels, common_probe, propagate, propagate_back
from lensnet.predict.kernel.source import input_state
from lensnet.predict.kernel.stack import stack_of, sweep
from lensnet.predict.kernel.stationary import input_by_class, propagate_by_class
from lensnet.predict.kernel.tied_back import is_tied

Parametrisation = Literal["ntk", "standard"]
PositionMode = Literal["auto", "full", "stationary", "averaged"]
MOST_SAMPLES = 8192
"""Most samples whose pairs are followed one by one: 0.5 GB for each state."""
Array = NDArray[np.float64]


TANGENT, TANGENT_INPUT = "tangent", "tangent_input"


class KernelError(ValueError):
    """A kernel that was asked for and that no formula gives; the message names the components."""


def nngp(network: Network, batch: Array | None = None, mode: PositionMode = "auto") -> Array:
    """Covariance of the output over weight draws at infinite width, `(N, N)` over the samples of the output.

    batch: inputs in torch layout; None for the declared input. Samples are examples, times positions where the output
    has some, example-major. mode: `full` follows every pair of positions, `stationary` every displacement,
    `averaged` equal and different positions (approximations, see `lensnet.predict.kernel.stationary`; the output must
    have no positions), `auto` the first that fits. Raises KernelError where a component on the way has no kernel
    formula.
    """
    if mode == "auto" and samples_of(network, batch) > MOST_SAMPLES:
        mode = "averaged" if network.input.shape.kind == "ids" else "stationary"
    if mode in ("stationary", "averaged"):
        return _by_class(network, batch, StationaryPairs if mode == "stationary" else AveragedPairs)
    source = input_state(network, batch)
    stack = stack_of(network)
    if stack is not None:
        return sweep(stack, source.pairs, tangent=False)[0]
    kernels = propagate(network, source)
    _complete(kernels)
    return np.array(kernels.states[network.nodes[-1].path].pairs)


def ntk(network: Network, batch: Array | None = None, parametrisation: Parametrisation = "ntk") -> Array:
    """The neural tangent kernel of one output channel, `(E, E)`.

    Counts every random weight and bias; not the scales and shifts of norms. Weights in several places count with the
    products of their uses (a table of more than 4,096 words that is embedding and head with the squares alone). Raises
    KernelError where a component has no formula, where nothing tells how the gradients at two uses (of a value, of
    weights) agree, where the output has positions (pool or flatten them first), or where there are too many positions
    to follow every pair.
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
    for (path, _), checks in gradients.checks.items():
        if any(check.text == UNKNOWN_USES for check in checks):
            raise KernelError(f"{path} is used several times, and nothing tells how the gradients of its uses agree")
    return tangent_kernel(kernels, gradients, parametrisation)


def tangent_kernel(kernels: Kernels, gradients: Gradients, parametrisation: Parametrisation = "ntk") -> Array:
    """The sum over weight layers, from states and from gradients of one question to all examples."""
    network = kernels.network
    examples = kernels.states[network.nodes[-1].path].layout.examples
    total = np.zeros((examples, examples))
    for node in network:
        if not node.weights:
            continue
        p = gradients.arriving.get(node.path)
        if p is None:
            raise KernelError(f"{node.path} gets a gradient that no formula gives")
        total += layer_tangent(kernels, node, p, parametrisation)
        for twin in network.sharing(node):
            if twin.kind == node.kind:
                total += shared_tangent(kernels, gradients, node, twin, parametrisation)
            elif is_tied(node):
                total += tied_tangent(network, gradients, node, twin, parametrisation)
    return total / network.nodes[-1].shape.channels


def layer_tangent(kernels: Kernels, node: Node, p: Pairs, parametrisation: Parametrisation = "ntk") -> Array:
    """What the weights of one layer contribute, `(E, E)`, summed over the output channels of the network.

    `p`: covariance of the gradient at its output. Raises KernelError where the component does not say it.
    """
    declared = node.component.port_effects(Level.KERNEL, TANGENT)
    if declared.keys() >= node.weights.keys():
        parts = (_declared(kernels, node, name, p, parametrisation) for name in node.weights)
        return np.asarray(sum(parts))
    if node.component.coherence.kind != "fresh" or len(node.weights) > 1:
        raise KernelError(f"{node.path} has no tangent formula ({node.kind})")
    return _of_one(kernels, node, p, parametrisation)


def _declared(kernels: Kernels, node: Node, name: str, p: Pairs, parametrisation: Parametrisation) -> Array:
    """By the component's own formulas for one of its weight tensors."""
    place, law = kernels.place(node), node.weights[name]
    states = [kernels.states[producer] for producer in node.inputs]
    environment = Environment(place, states, kernels.crosses(node), place.made.whole(p))
    gradient = environment.evaluate(node.component.port_effects(Level.KERNEL, TANGENT)[name].formula)
    given = node.component.port_effects(Level.KERNEL, TANGENT_INPUT).get(name)
    multiplied = states[0].pairs if given is None else environment.evaluate(given.formula)
    weight, bias = (law.variance, law.bias_std**2) if parametrisation == "ntk" else (1.0, float(law.has_bias))
    return _summed(np.asarray(gradient * (weight * law.fan_in * multiplied + bias)), place.made)


def _summed(pairs: Pairs, layout: FullPairs) -> Array:
    """A pair field summed over all pairs of positions, `(E, E)`."""
    return np.asarray(layout.split(pairs).sum(axis=(1, 3))) if pairs.shape == layout.shape else pairs


def shared_tangent(
    kernels: Kernels, gradients: Gradients, node: Node, twin: Node, parametrisation: Parametrisation = "ntk"
) -> Array:
    """What two uses of the same weights add to the squares of each: gradients at the one, at the other, `(E, E)`.

    Raises KernelError where no rule tells how the two uses are correlated.
    """
    assert gradients.cross is not None and kernels.cross is not None
    p = gradients.cross.outputs(node.path, twin.path)
    inner = kernels.cross.moment(node.inputs[0], twin.inputs[0])
    if p is not None and not p.any():
        return np.zeros((kernels.place(node).made.examples,) * 2)
    place, state = kernels.place(node), kernels.states[node.inputs[0]]
    simple = node.component.coherence.kind == "fresh" and len(node.weights) == 1
    shapes = (state.layout.shape, place.made.shape)
    if p is None or inner is None or not simple or (inner.shape or shapes[0], p.shape) != shapes:
        raise KernelError(f"{node.path} and {twin.path} share weights, and nothing tells how their gradients agree")
    return _of_one(kernels, node, p, parametrisation, Covariance(state.mean, state.layout.whole(inner), state.layout))


def tied_tangent(
    network: Network, gradients: Gradients, head: Node, embedding: Node, parametrisation: Parametrisation = "ntk"
) -> Array:
    """What a table adds that is an embedding and the matrix of a head, both orders of the two uses, `(E, E)`.

    0 among more than `MOST_WORDS` words. Raises KernelError where no rule tells what the gradient at the embedding
    still knows of the table.
    """
    (use,) = uses_of(network, embedding.path)
    known = gradients.known.get(use)
    if known is None or gradients.tied is None:
        return np.zeros(())
    found = gradients.tied.tangent(head, known, gradients.arriving[head.path]) if known.head == head.path else None
    if found is None:
        raise KernelError(
            f"{head.path} and {embedding.path} share a table, and nothing tells how their gradients agree"
        )
    (law,) = embedding.weights.values()
    return found * (law.variance if parametrisation == "ntk" else 1.0)


def _of_one(
    kernels: Kernels, node: Node, p: Pairs, parametrisation: Parametrisation, met: Covariance | None = None
) -> Array:
    """Of one weight tensor that multiplies the input: by the kernel formula of the layer, whatever its geometry.

    `met`: what stands for the input where that of another use meets it.
    """
    place = kernels.place(node)
    formula = node.component.effects(Level.KERNEL)[KERNEL].formula
    (law,) = node.weights.values()
    (name,) = node.weights
    suffix = "" if name == "weight" else f"_{name}"
    states = [kernels.states[producer] for producer in node.inputs] if met is None else [met]

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
    return node.shape.channels * _summed(place.made.whole(p) * seen, place.made)


def samples_of(network: Network, batch: Array | None) -> int:
    """Most samples (examples times positions) that any edge carries."""
    examples = network.input.batch if batch is None else len(batch)
    return examples * max(shape.position_count for shape in (network.input.shape, *(node.shape for node in network)))


def _by_class(network: Network, batch: Array | None, kind: type[StationaryPairs | AveragedPairs]) -> Array:
    if batch is None:
        raise KernelError("averages over positions are read off a batch: give one")
    layout = kind(len(batch), network.input.shape.positions)
    kernels = propagate_by_class(network, input_by_class(network, batch, layout), batch)
    _complete(kernels)
    state = kernels.states[network.nodes[-1].path]
    if state.layout.positions:
        raise KernelError("the output has positions, and only averages over them are known in this mode")
    return np.array(state.pairs)


def _complete(kernels: Kernels) -> None:
    if kernels.reasons:
        path, reason = next(iter(kernels.reasons.items()))
        raise KernelError(f"the kernel ends at {path}: {reason}")
