"""The kernel propagated through a network: states at every output, gradient covariances at every port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np

from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.geometry import Patches, Pointwise
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.edges import OUTPUT, Edge, uses_of
from lensnet.predict.kernel.backward import BackStep, backward, gathered_uses
from lensnet.predict.kernel.cross import ForwardCross
from lensnet.predict.kernel.cross_back import BackwardCross
from lensnet.predict.kernel.environment import TABLE, CrossPairs, KernelPlace
from lensnet.predict.kernel.forward import Step, forward
from lensnet.predict.kernel.tied_back import Known, TiedHeads, is_tied
from lensnet.predict.prediction import Check


@dataclass
class Kernels:
    """What is known of one network: `states[path]`, and per path the checks, the error bound and why it is missing.

    `inverse_width[path]`: sum of 1/width over the weight layers that the signal has passed. `definite`: outputs that no
    random weight has touched, whose covariance is that of the batch itself and not an average over draws.
    """

    network: Network
    states: dict[str, Covariance] = field(default_factory=dict)
    checks: dict[str, tuple[Check, ...]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    inverse_width: dict[str, float] = field(default_factory=dict)
    places: dict[str, KernelPlace] = field(default_factory=dict)
    definite: set[str] = field(default_factory=set)
    cross: ForwardCross | None = None

    def step(self, node: Node) -> Step:
        """The state at the output of a component, from those known at its ports."""
        return forward(self.place(node), [self.states[producer] for producer in node.inputs], self.crosses(node))

    def step_back(self, node: Node, p: Pairs, passing: Pairs | None) -> dict[str, BackStep]:
        """Gradient covariances at the ports, from that at the output."""
        states = [self.states[producer] for producer in node.inputs]
        return backward(self.place(node), states, p, self.crosses(node), passing)

    def gradient_layout(self, path: str) -> Any:
        """The layout of gradients at an output, and at every port that it feeds."""
        return self.states[path].layout

    def gradient_place(self, node: Node) -> KernelPlace:
        """The component between the layouts of the gradients at its ports and its output."""
        return self.place(node)

    def failing(self, node: Node) -> dict[str, Check]:
        """The assumptions that fail in front of a component, by their text."""
        return {c.text: c for producer in node.inputs for c in self.checks[producer] if _fails(c)}

    def width_so_far(self, node: Node) -> float:
        """The sum of 1/width at its output."""
        own = 1.0 / node.shape.channels if node.component.coherence.kind == "fresh" else 0.0
        return own + max(self.inverse_width[producer] for producer in node.inputs)

    def place(self, node: Node) -> KernelPlace:
        if node.path not in self.places:
            examples = self.states[INPUT].layout.examples
            ports = [self.states[producer].layout for producer in node.inputs]
            made = FullPairs(examples, node.shape.positions)
            self.places[node.path] = KernelPlace(node, ports[0], made, node.inputs[0] in self.definite, ports)
        return self.places[node.path]

    @property
    def hidden_inverse_width(self) -> float:
        """The largest sum of 1/width over the weight layers that another one follows: what a gradient has passed."""
        followed: dict[str, bool] = {}
        for node in reversed(self.network.nodes):
            users = [user for user, _ in self.network.consumers(node.path)]
            followed[node.path] = any(user.component.coherence.kind == "fresh" or followed[user.path] for user in users)
        return max(
            (self.inverse_width[path] for path, yes in followed.items() if yes and path in self.states), default=0.0
        )

    def crosses(self, node: Node) -> CrossPairs:
        """E[a b] for every two ports of a node, and of its input with the rows of a table that it shares."""
        if is_tied(node):
            return {TABLE: TiedHeads(self).met(node.inputs[0], node.path)}
        if len(node.ports) < 2 or node.component.is_fork or not _uses_crosses(node):
            return {}
        assert self.cross is not None
        pairs = combinations(range(len(node.ports)), 2)
        return {(i, j): self.cross.moment(node.inputs[i], node.inputs[j]) for i, j in pairs}


def propagate(network: Network, source: Covariance, cut: Node | None = None) -> Kernels:
    """The state at every output, from that at the input; none behind a component without a formula.

    `cut`: the component that cuts the input into patches, where `source` is the state of the patches already.
    """
    out = Kernels(network, {INPUT: source})
    if cut is not None:
        out.places[cut.path] = cut_place(cut, source.layout)
    return swept(out)


def swept(out: Kernels) -> Kernels:
    """All states, from the one at the input that is there."""
    network, source = out.network, out.states[INPUT]
    out.checks[INPUT], out.errors[INPUT], out.inverse_width[INPUT] = (), 0.0, 0.0
    out.cross = ForwardCross(network, out.states, out.place)
    if source.population is None:
        out.definite.add(INPUT)
    for node in network:
        if not node.weights and all(producer in out.definite for producer in node.inputs):
            out.definite.add(node.path)
        if any(producer not in out.states for producer in node.inputs):
            blocked = next(producer for producer in node.inputs if producer not in out.states)
            out.reasons[node.path] = f"behind {blocked}"
            continue
        step = out.step(node)
        if step.state is None:
            out.reasons[node.path] = step.reason
            continue
        out.states[node.path] = step.state
        out.checks[node.path] = (*step.checks, *out.failing(node).values())
        out.errors[node.path] = step.error + max(out.errors[producer] for producer in node.inputs)
        out.inverse_width[node.path] = out.width_so_far(node)
    return out


@dataclass
class Gradients:
    """Gradient covariances at every input port, and (key `OUTPUT`) at the network's output."""

    pairs: dict[Edge, Pairs] = field(default_factory=dict)
    checks: dict[Edge, tuple[Check, ...]] = field(default_factory=dict)
    errors: dict[Edge, float] = field(default_factory=dict)
    arriving: dict[str, Pairs] = field(default_factory=dict)
    """At the output of every component: the sum over its uses."""
    passing: dict[Edge, Pairs | None] = field(default_factory=dict)
    """See `lensnet.predict.kernel.backward.BackStep`."""
    cross: BackwardCross | None = None
    tied: TiedHeads | None = None
    known: dict[Edge, Known | None] = field(default_factory=dict)
    """What gradients hold of a table that is the matrix of a head."""


