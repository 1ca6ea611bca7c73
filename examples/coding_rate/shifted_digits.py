"""Digits moved round the edges: a shift-invariant ReduNet beside a plain one.

    python examples/coding_rate/shifted_digits.py [--examples 500] [--layers 8]

Both see the same digits in one place each. They are tested on unseen digits as they are, and on all 64 shifts of some
of them. The invariant network acts per frequency of the Fourier transform; its features move with the picture, so its
gate gives every shift the same class. The plain network takes pixels as they stand.
"""

import argparse

import numpy as np
import torch
from figure import COLOURS, figure, labelled, line_and_dots, rows_of
from torch import Tensor

import lensnet
from lensnet.construct.network import Constructed
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.module import layers as layers_of

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--examples", type=int, default=500)
arguments.add_argument("--layers", type=int, default=8)
given = arguments.parse_args()
SHIFTED = 100  # test digits of which all 64 shifts are tried

changes = [f"constants.depth={given.layers}", f"input.batch={given.examples}", "input.shift=false"]
invariant = lensnet.load("redunet_shifted_digits", changes)
plain = lensnet.load(
    "redunet_digits", [f"constants.depth={given.layers}", f"input.batch={given.examples}", "constants.eta=0.5"]
)
test = lensnet.load("redunet_shifted_digits", [*changes, "input.skip=1000", "input.batch=797"]).network.input
pixels, truth = labelled(test)


def decided(made: Constructed, x: Tensor) -> Tensor:
    """The class that the gate of the first ReduNet layer gives: what the whole stack amplifies."""
    with torch.no_grad():
        for layer in layers_of(made.module).values():
            if isinstance(layer, RedunetLayer):
                return layer.gates(x).argmax(1)
            x = layer(x)
    raise AssertionError("no ReduNet layer")


report = invariant.run(seeds=2, backward=False, device="cpu", most_seeds=2)
predicted, measured = rows_of(report, "rate_reduction")
shifts = [(dy, dx) for dy in range(8) for dx in range(8)]
rows = []
for name, net in (("plain", plain), ("shift-invariant", invariant)):
    made = net.construct(device="cpu")

    def accuracy(x: Tensor, y: Tensor, made: Constructed = made, flat: bool = name == "plain") -> float:
        return float((decided(made, x.flatten(1) if flat else x) == y).double().mean())

    still = accuracy(pixels, truth)
    moved = np.array([accuracy(pixels[:SHIFTED].roll(s, (2, 3)), truth[:SHIFTED]) for s in shifts])
    rows.append((name, still, moved))

print(f"{'layer':>6} {'R - Rc predicted':>18} {'measured':>10}   (shift-invariant, nats per position)")
for i in range(given.layers):
    print(f"{i + 1:6} {predicted[i]:18.5f} {measured[i]:10.5f}")
print(f"\ntest accuracy of the gate, {given.examples} digits to construct from (standard error .015 and .002)")
print(f"{'':18} {'as they are':>12} {'all 64 shifts':>14} {'worst shift':>12} {'spread over shifts':>19}")
for name, still, moved in rows:
    print(f"{name:18} {still:12.3f} {moved.mean():14.3f} {moved.min():12.3f} {moved.std():19.3f}")

x = list(range(1, given.layers + 1))
figure(
    "shifted_digits.png",
    "Shifted digits",
    [
        lambda ax: (
            line_and_dots(ax, x, predicted, measured, "R - Rc of the invariant network"),
            ax.set_ylabel("nats per position"),
            ax.set_xlabel("layer"),
            ax.legend(loc="lower right"),
        ),
        lambda ax: (
            *(
                ax.plot(range(64), moved, "o-", ms=3, color=colour, label=name)
                for (name, _, moved), colour in zip(rows, COLOURS, strict=False)
            ),
            ax.set_ylabel("test accuracy"),
            ax.set_xlabel("shift (row by row)"),
            ax.set_ylim(0, 1.2),
            ax.legend(loc="upper right", ncol=2),
        ),
    ],
)
