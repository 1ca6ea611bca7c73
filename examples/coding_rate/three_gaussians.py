"""Three Gaussian clouds on the sphere, through a ReduNet as deep as it takes: it ends at the closed-form optimum.

    python examples/coding_rate/three_gaussians.py [--layers 600]

Every layer is written down from the data. Before a layer is taken, its gain is predicted to second order in its step;
the sum of the predictions is the line, what was measured the dots. Ctrl-C keeps the layers so far.
"""

import argparse
from pathlib import Path

import numpy as np
from figure import figure, level, line_and_dots, rows_of

import lensnet
from lensnet.construct.file import read
from lensnet.predict.labelled_rates import orthogonal_classes_rates

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--layers", type=int, default=600)
layers = arguments.parse_args().layers

net = lensnet.load("redunet_gaussians", [f"constants.depth={layers}", "constants.eta=0.5"])
weights = f"three_gaussians_{layers}.safetensors"
made = net.construct(weights)
if made.interrupted:
    raise SystemExit(f"{len(made.done)} of {layers} layers are in {weights}; the same command goes on")

report = net.run(seeds=2, backward=False, weights=read(Path(weights)).tensors)
predicted, measured = rows_of(report, "rate_reduction")
gain_predicted, gain_measured = rows_of(report, "ascent_gain", "local")
best = float(np.subtract(*orthogonal_classes_rates(3, [100] * 3, [1] * 3, 0.1)))
print(f"{'layer':>6} {'R - Rc predicted':>18} {'measured':>10} {'gain predicted':>16} {'measured':>11}")
for i in sorted({0, *range(0, layers, max(1, layers // 10)), layers - 1}):
    print(f"{i:6} {predicted[i]:18.6f} {measured[i]:10.6f} {gain_predicted[i]:16.3e} {gain_measured[i]:11.3e}")
within = next((i + 1 for i, value in enumerate(measured) if best - value < 1e-4), None)
print(f"optimum, three orthogonal lines: {best:.6f}; within 1e-4 of it after {within} layers")

x = list(range(1, layers + 1))
figure(
    "three_gaussians.png",
    "Three Gaussians: the rate reduction climbs to its optimum",
    [
        lambda ax: (
            line_and_dots(ax, x, predicted, measured, "R - Rc"),
            level(ax, best, f"optimum {best:.4f}"),
            ax.set_ylim(None, best + 0.05),
            ax.set_ylabel("nats"),
            ax.legend(loc="center right"),
        ),
        lambda ax: (
            line_and_dots(ax, x, gain_predicted, gain_measured, "gain of a layer"),
            ax.set_yscale("log"),
            ax.set_ylim(max(0.5 * min(gain_predicted), 1e-12), None),
            ax.set_ylabel("nats"),
            ax.set_xlabel("layer"),
            ax.legend(),
        ),
    ],
)