def propagate_back(kernels: Kernels, probe: Pairs) -> Gradients:
    """Gradient covariances for a gradient of covariance `probe` (N, N) at the network's output.

    The identity is the gradient of L = <r, y> with independent noise r for every sample; all ones is one question put
    to all of them, as for the tangent kernel.
    """
    network = kernels.network
    out = Gradients({OUTPUT: probe}, {OUTPUT: ()}, {OUTPUT: 0.0})
    assert kernels.cross is not None
    cross = out.cross = BackwardCross(network, kernels.states, out.pairs, kernels.gradient_place, kernels.cross)
    tied = out.tied = TiedHeads(kernels) if any(map(is_tied, network)) else None
    for node in reversed(network.nodes):
        uses = uses_of(network, node.path)
        if any(use not in out.pairs for use in uses) or node.path not in kernels.states:
            continue
        checks = {c.text: c for use in uses for c in out.checks[use] if _fails(c)}
        error = max(out.errors[use] for use in uses)
        if node.component.is_fork:
            between = {(i, j): cross.moment(uses[i], uses[j]) for i, j in combinations(range(len(uses)), 2)}
            turn = kernels.gradient_place(node).given.transposed
            total, more = gathered_uses([out.pairs[use] for use in uses], between, turn)
            edge = (node.path, node.ports[0])
            out.arriving[node.path] = out.pairs[edge] = total
            out.checks[edge], out.errors[edge] = (*more, *checks.values()), error
            if tied is not None:
                out.known[edge] = tied.gathered([out.known.get(use) for use in uses])
            continue
        p = out.pairs[uses[0]]
        out.arriving[node.path] = p
        for port, step in kernels.step_back(node, p, out.passing.get(uses[0])).items():
            edge = (node.path, port)
            if step.pairs is None:
                continue
            out.pairs[edge], out.passing[edge] = step.pairs, step.passing
            if tied is not None:
                _follow(out, tied, node, edge, uses[0])
            out.checks[edge] = (*step.checks, *checks.values())
            out.errors[edge] = error + step.error
    return out


def _follow(out: Gradients, tied: TiedHeads, node: Node, edge: Edge, use: Edge) -> None:
    """What a gradient knows of a table, at a port of a component."""
    known = out.known.get(use)
    asked = np.zeros(()) if known is None else out.arriving[known.head]
    out.known[edge], more = tied.passed(node, edge[1], known, asked)
    if more is not None:
        out.pairs[edge] = out.pairs[edge] + more


def cut_place(node: Node, layout: FullPairs) -> KernelPlace:
    """A patch embedding whose input is cut already: a window is one sample, and sums over all its pixels."""
    assert isinstance(node.geometry, Patches)
    place = KernelPlace(replace(node, geometry=Pointwise()), layout, layout)
    taps = float(prod(node.geometry.patch))
    place.operators.table = {**place.operators.table, "gather_same": lambda k: taps * layout.whole(k)}
    return place


def identity_probe(kernels: Kernels) -> Pairs:
    layout = kernels.states[kernels.network.nodes[-1].path].layout
    return layout.same


def common_probe(kernels: Kernels) -> Pairs:
    layout = kernels.states[kernels.network.nodes[-1].path].layout
    return np.ones(layout.shape)


def _fails(check: Check) -> bool:
    return check.margin is not None and not check.margin >= 0


def _uses_crosses(node: Node) -> bool:
    model: Mapping[str, object] = node.component.effects("kernel")
    formulas = [getattr(entry, "formula", None) for entry in model.values()]
    names = {name for formula in formulas if formula is not None for name in formula.uses}
    own = {f"k_{port}" for port in node.ports}
    return any(name == "cross" or name.startswith(("k_", "o_")) for name in names - own)
