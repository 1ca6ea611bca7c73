"""A ReduNet on handwritten digits: the rate reduction grows as predicted, and accuracy does not follow it.

    python examples/coding_rate/digits.py [--layers 10] [--eps2 0.5] [--eta 0.1]

A thousand digits make the network, the other 797 test it: by nearest subspace on the features of every depth, and by
the gate of every layer. Depth 0 is the control, raw pixels with the same classifier.
"""

import argparse

import torch
from figure import COLOURS, figure, labelled, level, line_and_dots, rows_of
from torch import Tensor

import lensnet
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.module import layers as layers_of
from lensnet.quantities.subspaces import class_subspaces

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--layers", type=int, default=10)
arguments.add_argument("--eps2", type=float, default=0.5)
arguments.add_argument("--eta", type=float, default=0.1)
given = arguments.parse_args()

changes = [f"constants.depth={given.layers}", f"constants.eps2={given.eps2}", f"constants.eta={given.eta}"]
net = lensnet.load("redunet_digits", changes)
report = net.run(seeds=2, backward=False, device="cpu")
predicted, measured = rows_of(report, "rate_reduction")
made = net.construct(device="cpu")
test = lensnet.load("redunet_digits", [*changes, "input.skip=1000", "input.batch=797"]).network.input
train_x, train_y = labelled(net.network.input)
test_x, test_y = labelled(test)


def subspace_accuracy(train: Tensor, fresh: Tensor) -> float:
    bases = class_subspaces(train, train_y, 10, 10)
    inside = torch.einsum("nd,kdr->nkr", fresh, bases).square().sum(2)
    return float((inside.argmax(1) == test_y).double().mean())


by_subspace, by_gate = [], []
with torch.no_grad():
    a, b = train_x, test_x
    for path, layer in layers_of(made.module).items():
        if path == "classify":
            break
        if isinstance(layer, RedunetLayer):
            by_gate.append(float((layer.gates(b).argmax(1) == test_y).double().mean()))
        a, b = layer(a), layer(b)
        by_subspace.append(subspace_accuracy(a, b))

se = (by_subspace[0] * (1 - by_subspace[0]) / len(test_x)) ** 0.5
print(f"{'layer':>6} {'R - Rc predicted':>18} {'measured':>10} {'nearest subspace':>17} {'own gate':>9}")
print(f"{'input':>6} {'':18} {'':10} {by_subspace[0]:17.3f}   (control: raw pixels)")
for i in range(given.layers):
    print(f"{i + 1:6} {predicted[i]:18.4f} {measured[i]:10.4f} {by_subspace[i + 1]:17.3f} {by_gate[i]:9.3f}")
print(f"standard error of an accuracy: about {se:.3f}; test digits: {len(test_x)}")

x = list(range(1, given.layers + 1))
figure(
    "digits.png",
    "Digits: the rate reduction grows, accuracy does not follow",
    [
        lambda ax: (
            line_and_dots(ax, x, predicted, measured, "R - Rc, training set"),
            ax.set_ylabel("nats"),
            ax.legend(loc="lower right"),
        ),
        lambda ax: (
            ax.plot(x, by_subspace[1:], "o-", ms=3.5, color=COLOURS[2], label="features + nearest subspace"),
            ax.plot(x, by_gate, "o-", ms=3.5, color=COLOURS[1], label="gate of the layer"),
            level(ax, by_subspace[0], "control: raw pixels"),
            ax.set_ylabel("test accuracy"),
            ax.set_xlabel("layer"),
            ax.set_ylim(min(*by_subspace, *by_gate) - 0.003, max(*by_subspace, *by_gate) + 0.004),
            ax.legend(loc="upper right", ncol=2),
        ),
    ],
)
