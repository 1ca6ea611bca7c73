"""Coding rates of a ReduNet layer: of what comes in, with what its step will gain to each order, and of what goes out.

Labels and the layer are those of the running pass (`lensnet.measure.examples`); without labels everything is NaN.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.examples import Examples, examples_now
from lensnet.measure.layers.constructed import ConstructedLayer
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.redunet import step
from lensnet.measure.redunet.gain import ORDERS, Series, gain_series
from lensnet.measure.redunet.operators import Construction, Operators, construct
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from lensnet.quantities.subspaces import class_rank, gate_entropy


def _known(x: Tensor, node: Node) -> tuple[Examples, Tensor, RedunetLayer] | None:
    """What the pass knows, the labels of x, and the layer."""
    now = examples_now()
    layer = None if now is None else now.layers.get(node.path)
    labels = None if now is None else now.labels_of(x)
    return (now, labels, layer) if now is not None and labels is not None and isinstance(layer, RedunetLayer) else None


def _construction(x: Tensor, labels: Tensor, layer: RedunetLayer) -> tuple[Construction, Tensor, Tensor]:
    v = layer.transform.forward(x.double())
    weights = layer.transform.weights(v)
    return construct(v, labels, layer.classes, layer.eps2, weights), v, weights


def _series(x: Tensor, node: Node) -> Series | None:
    """Of one layer's input; kept until its output has been looked at."""
    known = _known(x, node)
    if known is None:
        return None
    now, labels, layer = known
    if node.path not in now.kept:
        try:
            made, v, weights = _construction(x, labels, layer)
        except ValueError:  # a class without examples, or features that are not finite
            return None
        own = layer.operators
        wide = Operators(own.expansion.to(v), own.compression.to(v), own.shares.to(weights))
        gates = layer.gates(x).to(weights)
        now.kept[node.path, "entropy"] = gate_entropy(gates).mean()
        direction = step.ascent(wide, v, gates)
        now.kept[node.path] = gain_series(made, v, direction, weights, layer.transform.orthonormal, layer.sphere)
    found: Series = now.kept[node.path]
    return found


def _nothing(x: Tensor) -> Tensor:
    return torch.full((), torch.nan, dtype=torch.float64, device=x.device)


def _before(x: Tensor, shape: Shape, node: Node, part: str) -> Tensor:
    found = _series(x, node)
    return _nothing(x) if found is None else getattr(found, part).double()


def _order(x: Tensor, shape: Shape, node: Node, part: str, order: int) -> Tensor:
    found = _series(x, node)
    return _nothing(x) if found is None else getattr(found, f"{part}_orders")[order].double()


for _part in ("total", "reduction"):
    _bound = partial(_before, part=_part)
    _bound.__doc__ = f"The {_part} rate of the labelled input, in nats, one number."
    estimator(f"{_part}_before")(_bound)
    for _number in range(1, ORDERS + 1):
        _bound = partial(_order, part=_part, order=_number - 1)
        _bound.__doc__ = f"Coefficient of eta^{_number} in the {_part} rate along the layer's step, one number."
        estimator(f"{_part}_order_{_number}")(_bound)


@estimator("total_rate", subject="output")
def total_rate(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """R of the layer's output, in nats."""
    return _after(y, node)[0]


@estimator("class_rate", subject="output")
def class_rate(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """Rc of the layer's output, in nats."""
    return _after(y, node)[1]


@estimator("rate_reduction", subject="output")
def rate_reduction(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """dR = R - Rc of the layer's output, in nats."""
    total, conditional = _after(y, node)
    return total - conditional


@estimator("ascent_gain_first", subject="output")
@estimator("ascent_gain", subject="output")
def ascent_gain(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """dR of the layer's output minus dR of its input, in nats."""
    known = _known(y, node)
    series = None if known is None else known[0].kept.get(node.path)
    return _nothing(y) if series is None else rate_reduction(y, shape, node) - series.reduction


def _after(y: Tensor, node: Node) -> tuple[Tensor, Tensor]:
    known = _known(y, node)
    if known is None:
        return _nothing(y), _nothing(y)
    now, labels, layer = known
    key = (node.path, "after")
    if key not in now.kept:
        try:
            rates = _construction(y, labels, layer)[0].rates
            now.kept[key] = rates.total, rates.conditional
        except ValueError:
            now.kept[key] = _nothing(y), _nothing(y)
    found: tuple[Tensor, Tensor] = now.kept[key]
    return found


@estimator("gate_entropy", subject="output")
def mean_gate_entropy(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """Entropy of the shares that a gate gives the classes, averaged over examples (and positions); one number, nats.

    Of a ReduNet layer, which keeps its gate to itself, that of its labelled input; of other gates, of their output,
    divided by its sum.
    """
    now = examples_now()
    if now is not None and (node.path, "entropy") in now.kept:
        return torch.as_tensor(now.kept[node.path, "entropy"])
    if now is not None and isinstance(now.layers.get(node.path), RedunetLayer):
        return _nothing(y)
    shares = y.movedim(shape.channel_axis, -1).double()
    return gate_entropy(shares / shares.sum(-1, keepdim=True)).mean()


@estimator("class_rank_before")
def class_rank_before(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """Rank of the features of a class, averaged over the classes of the labelled input; one number."""
    return _rank(x, node)


@estimator("class_rank", subject="output")
def class_rank_after(y: Tensor, shape: Shape, node: Node) -> Tensor:
    """Rank of the features of a class, averaged over classes; one number."""
    return _rank(y, node)


def _rank(x: Tensor, node: Node) -> Tensor:
    known = _known(x, node)
    if known is None or not bool(torch.isfinite(x).all()):
        return _nothing(x)
    ranks = class_rank(x.flatten(1), known[1])
    return ranks[ranks > 0].double().mean()


@estimator("made_from_data")
def made_from_data(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """1 where the layer's operators were made from labelled examples, 0 where they are random; one number."""
    now = examples_now()
    layer = None if now is None else now.layers.get(node.path)
    made = isinstance(layer, ConstructedLayer) and layer.constructed
    return torch.full((), float(made), dtype=torch.float64, device=x.device)
