"""What the kernel level costs, as ratios to what was asked: `python tests/benchmarks/bench_kernel.py`.

Times are CPU seconds of this process, of the phase diagram those on the clock; what starts cold runs in a process of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from lensnet.catalog.functions import function_called
from lensnet.predict.kernel.phase import phase_diagram
from lensnet.predict.kernel.tangent import nngp, ntk
from tests.benchmarks.fresh_process import cpu_seconds
from tests.kernel.networks import network

ASKED = {
    "100 ReLU layers, 100 inputs, NNGP and NTK": 0.020,
    "cold import of the level": 1.0,
    "the same from a cold start, imports included": 1.0,
    "phase diagram of tanh, 1,000 x 1,000, cold": 5.0,
    "4 convs 32x32, batch 4, stationary": 1.0,
}


def best(call: Callable[[], object], repeats: int = 7) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


DEEP = """
    - repeat: 100
      name: layer
      body:
        - {name: dense, component: linear, units: 512, gain: sqrt(2)}
        - {name: relu, component: relu}
    - {name: head, component: linear, units: 1}
    """


def deep_relu() -> float:
    net = network(DEEP, channels=32, batch=100)
    x = np.random.default_rng(0).standard_normal((100, 32))
    return best(lambda: ntk(net, x))


def cold_start() -> None:
    net = network(DEEP, channels=32, batch=100)
    x = np.random.default_rng(0).standard_normal((100, 32))
    nngp(net, x), ntk(net, x)


def tanh_phases() -> float:
    """Seconds on the clock: the work is shared out among the cores."""
    start = time.perf_counter()
    phase_diagram(function_called("tanh"), np.linspace(0.5, 3.0, 1000), np.linspace(0.0, 1.0, 1000))
    return time.perf_counter() - start


def stationary_convolutions() -> float:
    convs = "".join(
        f"""
    - {{name: c{i}, component: conv2d, filters: 64, kernel: 3, padding: 1, gain: sqrt(2)}}
    - {{name: r{i}, component: relu}}"""
        for i in range(4)
    )
    heads = "\n    - {name: pool, component: global_avg_pool}\n    - {name: head, component: linear, units: 10}\n"
    net = network(convs + heads, channels=3, batch=4, positions="[32, 32]")
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32))
    return best(lambda: nngp(net, x, "stationary"), 3)


def activation(name: str) -> float:
    """Seconds for NNGP and NTK of one layer of this activation, 100 inputs."""
    body = f"""
    - repeat: 5
      name: layer
      body:
        - {{name: dense, component: linear, units: 512, gain: 1.3}}
        - {{name: act, component: {name}}}
    - {{name: head, component: linear, units: 1}}
    """
    net = network(body, channels=32, batch=100)
    x = np.random.default_rng(0).standard_normal((100, 32))
    return best(lambda: ntk(net, x), 3) / 5


def shared_image_net() -> tuple[float, float]:
    body = """
    - {name: c1, component: conv2d, filters: 64, kernel: 3, padding: 1, gain: sqrt(2)}
    - {name: r1, component: relu}
    - {name: c2, component: conv2d, filters: 64, kernel: 3, padding: 1, gain: sqrt(2)}
    - {name: r2, component: relu}
    - {name: pool, component: global_avg_pool}
    - {name: head, component: linear, units: 10}
    """
    net = network(body, channels=3, batch=4, positions="[12, 12]")
    x = np.random.default_rng(0).standard_normal((4, 3, 12, 12))
    return best(lambda: nngp(net, x), 2), best(lambda: ntk(net, x), 2)


def main() -> None:
    taken = (
        deep_relu(),
        cpu_seconds(["-c", "import lensnet.predict.kernel.tangent"]),
        cpu_seconds(["-c", "from tests.benchmarks.bench_kernel import cold_start; cold_start()"]),
        tanh_phases(),
        stationary_convolutions(),
    )
    for name, seconds in zip(ASKED, taken, strict=True):
        print(f"{name:45} {seconds * 1e3:8.1f} ms   {seconds / ASKED[name]:5.2f} of what was asked")
    for name in ("relu", "erf", "gelu", "tanh", "elu", "hardtanh"):
        print(f"{'one layer of ' + name + ', 100 inputs, NNGP and NTK':45} {activation(name) * 1e3:8.1f} ms")
    forward, both = shared_image_net()
    name = "2 convs 12x12, batch 4, every pair"
    print(f"{name:45} {forward * 1e3:8.1f} ms   tangent kernel {both / forward:.1f} times that")


if __name__ == "__main__":
    main()
