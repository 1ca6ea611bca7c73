"""Two more classes, later: a ReduNet takes them in without a look back, a trained network forgets.

    python examples/coding_rate/adding_a_class.py [--layers 5]

A ReduNet is made from the digits 0 to 7. Then 8 and 9 arrive, and the old digits are gone: what their operators C_j
hold, the covariance of each class at each layer, is enough to write down the joint network. Beside it the joint
network made from all digits at once, and a dense network that is trained on 0 to 7 and then on 8 and 9 alone.
"""

import argparse

import numpy as np
import torch
from figure import COLOURS, figure, labelled
from torch import Tensor, nn

from lensnet.construct.incremental import Layer, add_classes, apply_layers, build_layers
from lensnet.measure.redunet.step import project
from lensnet.network.input import input_source

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--layers", type=int, default=5)
given = arguments.parse_args()
EPS2, ETA, LAM = 0.5, 0.1, 500.0

x, y = labelled(input_source({"source": "digits", "batch": 1797}))
train, test = slice(0, 1000), slice(1000, 1797)
old, new = y[train] < 8, y[train] >= 8


def accuracies(classes: Tensor) -> tuple[float, float]:
    """(old digits, new digits) on the test set."""
    right = (classes == y[test]).double()
    return float(right[y[test] < 8].mean()), float(right[y[test] >= 8].mean())


def of_network(layers: list[Layer]) -> tuple[float, float]:
    return accuracies(apply_layers(layers, x[test], ETA, LAM)[1].argmax(1))


def rates(layers: list[Layer]) -> list[float]:
    return [float(layer.rates.reduction) for layer in layers]


first = build_layers(x[train][old], y[train][old], given.layers, EPS2, ETA, LAM)
later = add_classes(first, x[train][new], y[train][new] - 8, EPS2, ETA, LAM)
joint = build_layers(x[train], y[train], given.layers, EPS2, ETA, LAM)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
inputs = project(x).float() * 8


def fit(rows: Tensor) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(inputs[train][rows]), y[train][rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


fit(old)
before = accuracies(model(inputs[test]).argmax(1))
fit(new)
table = {
    "ReduNet of 0-7": of_network(first),
    "ReduNet, 8 and 9 added": of_network(later),
    "ReduNet of all at once": of_network(joint),
    "dense network on 0-7": before,
    "dense network, then 8 and 9": accuracies(model(inputs[test]).argmax(1)),
}
print(f"{'test accuracy':30} {'digits 0-7':>11} {'8 and 9':>9}   (standard error about .008 and .02)")
for name, (one, two) in table.items():
    print(f"{name:30} {one:11.3f} {two:9.3f}")
print("\nR - Rc of all training digits at each layer, predicted from the operators alone beside measured")
for i, (p, m) in enumerate(zip(rates(later), rates(joint), strict=True)):
    print(f"  layer {i}: added later {p:.5f}, all at once {m:.5f} ({p / m - 1:+.1e})")

places = np.arange(len(table))
figure(
    "adding_a_class.png",
    "Two classes added later",
    [
        lambda ax: (
            ax.bar(places - 0.2, [a for a, _ in table.values()], 0.38, color=COLOURS[0], label="digits 0-7"),
            ax.bar(places + 0.2, [b for _, b in table.values()], 0.38, color=COLOURS[1], label="8 and 9"),
            ax.set_xticks(places, [name.replace(", ", ",\n").replace(" of ", "\nof ") for name in table], fontsize=8),
            ax.set_ylabel("test accuracy"),
            ax.set_ylim(0, 1.25),
            ax.legend(loc="upper right", ncol=2),
        )
    ],
)
