"""Where does a tanh network let a gradient through? A sweep over the gain, predictions alone.

Below the edge the gradient dies, above it explodes; at the edge it arrives. The edge is found here by bisection on the
predicted gradient, and compared with the textbook value: gain^2 = 1.760955 at bias_std^2 = 0.05.
"""

import lensnet


def growth(gain: float) -> float:
    """Factor on the gradient's second moment per layer, deep inside the network."""
    net = lensnet.load("tanh_critical", overrides=[f"constants.gain={gain}", "constants.depth=40"])
    back = {r.component: r.predicted for r in net.predict().rows if r.direction == "backward"}
    deep, shallow = back["layer.20.tanh"], back["layer.30.tanh"]
    assert deep is not None and shallow is not None
    return (deep / shallow) ** 0.1


for gain in (0.9, 1.1, 1.3, 1.5, 2.0, 3.0):
    bar = "#" * round(40 * growth(gain))
    print(f"gain {gain:3.1f}  gradient x {growth(gain):.3f} per layer  {bar}")

low, high = 1.0, 2.0
for _ in range(30):
    middle = (low + high) / 2
    low, high = (middle, high) if growth(middle) < 1 else (low, middle)
print(f"\nedge of chaos at gain {low:.5f}, gain^2 {low**2:.5f} (textbook 1.76096)")
