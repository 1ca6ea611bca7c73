"""What the kernel level costs, as ratios to what was asked: `python tests/benchmarks/bench_kernel.py`.

Times are CPU seconds of this process; the cold import runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from lensnet.predict.kernel.tangent import nngp, ntk
from tests.kernel.networks import network

ASKED = {"100 ReLU layers, 100 inputs, NNGP and NTK": 0.020, "cold import of the level": 1.0}


def best(call: Callable[[], object], repeats: int = 7) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def cold_import() -> float:
    code = "import time; import lensnet.predict.kernel.tangent; print(time.process_time())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def deep_relu() -> float:
    body = """
    - repeat: 100
      name: layer
      body:
        - {name: dense, component: linear, units: 512, gain: sqrt(2)}
        - {name: relu, component: relu}
    - {name: head, component: linear, units: 1}
    """
    net = network(body, channels=32, batch=100)
    x = np.random.default_rng(0).standard_normal((100, 32))
    return best(lambda: ntk(net, x))


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
    found = {"100 ReLU layers, 100 inputs, NNGP and NTK": deep_relu(), "cold import of the level": cold_import()}
    for name, seconds in found.items():
        print(f"{name:45} {seconds * 1e3:8.1f} ms   {seconds / ASKED[name]:5.2f} of what was asked")
    forward, both = shared_image_net()
    name = "2 convs 12x12, batch 4, every pair"
    print(f"{name:45} {forward * 1e3:8.1f} ms   tangent kernel {both / forward:.1f} times that")


if __name__ == "__main__":
    main()
