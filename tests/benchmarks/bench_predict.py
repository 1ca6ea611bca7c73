"""How long a prediction takes beside the depth of the network: it must grow linearly, 1,000 layers under 2 seconds.

Run as a script: `python tests/benchmarks/bench_predict.py`. A residual rectifier stack and a plain GELU stack, forward
and backward; the time is the processor's, so that a busy machine does not matter.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import lensnet
from tests.benchmarks.fresh_process import cpu_seconds

ASKED = 2.0
"""Seconds for 1,000 layers."""

PLAIN = """
network: plain
constants: {depth: DEPTH}
input: {source: gaussian, channels: 256, batch: 32}
body:
  - repeat: depth
    name: layer
    body:
      - {name: dense, component: linear, units: 256, gain: 1.5335}
      - {name: gelu, component: gelu}
"""
RESIDUAL = """
network: residual
constants: {depth: DEPTH}
input: {source: gaussian, channels: 256, batch: 32}
body:
  - repeat: depth
    name: block
    body:
      - name: add
        component: residual
        branch_scale: 1/sqrt(depth)
        branch:
          - {name: dense, component: linear, units: 256, gain: sqrt(2)}
          - {name: relu, component: relu}
"""


def seconds(text: str, depth: int) -> tuple[float, float, int]:
    """Processor seconds for loading and for predicting, and the number of components."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stack.yaml"
        file.write_text(text.replace("DEPTH", str(depth)))
        start = time.process_time()
        net = lensnet.load(file)
        loaded = time.process_time()
        net.predict()
        return loaded - start, time.process_time() - loaded, len(net.network)


def main() -> None:
    seconds(PLAIN, 2), seconds(RESIDUAL, 2)  # imports, compiled formulas
    for name, text in (("plain", PLAIN), ("residual", RESIDUAL)):
        half = 0.0
        for depth in (50, 100, 200, 500, 1000):
            load, predict, components = seconds(text, depth)
            print(f"{name:9} {depth:5} layers, {components:5} components: load {load:6.2f} s, predict {predict:6.2f} s")
            if depth == 500:
                half = predict
        print(
            f"{name:9} 1,000 layers: {predict / ASKED:.2f} of what was asked; "
            f"twice as many layers take {predict / half:.2f} times as long"
        )
    command()


def command() -> None:
    """The whole command, imports and the printed report included."""
    for name, activation, gain in (("rectifiers", "relu", "sqrt(2)"), ("tanh", "tanh", "1.3")):
        for depth in (2, 250, 500, 1000):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "stack.yaml"
                file.write_text(PLAIN.replace("DEPTH", str(depth)).replace("1.5335", gain).replace("gelu", activation))
                taken = cpu_seconds(["-m", "lensnet", "predict", str(file)], 3)
            told = f"{taken / ASKED:.2f} of what was asked"
            print(f"lensnet predict, {depth:5} dense layers with {name:10} {taken:6.2f} s   {told}")


if __name__ == "__main__":
    main()
