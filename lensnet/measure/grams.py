"""Gram matrices of the sampled rows, and the numbers read off them, of one weight draw."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from lensnet.levels.ladder import Level
from lensnet.measure.statistics import Matrix, ScalarKey, SeedStatistics
from lensnet.network.graph import INPUT, Network
from lensnet.network.shape import Shape
from lensnet.quantities import gram as of_gram
from lensnet.quantities import spectra
from lensnet.quantities.rows import RowSample, row_sample

BELOW_MOMENTS = frozenset({Level.KERNEL, Level.SPECTRUM})
"""Levels whose quantities are read off Gram matrices."""


def sampled_rows(x: Tensor, shape: Shape, sample: RowSample) -> Tensor:
    """The rows of the sample matrix, `(R, C)`: the channels of the chosen examples at the chosen positions."""
    x = x[: sample.examples]
    if not shape.positions:
        return x
    places = torch.as_tensor(sample.places, device=x.device)
    if shape.channel_axis == 1:
        return x.flatten(2).index_select(2, places).movedim(1, 2).flatten(0, 1)
    return x.index_select(1, places).flatten(0, 1)


def sampled_gram(x: Tensor, shape: Shape, most: int) -> Tensor:
    """E_c z_a z_b over the sampled rows: `(R, R)`, products in the precision of the tensor (float32 at least)."""
    sample = row_sample(len(x), shape.position_count, most)
    rows = sampled_rows(x, shape, sample).detach()
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    if rows.is_cuda:
        return (rows @ rows.T).double() / shape.channels
    matrix = rows.numpy()  # whose product with its own transpose works out one half and copies the other
    return torch.from_numpy(np.divide(matrix @ matrix.T, shape.channels, dtype=np.float64))


def read_scalars(network: Network, seed: SeedStatistics, levels: Collection[Level], examples: int, most: int) -> None:
    """Fill `seed.scalars` with what the asked levels define, from the Gram matrices of the draw."""
    for key, shape, gram in _grams(network, seed):
        sample = row_sample(examples, shape.position_count, most)
        for quantity, value in gram_scalars(gram, shape, sample, key[1], levels):
            seed.scalars[key[0], quantity, key[1], key[2]] = value


def gram_scalars(
    gram: Matrix, shape: Shape, sample: RowSample, direction: str, levels: Collection[Level]
) -> Iterator[tuple[str, float]]:
    """(quantity, value) of one Gram matrix. Spectra are those of signals; gradients have correlations alone."""
    if Level.KERNEL in levels:
        if sample.examples > 1:
            yield "correlation", of_gram.correlation(gram, sample)
        if len(sample.places) > 1:
            yield "position_cosine", of_gram.position_cosine(gram, sample)
    if direction == "forward" and levels:
        eigenvalues = spectra.spectrum_of(gram)
        yield "rank", spectra.rank(eigenvalues)
        yield "stable_rank", spectra.stable_rank(eigenvalues)
        yield "effective_rank", spectra.effective_rank(eigenvalues)
        yield "participation_ratio", spectra.participation_ratio(eigenvalues)
        yield "coding_rate", spectra.coding_rate(eigenvalues, shape.channels)


_Place = tuple[str, str, str | None]


def _grams(network: Network, seed: SeedStatistics) -> Iterator[tuple[_Place, Shape, Matrix]]:
    for path, gram in seed.grams.items():
        if path != INPUT:  # the same in every draw, and no component's row
            yield (path, "forward", None), network[path].shape, gram
    for (path, port), gram in seed.gradient_grams.items():
        node = network[path]
        yield (path, "backward", port), node.shapes_in[node.ports.index(port)], gram


__all__ = ["BELOW_MOMENTS", "ScalarKey", "gram_scalars", "read_scalars", "sampled_gram", "sampled_rows"]
