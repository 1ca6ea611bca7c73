"""The covariance of the input: of the actual batch, or of what is declared about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import FullPairs
from lensnet.network.geometry import Patches
from lensnet.network.graph import INPUT, InputSource, Network, Node
from lensnet.network.shape import Shape

Array = NDArray[np.float64]


def input_state(network: Network, batch: Array | None, examples: int | None = None) -> Covariance:
    """The state at the input.

    batch: the actual input in torch layout; None for the declared input, averaged over its draws. examples: how many
    of them are followed (default all). Token ids have the covariance of one-hot vectors: 1 where two are equal.
    Raises ValueError for a batch of another shape, and for a declared input whose covariance only a batch tells.
    """
    source, shape = network.input, network.input.shape
    if batch is None:
        return _declared(source, min(examples or source.batch, source.batch))
    batch = np.asarray(batch)
    expected = shape.tensor_shape(len(batch)) if batch.ndim else ()
    if batch.shape != expected:
        raise ValueError(f"the network takes inputs of the shape {('N', *expected[1:])}, not {batch.shape}")
    rows = sample_matrix(batch[:examples], shape)
    layout = FullPairs(min(len(batch), examples or len(batch)), shape.positions)
    if shape.kind == "ids":
        ids = rows.ravel()
        return Covariance(np.zeros(layout.field_shape), (ids[:, None] == ids[None, :]).astype(float), layout)
    mean = rows.mean(axis=1).reshape(layout.field_shape)
    return Covariance(mean, rows @ rows.T / rows.shape[1], layout)


def patched_state(node: Node, batch: Array, examples: int) -> Covariance:
    """The state of an image cut into patches: one sample per patch, all its pixels in the channels."""
    values = patch_matrix(node, batch[:examples])
    layout = FullPairs(min(len(batch), examples), node.shape.positions)
    return Covariance(values.mean(axis=1).reshape(layout.field_shape), values @ values.T / values.shape[1], layout)


def patch_matrix(node: Node, batch: Array) -> Array:
    """Images in torch layout as rows: one per example and patch, the pixels of all channels in the columns."""
    assert isinstance(node.geometry, Patches)
    (a, b), (rows, columns) = node.geometry.patch, node.shapes_in[0].positions
    x = np.asarray(batch, dtype=float)
    cut = x.reshape(len(x), x.shape[1], rows // a, a, columns // b, b).transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(len(x) * (rows // a) * (columns // b), -1)


def sample_matrix(batch: Array, shape: Shape) -> Array:
    """A batch in torch layout as rows: one per example and position, channels in the columns."""
    values = np.asarray(batch, dtype=float)
    if shape.kind == "ids":
        return values.reshape(-1, 1)
    return np.moveaxis(values, shape.channel_axis, -1).reshape(-1, shape.channels)


def _declared(source: InputSource, examples: int) -> Covariance:
    shape, layout = source.shape, FullPairs(examples, source.shape.positions)
    options = {name: float(str(source.options.get(name) or 0.0)) for name in ("correlation", "position_correlation")}
    if shape.kind == "ids" and source.source == "tokens":
        share = _token_share(source)
        blank = np.zeros(layout.field_shape)
        return Covariance(blank, layout.same + (1 - layout.same) * share, layout)
    if source.source != "gaussian":
        raise ValueError(f"the covariance of '{source.source}' is that of its batch: none was given")
    mean, std = float(str(source.options.get("mean") or 0.0)), float(str(source.options.get("std", 1.0)))
    over_examples = layout.same_example + (1 - layout.same_example) * options["correlation"]
    over_places = layout.same_place + (1 - layout.same_place) * options["position_correlation"]
    pairs = mean**2 + std**2 * over_examples * over_places
    means = np.full(layout.field_shape, mean)
    population = Population(INPUT, shape.channels, float("inf"), means, pairs, layout)
    return Covariance(means, pairs, layout, population)


def _token_share(source: InputSource) -> float:
    """Probability that two tokens are equal."""
    count = source.shape.channels
    weights = np.ones(count)
    if source.options.get("distribution", "zipf") == "zipf":
        weights = np.arange(1.0, count + 1) ** -float(str(source.options.get("exponent") or 1.0))
    return float(np.sum((weights / weights.sum()) ** 2))
