"""An activation of one's own, in one line of a network file, and the gain that it needs.

The line is all: mean, second moment, gradient and torch function are derived from it. Here is the question that a new
activation raises first: which gain keeps the signal, and what does the gradient do at that gain?
"""

from pathlib import Path

import lensnet

SPEC = """
network: own-activation
constants: {{gain: {gain}}}
input: {{source: gaussian, channels: 512, batch: 32}}
define:
  bump: {{function: x*exp(-x**2/8)}}
body:
  - repeat: 8
    name: layer
    body:
      - {{name: dense, component: linear, units: 512, gain: gain}}
      - {{name: bump, component: bump}}
"""

file = Path("own_activation.yaml")


def load(gain: float) -> lensnet.Net:
    file.write_text(SPEC.format(gain=gain))
    return lensnet.load(file)


def moment(net: lensnet.Net, path: str, direction: str = "forward") -> float:
    rows = [r for r in net.predict().rows if r.component == path and r.quantity == "second_moment"]
    return next(r.predicted for r in rows if r.direction == direction and r.predicted is not None)


low, high = 0.5, 4.0
for _ in range(40):  # bisection on the predicted output of the last layer
    middle = (low + high) / 2
    low, high = (middle, high) if moment(load(middle), "layer.7.dense") < 1 else (low, middle)
net = load(low)
print(f"gain {low:.4f} brings the signal of layer 7 to second moment 1")
per_layer = (moment(net, "layer.0.dense", "backward") / moment(net, "layer.7.dense", "backward")) ** (1 / 7)
print(f"at that gain the gradient is multiplied by {per_layer:.4f} per layer on its way back\n")
print(net.run(seeds=6))
