"""What measuring costs on AlexNet, batch 32, on the CPU, against the bare passes of the same module.

Run as a script: `python tests/benchmarks/bench_measure.py [--rounds 9] [--threads 2] [--cpu-time]`. The variants run in
turn, round after round, so that a busy machine slows all of them alike; the ratio of a round compares neighbours in
time, and the median over rounds is printed. The input's own moments are measured once per ensemble, not once per draw,
as in a real run.

Asked: that the moments cost at most 1.15 times the bare forward pass.

"moments" are mean and second moment of every component, per example and position, forward and (with gradients)
backward with the invariant. "side quantities" are what the effect models of overlapping pools ask for beyond that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import GraphModule

import lensnet
from lensnet.measure.module import draw, layers, to_module
from lensnet.measure.passes import cotangent, measure_pass
from lensnet.measure.sources import load_batch


def bare_forward(module: GraphModule, batch: Tensor) -> None:
    with torch.no_grad():
        module(batch)


def bare_backward(module: GraphModule, batch: Tensor) -> None:
    """Forward and the gradients of all activations, as a measurement needs them, with nothing measured."""
    output = module(batch.detach().requires_grad_())
    torch.autograd.backward(output, cotangent(0, output))


def hooked_forward(module: GraphModule, batch: Tensor) -> None:
    """What people do otherwise: a forward hook with mean and variance, one number each, on every layer."""
    kept: list[tuple[Tensor, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda _layer, _given, out: kept.append((out.mean(), out.var())))
        for layer in layers(module).values()
    ]
    bare_forward(module, batch)
    for handle in handles:
        handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="alexnet_he")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor time: steadier on a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    network = lensnet.load(options.spec, [f"input.batch={options.batch}"]).network
    module = to_module(network).train()
    draw(module, network, 0, examples=options.batch)
    batch = load_batch(network.input)
    known = measure_pass(module, network, batch, 0, backward=False, sides=False)

    def measured(backward: bool, sides: bool) -> Callable[[], object]:
        return lambda: measure_pass(module, network, batch, 0, backward, known, sides)

    forward, both = "bare forward", "bare forward + backward"
    variants: dict[str, tuple[str, Callable[[], object]]] = {
        forward: (forward, lambda: bare_forward(module, batch)),
        "+ moments": (forward, measured(False, False)),
        "+ moments, side quantities": (forward, measured(False, True)),
        "+ hooks with mean and variance": (forward, lambda: hooked_forward(module, batch)),
        both: (both, lambda: bare_backward(module, batch)),
        "+ moments both ways": (both, measured(True, False)),
        "+ moments, side quantities both ways": (both, measured(True, True)),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.rounds + 1):
        for name, (_, run) in variants.items():
            start = clock()
            run()
            if turn:  # the first round warms caches and allocators
                times[name].append(clock() - start)
    asked = {name: 1.15 for name, (base, _) in variants.items() if base == forward and name.startswith("+ moments")}
    unit = "CPU time" if options.cpu_time else "wall time"
    print(f"{network.name}, batch {options.batch}, {options.threads} thread(s), {options.rounds} rounds, {unit}")
    for name, (base, _) in variants.items():
        ratio = statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))
        fastest = min(times[name]) / min(times[base])
        middle = 1e3 * statistics.median(times[name])
        told = f"   {ratio / asked[name]:.2f} of what was asked" if name in asked else ""
        print(f"  {name:38s}{middle:7.0f} ms   x{ratio:.3f}   (fastest rounds: x{fastest:.3f}){told}")


if __name__ == "__main__":
    main()
