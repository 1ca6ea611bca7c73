"""What measuring spectra costs beside the bare forward pass, and what predicting them costs.

Run as a script: `python tests/benchmarks/bench_spectrum.py [--rounds 9] [--rows 128] [--spec coding_rate_relu]`. The
variants run in turn, round after round, in processor time, so that a busy machine slows all of them alike; the median
over rounds of the ratio to the bare pass is printed. "+ rank and coding rate" is the Gram matrix of the sampled rows of
every component, its eigenvalues and all numbers read off them, on top of the moments that any measurement takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import lensnet
from lensnet.levels.ladder import Level
from lensnet.measure.grams import read_scalars
from lensnet.measure.module import draw, to_module
from lensnet.measure.passes import measure_pass
from lensnet.measure.sources import load_batch
from lensnet.quantities.rows import DEFAULT_ROWS

ASKED = 1.5
"""Times the bare forward pass that rank and coding rate may cost."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="coding_rate_relu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = lensnet.load(options.spec)
    network = net.network
    module = to_module(network).train()
    batch = load_batch(network.input)
    draw(module, network, 0, examples=len(batch))
    earlier = {n: measure_pass(module, network, batch, 0, False, sides=False, rows=n) for n in (0, options.rows)}

    def bare() -> None:
        with torch.no_grad():
            module(batch)

    def measured(rows: int, read: bool) -> Callable[[], None]:
        def run() -> None:
            found = measure_pass(module, network, batch, 0, False, earlier[rows], False, rows)
            if read:
                read_scalars(network, found, {Level.SPECTRUM}, len(batch), rows)

        return run

    variants = {
        "bare forward": bare,
        "+ moments": measured(0, False),
        "+ Gram matrices": measured(options.rows, False),
        "+ rank and coding rate": measured(options.rows, True),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.rounds + 1):
        for name, run in variants.items():
            start = time.process_time()
            run()
            if turn:  # the first round warms caches and allocators
                times[name].append(time.process_time() - start)
    base = times["bare forward"]
    print(f"{network.name}, batch {len(batch)}, {options.rows} rows, 1 thread, {options.rounds} rounds, CPU time")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, base, strict=True))
        print(f"  {name:28s}{1e3 * statistics.median(taken):7.0f} ms   x{ratio:.3f}")
    alone = statistics.median(
        1 + (full - moments) / bare
        for full, moments, bare in zip(times["+ rank and coding rate"], times["+ moments"], base, strict=True)
    )
    told = f"{alone / ASKED:.2f} of what was asked"
    print(f"  rank and coding rate alone (without the moments){'':10s}x{alone:.3f}   {told}")
    for level in ("kernel", "spectrum"):
        start = time.process_time()
        net.predict(level=level, rows=options.rows, gradients=False)
        print(f"  predict --level {level:12s}{1e3 * (time.process_time() - start):7.0f} ms")


if __name__ == "__main__":
    main()
