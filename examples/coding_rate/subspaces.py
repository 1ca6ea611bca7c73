"""Four random subspaces of 32 dimensions turned apart: rates, ranks and angles, predicted beside measured.

python examples/coding_rate/subspaces.py [--layers 60]
"""

import argparse

import numpy as np
import torch
from figure import COLOURS, figure, labelled, level, line_and_dots, rows_of

import lensnet
from lensnet.predict.labelled_rates import orthogonal_classes_rates
from lensnet.quantities.subspaces import class_angles, stable_rank

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--layers", type=int, default=60)
layers = arguments.parse_args().layers

net = lensnet.load("redunet_subspaces", [f"constants.depth={layers}"])
report = net.run(seeds=2, backward=False)
best = float(np.subtract(*orthogonal_classes_rates(32, [60] * 4, [3] * 4, 0.5)))
predicted, measured = rows_of(report, "rate_reduction")
gain_predicted, gain_measured = rows_of(report, "ascent_gain", "local")

made = net.construct()
x, y = labelled(net.network.input)
x = x.to(next(made.module.parameters()).device)
angles, ranks = [], []
with torch.no_grad():
    z = x
    for node in made.module.graph.nodes:
        if node.op == "call_module" and "classify" not in node.meta["path"]:
            z = made.module.get_submodule(str(node.target))(z)
            between = class_angles(z, y, 0.9)
            angles.append(float(torch.rad2deg(between[between > 0].min())))
            ranks.append(float(stable_rank(z, y).mean()))

print(f"{'layer':>6} {'R - Rc predicted':>18} {'measured':>10} {'smallest angle':>15} {'stable rank':>12}")
for i in sorted({0, *range(0, layers, max(1, layers // 10)), layers - 1}):
    print(f"{i + 1:6} {predicted[i]:18.5f} {measured[i]:10.5f} {angles[i + 1]:13.1f} ° {ranks[i + 1]:12.2f}")
print(f"four orthogonal subspaces of rank 3, without noise: {best:.5f}; smallest angle of the input: {angles[0]:.1f}°")

depth = list(range(1, layers + 1))
figure(
    "subspaces.png",
    "Four subspaces in 32 dimensions",
    [
        lambda ax: (
            line_and_dots(ax, depth, predicted, measured, "R - Rc"),
            level(ax, best, "orthogonal, rank 3"),
            ax.set_ylabel("nats"),
            ax.legend(loc="center right"),
        ),
        lambda ax: (
            line_and_dots(ax, depth, gain_predicted, gain_measured, "gain of a layer"),
            ax.set_yscale("log"),
            ax.set_ylabel("nats"),
            ax.legend(),
        ),
        lambda ax: (
            ax.plot(range(layers + 1), angles, "o-", ms=3, color=COLOURS[1], label="smallest angle between classes"),
            ax.set_ylabel("degrees"),
            ax.set_ylim(0, 95),
            ax.set_xlabel("layer"),
            ax.legend(loc="lower right"),
        ),
    ],
)
