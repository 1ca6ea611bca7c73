"""What wrong labels do to cross-entropy, to the rate reduction, and to two ways without any training.

    python examples/coding_rate/label_corruption.py [--seeds 5]

A 64-256-256 network on 1000 digits, a share of whose labels is redrawn at random; test accuracy on the other 797 under
true labels. Four methods: cross-entropy; the rate reduction (MCR2) with a nearest-subspace classifier; that classifier
on the raw pixels, which learns nothing and is the control; and a ReduNet of ten layers, whose rate reduction under the
labels as given is predicted too. Results are kept in label_corruption.json, so that the same command goes on where it
was stopped.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from figure import COLOURS, Results, figure, labelled, line_and_dots, rows_of
from rich.progress import track
from torch import Tensor, nn

import lensnet
from lensnet.measure.labelled import corrupt
from lensnet.measure.layers.redunet import NearestSubspace, RedunetLayer
from lensnet.measure.module import layers, to_module
from lensnet.network.input import input_source

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--seeds", type=int, default=5)
arguments.add_argument("--epochs", type=int, default=150)
given = arguments.parse_args()

SHARES = (0.0, 0.1, 0.3, 0.5)
COMPONENTS, EPS2, BATCH = 10, 0.5, 500
digits = input_source({"source": "digits", "batch": 1797})
pixels, labels = labelled(digits)
pixels = pixels.float()


def subspace_accuracy(train: Tensor, noisy: Tensor, test: Tensor, truth: Tensor) -> float:
    """Nearest subspace on features of length 1."""
    train, test = (nn.functional.normalize(z.double(), dim=1) for z in (train, test))
    energy = []
    for j in range(10):
        basis = torch.linalg.svd(train[noisy == j], full_matrices=False)[2][:COMPONENTS]
        energy.append((test @ basis.T).square().sum(1))
    return float((torch.stack(energy, 1).argmax(1) == truth).double().mean())


def network(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
    )  # fmt: skip


def trained(model: nn.Module, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor], y: Tensor) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(given.epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            value = loss(model(x[rows]), y[rows])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    return model.eval()


def cross_entropy(x: Tensor, noisy: Tensor, test: Tensor, truth: Tensor) -> float:
    model = trained(network(10), x, nn.functional.cross_entropy, noisy)
    return float((model(test).argmax(1) == truth).double().mean())


def mcr2(x: Tensor, noisy: Tensor, test: Tensor, truth: Tensor) -> float:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        return -lensnet.rate_reduction(nn.functional.normalize(z, dim=1), y, EPS2)

    model = trained(network(64), x, loss, noisy)
    with torch.no_grad():
        return subspace_accuracy(model(x), noisy, model(test), truth)


def redunet(x: Tensor, noisy: Tensor, test: Tensor, truth: Tensor) -> float:
    """The bundled network, constructed from these examples: soft gates decide, for old and new examples alike."""
    module = to_module(lensnet.load("redunet_digits").network).double()
    z, fresh = x.double(), test.double()
    with torch.no_grad():
        for layer in layers(module).values():
            if isinstance(layer, NearestSubspace):
                break
            z = layer.construct(z, noisy) if isinstance(layer, RedunetLayer) else layer(z)
            fresh = layer(fresh)
    return subspace_accuracy(z, noisy, fresh, truth)


def redunet_rates(share: float) -> list[float]:
    """R - Rc behind the bundled network's first and last layer, predicted and measured, with so many labels redrawn."""
    report = lensnet.load("redunet_digits", [f"input.corrupt={share}"]).run(seeds=1, backward=False, device="cpu")
    both = [pair for pair in zip(*rows_of(report, "rate_reduction"), strict=True) if pair[0] == pair[0]]
    return [*both[0], *both[-1]]


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], float]] = {
    "cross-entropy": cross_entropy,
    "MCR2 + subspace": mcr2,
    "raw + subspace (control)": subspace_accuracy,
    "ReduNet + subspace": redunet,
}
torch.set_num_threads(1)
results = Results("label_corruption.json")
parts = [(method, share, seed) for seed in range(given.seeds) for share in SHARES for method in METHODS]
for method, share, seed in track(parts, "label corruption"):

    def part(method: str = method, share: float = share, seed: int = seed) -> float:
        torch.manual_seed(seed)
        order = torch.randperm(1797)
        train, test = order[:1000], order[1000:]
        return METHODS[method](pixels[train], corrupt(labels[train], share, seed), pixels[test], labels[test])

    results.get(f"{method}/{share}/{seed}/{given.epochs}", part)
rates = np.array([results.get(f"rates/{share}", lambda share=share: redunet_rates(share)) for share in SHARES])

found = {
    m: np.array([[results.found[f"{m}/{s}/{seed}/{given.epochs}"] for seed in range(given.seeds)] for s in SHARES])
    for m in METHODS
}
print(f"test accuracy, mean over {given.seeds} splits, weights and corruptions, ± standard error")
print(f"{'':25}" + "".join(f"{f'{s:.0%} redrawn':>13}" for s in SHARES))
for method, values in found.items():
    bars = values.std(1, ddof=1) / given.seeds**0.5 if given.seeds > 1 else np.full(len(SHARES), np.nan)
    print(f"{method:25}" + "".join(f"{m:7.3f}±{b:.3f}" for m, b in zip(values.mean(1), bars, strict=True)))
control = found["raw + subspace (control)"]
print("\npaired differences to the control (in standard errors: claim nothing below 2)")
for method, values in found.items():
    if values is not control:
        gap = values - control
        z = gap.mean(1) / (gap.std(1, ddof=1) / given.seeds**0.5 + 1e-12)
        print(f"{method:25}" + "".join(f"{f'{g:+.3f} ({t:+.0f})':>13}" for g, t in zip(gap.mean(1), z, strict=True)))
gap = found["MCR2 + subspace"] - found["cross-entropy"]
print(f"{'MCR2 minus cross-entropy':25}" + "".join(f"{g:+13.3f}" for g in gap.mean(1)))
print("\nReduNet, ten layers: R - Rc under the labels as given, predicted|measured, nats")
for name, (predicted, measured) in {"behind layer 1": rates.T[:2], "behind layer 10": rates.T[2:]}.items():
    print(f"{name:25}" + "".join(f"{f'{p:.3f}|{m:.3f}':>13}" for p, m in zip(predicted, measured, strict=True)))


def panel(ax: object) -> None:
    for (method, values), colour in zip(found.items(), COLOURS, strict=False):
        bars = values.std(1, ddof=1) / given.seeds**0.5 if given.seeds > 1 else None
        style = {"ls": "--"} if "control" in method else {}
        ax.errorbar(SHARES, values.mean(1), bars, marker="o", ms=4, color=colour, label=method, **style)  # type: ignore[attr-defined]
    ax.set_ylabel("test accuracy")  # type: ignore[attr-defined]
    ax.legend()  # type: ignore[attr-defined]


def rates_panel(ax: object) -> None:
    line_and_dots(ax, SHARES, rates[:, 0].tolist(), rates[:, 1].tolist(), "ReduNet, layer 1")
    line_and_dots(ax, SHARES, rates[:, 2].tolist(), rates[:, 3].tolist(), "layer 10", COLOURS[3])
    ax.set_xlabel("share of labels redrawn")  # type: ignore[attr-defined]
    ax.set_ylabel("R - Rc, nats")  # type: ignore[attr-defined]
    ax.legend()  # type: ignore[attr-defined]


figure("label_corruption.png", "Wrong labels: how much of the gain is the classifier's?", [panel, rates_panel])
