"""One forward and backward pass through the network, leaving statistics behind and no tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter
from torch.fx.node import Node as FxNode

from lensnet.measure.device import is_out_of_memory
from lensnet.measure.draw import generator
from lensnet.measure.errors import MeasureError
from lensnet.measure.estimators import gradient_quantities, needed, output_quantities, signal_quantities
from lensnet.measure.examples import examples_now
from lensnet.measure.fields import channel_moments, gradient_moments, inner_product
from lensnet.measure.grams import sampled_gram
from lensnet.measure.layers.merge import Identity
from lensnet.measure.rate_probe import labelled_numbers
from lensnet.measure.statistics import OutputStatistics, ScalarKey, SeedStatistics
from lensnet.network.distortion import label_distortion
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape
from lensnet.quantities.spectra import DISTORTION


def measure_pass(
    module: GraphModule,
    network: Network,
    batch: Tensor,
    seed: int,
    backward: bool = True,
    earlier: SeedStatistics | None = None,
    sides: bool = True,
    rows: int = 0,
) -> SeedStatistics:
    """Measure one weight draw, which the module already holds, on `batch` (on the module's device).

    The loss is L = <r, y> with r iid standard normal, from the seed's own generator. Gradients are those of the
    activations only; parameters get none. A port's gradient is taken on an alias of its own, so that the uses of a
    forked signal stay apart. `earlier`: what another pass with as many rows left behind; the statistics of the batch do
    not depend on the weights. `sides`: measure the side quantities that components ask for. `rows`: most rows of the
    sample matrices whose Gram matrices are kept; none for 0. Gradients of different examples can be compared only when
    the same question is put to all: those Gram matrices are of L = sum_e <r, y_e> with one r, from a backward pass of
    its own.
    """
    probe = Probe(module, network, backward, sides, rows)
    if earlier is not None and INPUT in earlier.outputs:
        known = earlier.outputs[INPUT]
        probe.outputs[INPUT] = torch.from_numpy(known.mean), torch.from_numpy(known.second_moment)
        probe.grams.update((path, torch.from_numpy(gram)) for path, gram in earlier.grams.items() if path == INPUT)
    with torch.set_grad_enabled(backward):
        output = probe.run(batch.detach())
        if backward and output.requires_grad:
            if rows:
                probe.send_back_together(output, cotangent(seed, output[:1]).expand_as(output))
            probe.send_back(output, cotangent(seed, output))
    return probe.collect(seed)


def cotangent(seed: int, output: Tensor) -> Tensor:
    """r of the loss L = <r, y>: iid N(0, 1) of the output's shape, the same on every device."""
    return torch.randn(output.shape, generator=generator(seed, "output", "cotangent")).to(output)


class Probe(Interpreter):
    """Runs the graph; every value is freed after its last use, as in the bare module."""

    def __init__(
        self, module: GraphModule, network: Network, backward: bool, with_sides: bool = True, rows: int = 0
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.network = network
        self.backward = backward
        self.with_sides = with_sides
        self.rows = rows
        self.shapes: dict[str, Shape] = {INPUT: network.input.shape, **{node.path: node.shape for node in network}}
        self.outputs: dict[str, tuple[Tensor, Tensor]] = {}
        self.gradients: dict[tuple[str, str], Tensor] = {}
        self.side: dict[tuple[str, str, str], Tensor] = {}
        self.invariant: dict[str, Tensor] = {}
        self.together = False
        self.scalars: dict[ScalarKey, Tensor] = {}
        self.grams: dict[str, Tensor] = {}
        self.gradient_grams: dict[tuple[str, str], Tensor] = {}

    def run_node(self, n: FxNode) -> Any:
        path = n.meta.get("path")
        if path is None:
            return super().run_node(n)
        if n.op == "placeholder":
            value = super().run_node(n)
        else:
            node, layer = self.network[path], self.fetch_attr(str(n.target))
            values, _ = self.fetch_args_kwargs_from_env(n)
            value = self._component(node, layer, values)
            if isinstance(layer, Identity) and node.inputs[0] in self.outputs:  # a fork: the same tensor once more
                self.outputs[path] = self.outputs[node.inputs[0]]
                if node.inputs[0] in self.grams:
                    self.grams[path] = self.grams[node.inputs[0]]
        if not torch.is_tensor(value) or not value.is_floating_point():
            return value
        return self.open(partial(self._record, path), value)[0]

    def open(self, look: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> tuple[Tensor, ...]:
        """Let `look` see the tensors as they are; what it returns takes their place."""
        return look(*values)

    def _component(self, node: Node, layer: nn.Module, values: tuple[Tensor, ...]) -> Any:
        """Run one component on aliases of its inputs, each watched for the gradient of that port."""
        if self.with_sides and (needed(node, "signal") or needed(node, "pair")):
            self.open(partial(self._measure_sides, node), *values)
        if self.backward:
            values = self.open(partial(self._watch, node), *values)
        try:
            made = layer(*values)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise MeasureError(f"{node.path}: {error}") from error
        if self.with_sides and needed(node, "output"):
            made = self.open(partial(self._measure_output, node), made)[0]
        if self.with_sides and self.backward and needed(node, "gradient"):
            made = self.open(partial(self._watch_output, node), made, values[0])[0]
        return made

    def _record(self, path: str, value: Tensor) -> tuple[Tensor, ...]:
        """Forward statistics of an output. It becomes a leaf of the backward pass if nothing before it is one."""
        if path not in self.outputs:
            with torch.no_grad():
                self.outputs[path] = self.moments(value, self.shapes[path])
        known = path in self.grams
        if self.rows and (path == INPUT or not known):
            with torch.no_grad():
                if not known:
                    self.grams[path] = self.gram(value, self.shapes[path])
                self._record_labelled(path, value)
        return (value.detach().requires_grad_() if self.backward and not value.requires_grad else value,)

    def _record_labelled(self, path: str, value: Tensor) -> None:
        """Rates and classes of labelled examples, where the component has no estimator of its own for them."""
        now = examples_now()
        labels = None if now is None or not now.everywhere else now.labels_of(value)
        if labels is None:
            return
        self.side.setdefault((INPUT, "", "labels"), labels.double())
        for quantity, number in labelled_numbers(value, labels, label_distortion(self.network, DISTORTION)).items():
            self.scalars.setdefault((path, quantity, "forward", None), number)

    def _measure_sides(self, node: Node, *values: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for (port, quantity), value in self.sides(partial(signal_quantities, node), *values).items():
                self.side[node.path, port, quantity] = value
        return values

    def _measure_output(self, node: Node, made: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for quantity, value in self.sides(partial(output_quantities, node), made).items():
                self.scalars[node.path, quantity, "forward", None] = value
        return (made,)

    def _watch(self, node: Node, *values: Tensor) -> tuple[Tensor, ...]:
        """Aliases of the inputs whose gradients are measured when they come."""
        aliases = []
        for port, value, producer, shape in zip(node.ports, values, node.inputs, node.shapes_in, strict=True):
            if value.requires_grad:
                value = value.view_as(value)
                held = [value.detach()]  # emptied when the gradient has come: the activation is freed with it
                value.register_hook(partial(self._keep, node.path, port, producer, shape, held))
            aliases.append(value)
        return tuple(aliases)

    def _keep(self, path: str, port: str, producer: str, shape: Shape, held: list[Tensor], gradient: Tensor) -> None:
        with torch.no_grad():
            if self.together:
                self.gradient_grams[path, port] = self.gram(gradient, shape)
                return
            self.gradients[path, port], product = self.gradient_moments(held.pop(), gradient, shape)
        total = self.invariant.get(producer)
        self.invariant[producer] = product if total is None else total + product

    def _watch_output(self, node: Node, made: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """The output, with the side quantities of its gradient measured when it comes."""
        if made.requires_grad:
            held = [x.detach()]

            def keep(gradient: Tensor) -> None:
                if self.together:
                    return
                with torch.no_grad():
                    sides = self.sides(partial(gradient_quantities, node), gradient, held.pop())
                    self.side.update({(node.path, port, quantity): value for (port, quantity), value in sides.items()})

            made = made.view_as(made)
            made.register_hook(keep)
        return (made,)

    def send_back_together(self, output: Tensor, weights: Tensor) -> None:
        """A first backward pass, for the Gram matrices of gradients: every example is asked the same."""
        self.together = True
        torch.autograd.backward(output, weights, retain_graph=True)
        self.together = False

    def send_back(self, output: Tensor, weights: Tensor) -> None:
        """The backward pass of L = <weights, output>, after which the probe lets go of the output.

        The graph's hooks hold the probe: were the probe to hold the graph in turn, neither would ever be freed, since
        no garbage collector looks into the graph.
        """
        self.invariant[self.network.nodes[-1].path] = self.inner(output.detach(), weights)
        torch.autograd.backward(output, weights)
        self.env.clear()

    def inner(self, output: Tensor, weights: Tensor) -> Tensor:
        return inner_product(output, weights)

    def moments(self, value: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        return channel_moments(value, shape)

    def gradient_moments(self, value: Tensor, gradient: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        return gradient_moments(value, gradient, shape)

    def gram(self, value: Tensor, shape: Shape) -> Tensor:
        return sampled_gram(value, shape, self.rows)

    def sides(self, measure: Callable[..., dict[Any, Tensor]], *values: Tensor) -> dict[Any, Tensor]:
        return measure(*values)

    def collect(self, seed: int) -> SeedStatistics:
        """Move everything to the host, and name the components whose statistics are not finite."""
        out = SeedStatistics(seed)
        for path, (mean, second) in self.outputs.items():
            out.outputs[path] = OutputStatistics(mean.cpu().numpy(), second.cpu().numpy())
        out.gradients = {key: value.cpu().numpy() for key, value in self.gradients.items()}
        out.side = {key: value.cpu().numpy() for key, value in self.side.items()}
        out.invariant = {path: float(value) for path, value in self.invariant.items()}
        out.scalars = {key: float(value) for key, value in self.scalars.items()}
        out.grams = {path: value.cpu().numpy() for path, value in self.grams.items()}
        out.gradient_grams = {key: value.cpu().numpy() for key, value in self.gradient_grams.items()}
        if self.backward:
            fill_silent_ports(self.network, out)
        out.nonfinite = nonfinite(out)
        return out


def fill_silent_ports(network: Network, statistics: SeedStatistics) -> None:
    """Ports that the loss does not reach (behind a step function, say) have gradient zero."""
    for node in network:
        for port, producer in zip(node.ports, node.inputs, strict=True):
            if producer in statistics.outputs and (node.path, port) not in statistics.gradients:
                statistics.gradients[node.path, port] = np.zeros_like(statistics.outputs[producer].second_moment)
                statistics.invariant.setdefault(producer, 0.0)


def nonfinite(statistics: SeedStatistics) -> list[str]:
    """Components whose output or input gradient holds NaN or Inf: forward order, then backward order."""
    bad = [
        path
        for path, moments in statistics.outputs.items()
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.second_moment).all())
    ]
    bad += [path for (path, _), field in statistics.gradients.items() if not np.isfinite(field).all()]
    return list(dict.fromkeys(bad))
