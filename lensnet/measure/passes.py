"""One forward and backward pass through the network, leaving statistics behind and no tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter
from torch.fx.node import Node as FxNode

from lensnet.measure.draw import generator
from lensnet.measure.estimators import gradient_quantities, needed, signal_quantities
from lensnet.measure.fields import channel_moments, gradient_moments, inner_product
from lensnet.measure.statistics import OutputStatistics, SeedStatistics
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape


def measure_pass(
    module: GraphModule, network: Network, batch: Tensor, seed: int, backward: bool = True
) -> SeedStatistics:
    """Measure one weight draw, which the module already holds, on `batch` (on the module's device).

    The loss is L = <r, y> with r iid standard normal, from the seed's own generator. Gradients are those of the
    activations only; parameters get none. A port's gradient is taken on an alias of its own, so that the uses of a
    forked signal stay apart.
    """
    probe = Probe(module, network, backward)
    if not backward:
        with torch.no_grad():
            probe.run(batch)
        return probe.collect(seed)
    with torch.enable_grad():
        output = probe.run(batch.detach())
        if output.requires_grad:
            weights = cotangent(seed, output)
            probe.invariant[network.nodes[-1].path] = inner_product(output.detach(), weights)
            torch.autograd.backward(output, weights)
    return probe.collect(seed)


def cotangent(seed: int, output: Tensor) -> Tensor:
    """r of the loss L = <r, y>: iid N(0, 1) of the output's shape, the same on every device."""
    return torch.randn(output.shape, generator=generator(seed, "output", "cotangent")).to(output)


class Probe(Interpreter):
    """Runs the graph; every value is freed after its last use, as in the bare module."""

    def __init__(self, module: GraphModule, network: Network, backward: bool) -> None:
        super().__init__(module)
        self.network = network
        self.backward = backward
        self.shapes: dict[str, Shape] = {INPUT: network.input.shape, **{node.path: node.shape for node in network}}
        self.outputs: dict[str, tuple[Tensor, Tensor]] = {}
        self.gradients: dict[tuple[str, str], Tensor] = {}
        self.side: dict[tuple[str, str, str], Tensor] = {}
        self.invariant: dict[str, Tensor] = {}

    def run_node(self, n: FxNode) -> Any:
        path = n.meta.get("path")
        if path is None:
            return super().run_node(n)
        if n.op == "placeholder":
            value = super().run_node(n)
        else:
            value = self._call(n, path)
        shape = self.shapes[path]
        if not torch.is_tensor(value) or not value.is_floating_point():
            return value
        with torch.no_grad():
            self.outputs[path] = channel_moments(value, shape)
        if self.backward and not value.requires_grad:
            value = value.detach().requires_grad_()
        return value

    def _call(self, n: FxNode, path: str) -> Any:
        """Run one component on aliases of its inputs, each watched for the gradient of that port."""
        values, _ = self.fetch_args_kwargs_from_env(n)
        node = self.network[path]
        if node.component.needs or getattr(node.component, "uses_cross_moments", False):
            with torch.no_grad():
                ports = dict(zip(node.ports, values, strict=True))
                for (port, quantity), value in signal_quantities(node, ports).items():
                    self.side[path, port, quantity] = value
        watched = []
        for port, value, producer, shape in zip(node.ports, values, node.inputs, node.shapes_in, strict=True):
            if self.backward and value.requires_grad:
                value = value.view_as(value)
                value.register_hook(self._hook(path, port, producer, value.detach(), shape))
            watched.append(value)
        made = self.call_module(str(n.target), tuple(watched), {})
        if self.backward and torch.is_tensor(made) and made.requires_grad and needed(node, "gradient"):
            made.register_hook(self._gradient_hook(node, values[0].detach()))
        return made

    def _gradient_hook(self, node: Node, x: Tensor) -> Any:
        held = [x]

        def keep(gradient: Tensor) -> None:
            with torch.no_grad():
                for (port, quantity), value in gradient_quantities(node, gradient, held.pop()).items():
                    self.side[node.path, port, quantity] = value

        return keep

    def _hook(self, path: str, port: str, producer: str, value: Tensor, shape: Shape) -> Any:
        held = [value]  # emptied when the gradient has come, so that the activation is freed with it

        def keep(gradient: Tensor) -> None:
            signal = held.pop()
            with torch.no_grad():
                self.gradients[path, port], product = gradient_moments(signal, gradient, shape)
            total = self.invariant.get(producer)
            self.invariant[producer] = product if total is None else total + product

        return keep

    def collect(self, seed: int) -> SeedStatistics:
        """Move everything to the host, and name the components whose statistics are not finite."""
        out = SeedStatistics(seed)
        for path, (mean, second) in self.outputs.items():
            out.outputs[path] = OutputStatistics(mean.cpu().numpy(), second.cpu().numpy())
        if self.backward:
            self._add_silent_ports()
        out.gradients = {key: value.cpu().numpy() for key, value in self.gradients.items()}
        out.side = {key: value.cpu().numpy() for key, value in self.side.items()}
        out.invariant = {path: float(value) for path, value in self.invariant.items()}
        out.nonfinite = nonfinite(out)
        return out

    def _add_silent_ports(self) -> None:
        """Ports that the loss does not reach (behind a step function, say) have gradient zero."""
        for node in self.network:
            for port, producer in zip(node.ports, node.inputs, strict=True):
                if producer in self.outputs and (node.path, port) not in self.gradients:
                    self.gradients[node.path, port] = torch.zeros_like(self.outputs[producer][1])
                    self.invariant.setdefault(producer, torch.zeros(()))


def nonfinite(statistics: SeedStatistics) -> list[str]:
    """Components whose output or input gradient holds NaN or Inf: forward order, then backward order."""
    bad = [
        path
        for path, moments in statistics.outputs.items()
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.second_moment).all())
    ]
    bad += [path for (path, _), field in statistics.gradients.items() if not np.isfinite(field).all()]
    return list(dict.fromkeys(bad))
