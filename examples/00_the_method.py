"""The method in one file, without the engine: say what every layer does to the signal, then look whether it does.

A lens designer knows in closed form what each surface does to a ray, and traces rays through the stack before grinding
any glass. Here the ray is a pair of numbers, the mean m and the second moment q of a layer's values, and on the way
back the second moment p of the gradient. Three steps: effects, prediction, measurement; then the two side by side.
"""

from collections.abc import Callable
from math import erf, exp, pi, sqrt

import torch
from torch import Tensor

WIDTH, EXAMPLES, SEEDS, RATE = 512, 64, 24, 0.5
STACK = ["dense", "relu", "dropout", "dense", "relu", "dense"]
GAIN = sqrt(2)

# 1. Effects: what each kind of layer does, for x ~ N(m, v) where it matters. ---------------------------------------


def dense(m: float, q: float) -> tuple[float, float]:
    """Random zero-mean weights of standard deviation gain/sqrt(fan_in): powers add, mean included; the mean is lost."""
    return 0.0, GAIN**2 * q


def relu(m: float, q: float) -> tuple[float, float]:
    """The positive half of a Gaussian: a knife edge in the beam."""
    s = sqrt(q - m * m)
    inside, edge = (1 + erf(m / s / sqrt(2))) / 2, s * exp(-((m / s) ** 2) / 2) / sqrt(2 * pi)
    return m * inside + edge, q * inside + m * edge


def dropout(m: float, q: float) -> tuple[float, float]:
    """Zero with probability RATE, else scaled up: the mean stays, the whole second moment grows, not the variance."""
    return m, q / (1 - RATE)


EFFECTS: dict[str, Callable[[float, float], tuple[float, float]]] = {"dense": dense, "relu": relu, "dropout": dropout}
# Backward: factor on the second moment of the gradient (relu: the share of open gates, 1/2 for a centred input).
BACKWARD = {"dense": GAIN**2, "relu": 0.5, "dropout": 1 / (1 - RATE)}


# 2. Prediction: propagate numbers through the stack, forward and back. No network is built. ----------------------


def predict() -> tuple[list[float], list[float]]:
    m, q, forward = 0.0, 1.0, list[float]()
    for kind in STACK:
        m, q = EFFECTS[kind](m, q)
        forward.append(q)
    p, backward = 1.0, list[float]()
    for kind in reversed(STACK):
        p *= BACKWARD[kind]
        backward.insert(0, p)
    return forward, backward


# 3. Measurement: the random object is the weight draw, so every draw is one sample. --------------------------------


def measure(seed: int) -> tuple[list[float], list[float]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(EXAMPLES, WIDTH, generator=generator).requires_grad_()
    tensors: list[Tensor] = [x]
    for kind in STACK:
        x = tensors[-1]
        if kind == "dense":
            x = x @ (torch.randn(WIDTH, WIDTH, generator=generator) * GAIN / sqrt(WIDTH))
        elif kind == "relu":
            x = x.relu()
        else:
            x = x * (torch.rand(x.shape, generator=generator) >= RATE) / (1 - RATE)
        tensors.append(x)
    loss = (tensors[-1] * torch.randn(tensors[-1].shape, generator=generator)).sum()  # a random question to the output
    gradients = torch.autograd.grad(loss, tensors[:-1])
    return [float(t.detach().square().mean()) for t in tensors[1:]], [float(g.square().mean()) for g in gradients]


# 4. Compare: agree when the difference is within two standard errors and an allowance of 3/width. -----------------


def compare() -> list[bool]:
    draws = torch.tensor(
        [measure(seed) for seed in range(SEEDS)], dtype=torch.float64
    )  # seeds x (forward, back) x layer
    # draws: seeds x (forward, back) x layers
    mean, error = draws.mean(0), draws.std(0) / sqrt(SEEDS)
    verdicts = []
    for side, (title, numbers) in enumerate(zip(("forward q", "backward p"), predict(), strict=True)):
        print(f"\n{title:10}  {'predicted':>9}  {'measured':>18}")
        for layer, kind in enumerate(STACK):
            predicted, measured, se = numbers[layer], float(mean[side, layer]), float(error[side, layer])
            agrees = abs(measured - predicted) <= 3 / WIDTH * predicted + 2 * se
            verdicts.append(agrees)
            verdict = "agrees" if agrees else "deviates"
            print(f"{layer} {kind:8}  {predicted:9.4f}  {measured:9.4f} ±{se:7.4f}  {verdict}")
    return verdicts


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{len(STACK)} layers of width {WIDTH}, {SEEDS} weight draws; L = <r, y> with r standard normal")
    verdicts = compare()
    print(f"\n{sum(verdicts)} of {len(verdicts)} rows agree.")
    print("Now break it: let dropout multiply the variance instead of the second moment, and run again.")
