"""Coding rates of labelled features behind a random layer of finite width, from the Gram matrix that goes in.

For features f = phi(W x) of d random units, scaled to length 1, over m examples with the kernel K of infinite width
(cosines of the input for a linear layer, their arc-cosine kernel behind a ReLU), and S = d/(m*eps2) K:

    delta = 1/d tr(S (I + S/(1 + delta))^-1)
    R     = 1/2 (logdet(I + S/(1 + delta)) + d log(1 + delta) - d delta/(1 + delta))

a deterministic equivalent, exact up to O(1/d) (Couillet and Liao 2022, Random matrix methods for machine learning,
section 2.3). The infinitely wide layer, 1/2 logdet(I + S), is up to 20 % higher: a finite layer cannot keep all.
"""

from __future__ import annotations

from math import log, log1p

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.ladder import Level
from lensnet.network.distortion import label_distortion
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.engine import Draw
from lensnet.predict.prediction import Check, Effect
from lensnet.quantities.gram import cosines
from lensnet.quantities.spectra import DISTORTION

Matrix = NDArray[np.float64]
LABELS = (INPUT, "", "labels")
"""Where a draw keeps the classes of its examples, among the side quantities."""
_LINEAR, _RELU = "linear", "relu"


def random_layer_rate(kernel: Matrix, width: int, eps2: float) -> float:
    """R in nats of `width` random units with the m x m kernel of their infinitely many (unit diagonal)."""
    s = width / (len(kernel) * eps2) * np.maximum(np.linalg.eigvalsh(kernel), 0.0)
    delta = 1.0
    for _ in range(500):
        after = float(np.sum(s / (1 + s / (1 + delta)))) / width
        if abs(after - delta) <= 1e-12 * (1 + delta):
            break
        delta = after
    return 0.5 * (float(np.sum(np.log1p(s / (1 + delta)))) + width * log1p(delta) - width * delta / (1 + delta))


def isotropic_rate(d: int, m: int, eps2: float, sphere: bool = True) -> tuple[float, float]:
    """R of m random directions in d dimensions, and its standard deviation over draws (nats).

    sphere: columns of length 1, else Gaussian of mean square length 1. Marchenko-Pastur with the O(1) correction of
    linear spectral statistics (Bai and Silverstein 2004); on the sphere without the fluctuation of the lengths.
    """
    c, g = d / m, 1 / eps2
    f = (np.sqrt(g * (1 + np.sqrt(c)) ** 2 + 1) - np.sqrt(g * (1 - np.sqrt(c)) ** 2 + 1)) ** 2
    v = log(1 + g - f / 4) + log(1 + g * c - f / 4) / c - f / (4 * c * g)
    t = s = 1.0
    for _ in range(1000):
        t, s = 1 / (1 + g * s), 1 / (1 + c * g * t)
    q = 1 - c * (g * t * s) ** 2
    kept = c * (1 - t) ** 2 / 2 if sphere else 0.0
    return float(d / 2 * v + log(q) / 4 + kept), float(np.sqrt(max(-log(q) / 2 - kept, 0.0)))


def orthogonal_classes_rates(d: int, sizes: list[int], ranks: list[int], eps2: float) -> tuple[float, float]:
    """R and Rc of unit columns that fill mutually orthogonal class subspaces of these ranks evenly (nats).

    The closed-form optimum of the rate reduction at given ranks; for d classes of rank 1, the global one.
    """
    m = sum(sizes)
    total = sum(r / 2 * log1p(d * n / (m * r * eps2)) for n, r in zip(sizes, ranks, strict=True))
    classes = sum(n / m * r / 2 * log1p(d / (r * eps2)) for n, r in zip(sizes, ranks, strict=True))
    return total, classes


def labelled_effects(network: Network, draw: Draw) -> list[Effect]:
    """R, Rc and dR behind dense layers (and the ReLU on them) whose input has a known Gram matrix of all examples."""
    labels = draw.side.get(LABELS)
    if labels is None:
        return []
    eps2 = label_distortion(network, DISTORTION)
    out: list[Effect] = []
    for node in network:
        dense = _dense(network, node)
        gram = None if dense is None else draw.grams.get(dense.inputs[0])
        if dense is None or gram is None or len(gram) != len(labels):
            continue
        kernel = cosines(gram)
        if not np.isfinite(kernel).all():
            continue
        if node.kind == _RELU:
            kernel = _arc_cosine(kernel)
        out += _effects(node, kernel, np.asarray(labels, dtype=int), eps2)
    return out


def _dense(network: Network, node: Node) -> Node | None:
    """The dense layer on vectors, without bias, that makes this output, itself or through a ReLU."""
    if node.kind == _RELU and node.inputs[0] in network:
        node = network[node.inputs[0]]
    plain = node.kind == _LINEAR and not node.shape.positions and not node.weights["weight"].has_bias
    return node if plain else None


def _effects(node: Node, kernel: Matrix, labels: NDArray[np.int_], eps2: float) -> list[Effect]:
    width = node.shape.channels
    total = random_layer_rate(kernel, width, eps2)
    classes = 0.0
    for label in np.unique(labels):
        mine = labels == label
        classes += mine.mean() * random_layer_rate(kernel[np.ix_(mine, mine)], width, eps2)
    checks = (
        Check("weights are independent and of zero mean"),
        Check(f"enough units for the spectrum to be sharp: {width}, at least 32", width / 32 - 1, Level.FLUCTUATION),
    )
    values = {"total_rate": total, "class_rate": classes, "rate_reduction": total - classes}
    status = "ok" if width >= 32 else "out-of-regime"
    return [
        Effect(
            node.path, quantity, "forward", None, np.array([value]), 2 / width, checks, status,  # type: ignore[arg-type]
            level=Level.SPECTRUM,
        )
        for quantity, value in values.items()
    ]  # fmt: skip


def _arc_cosine(c: Matrix) -> Matrix:
    """Correlation behind a ReLU of two Gaussian signals that correlate by c (Cho and Saul 2009)."""
    c = np.clip(c, -1.0, 1.0)
    return (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi
