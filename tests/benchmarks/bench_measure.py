"""What measuring moments costs: AlexNet, batch 32, on the CPU, against the bare passes of the same module.

Run as a script: `python tests/benchmarks/bench_measure.py [--rounds 9] [--threads 1] [--he]`. The variants are run
in turn, round after round, so that a busy machine slows all of them alike; the ratio of a round compares neighbours in
time, and the median over rounds is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import GraphModule

from lensnet.measure.module import draw, to_module
from lensnet.measure.passes import cotangent, measure_pass
from lensnet.network.geometry import Flatten, Pointwise, Window
from lensnet.network.graph import InputSource, Network, Node
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw


class _Component:
    """The little that a measurement asks of a component."""

    function = None
    homogeneous = False

    def __init__(self, name: str) -> None:
        self.name = self.implementation = name
        self.needs: dict[str, object] = {}


class _Builder:
    """A sequential network, one call per component."""

    def __init__(self, shape: Shape) -> None:
        self.input = self.shape = shape
        self.nodes: list[Node] = []

    def add(self, path: str, kind: str, shape: Shape | None = None, **fields: object) -> None:
        source = self.nodes[-1].path if self.nodes else "input"
        made = Node(
            path,
            _Component(kind),  # type: ignore[arg-type]
            fields.get("parameters", {}),  # type: ignore[arg-type]
            (source,),
            ("x",),
            (self.shape,),
            shape or self.shape,
            fields.get("geometry", Pointwise()),  # type: ignore[arg-type]
            fields.get("weights", {}),  # type: ignore[arg-type]
        )
        self.nodes.append(made)
        self.shape = made.shape

    def conv(self, path: str, filters: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1))
        law = WeightLaw(self.shape.channels // groups * kernel**2, filters, 1e-4, bias_mean=1.0)
        shape = Shape(filters, window.out_positions(self.shape.positions))
        self.add(path, "conv2d", shape, geometry=window, weights={"weight": law}, parameters={"groups": groups})

    def pool(self, path: str) -> None:
        window = Window((3, 3), (2, 2), (0, 0), (1, 1), "ignore")
        self.add(
            path, "max_pool2d", Shape(self.shape.channels, window.out_positions(self.shape.positions)), geometry=window
        )

    def dense(self, path: str, units: int) -> None:
        law = WeightLaw(self.shape.channels, units, 1e-4, bias_mean=1.0)
        self.add(path, "linear", Shape(units), weights={"weight": law})


def alexnet(batch: int) -> Network:
    """The published network: two groups, local response normalisation, overlapping pools, dropout."""
    net = _Builder(Shape(3, (227, 227)))
    net.conv("conv1", 96, 11, stride=4)
    net.add("relu1", "relu")
    net.add("norm1", "local_response_norm")
    net.pool("pool1")
    net.conv("conv2", 256, 5, padding=2, groups=2)
    net.add("relu2", "relu")
    net.add("norm2", "local_response_norm")
    net.pool("pool2")
    for index, (filters, groups) in enumerate(((384, 1), (384, 2), (256, 2)), start=3):
        net.conv(f"conv{index}", filters, 3, padding=1, groups=groups)
        net.add(f"relu{index}", "relu")
    net.pool("pool5")
    net.add("flatten", "flatten", Shape(net.shape.features), geometry=Flatten())
    for index in (6, 7):
        net.dense(f"fc{index}", 4096)
        net.add(f"relu{index}", "relu")
        net.add(f"dropout{index}", "dropout")
    net.dense("fc8", 1000)
    return Network("alexnet", "", InputSource("gaussian", {}, net.input, batch), tuple(net.nodes))


def bare_forward(module: GraphModule, batch: Tensor) -> None:
    with torch.no_grad():
        module(batch)


def bare_backward(module: GraphModule, batch: Tensor) -> None:
    """Forward and the gradient of all activations, as a measurement needs it, with nothing measured."""
    x = batch.detach().requires_grad_()
    output = module(x)
    torch.autograd.backward(output, cotangent(0, output))


def hooks_forward(module: GraphModule, batch: Tensor) -> None:
    """What people do otherwise: a forward hook with mean and variance on every layer."""
    kept: list[tuple[Tensor, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda _m, _i, out: kept.append((out.mean(), out.var())))
        for layer in module.children()
    ]
    bare_forward(module, batch)
    for handle in handles:
        handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor time: steadier on a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    network = alexnet(options.batch)
    module = to_module(network).train()
    draw(module, network, 0, examples=options.batch)
    batch = torch.randn(network.input.shape.tensor_shape(options.batch))
    variants: dict[str, Callable[[], object]] = {
        "bare forward": lambda: bare_forward(module, batch),
        "forward + moments": lambda: measure_pass(module, network, batch, 0, backward=False),
        "hooks, mean + var": lambda: hooks_forward(module, batch),
        "bare forward + backward": lambda: bare_backward(module, batch),
        "forward + backward + moments": lambda: measure_pass(module, network, batch, 0),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.rounds + 1):
        for name, run in variants.items():
            start = clock()
            run()
            if turn:  # the first round warms caches and allocators
                times[name].append(clock() - start)
    print(f"AlexNet, batch {options.batch}, {options.threads} thread(s), {options.rounds} rounds; medians")
    for name, bare in (
        ("bare forward", "bare forward"),
        ("forward + moments", "bare forward"),
        ("hooks, mean + var", "bare forward"),
        ("bare forward + backward", "bare forward + backward"),
        ("forward + backward + moments", "bare forward + backward"),
    ):
        ratio = statistics.median(a / b for a, b in zip(times[name], times[bare], strict=True))
        best = min(times[name]) / min(times[bare])
        print(
            f"  {name:30s} {1e3 * statistics.median(times[name]):8.0f} ms   x{ratio:.3f}   (fastest runs: x{best:.3f})"
        )


if __name__ == "__main__":
    main()
