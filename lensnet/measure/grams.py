"""Gram matrices of the sampled rows, and the numbers read off them, of one weight draw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

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
    sample = row_sample(len(x), shape.positions, most)
    rows = sampled_rows(x, shape, sample).detach()
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    if rows.is_cuda:
        return (rows @ rows.T).double() / shape.channels
    matrix = rows.numpy()  # whose product with its own transpose works out one half and copies the other
    return torch.from_numpy(np.divide(matrix @ matrix.T, shape.channels, dtype=np.float64))


def read_scalars(network: Network, seed: SeedStatistics, levels: Collection[Level], examples: int, most: int) -> None:
    """Fill `seed.scalars` with what the asked levels define, from the Gram matrices of the draw.

    Spectra are those of signals; gradients have correlations alone.
    """
    if not levels:
        return
    grams = list(_grams(network, seed))
    if Level.KERNEL in levels:
        for (path, direction, port), shape, gram in grams:
            sample = row_sample(examples, shape.positions, most)
            for quantity, value in _cosines(gram, sample):
                seed.scalars[path, quantity, direction, port] = value
    signals = [(path, shape, gram) for (path, direction, _), shape, gram in grams if direction == "forward"]
    for path, found in _spectra(signals):
        for quantity, value in found.items():
            seed.scalars[path, quantity, "forward", None] = value


def _cosines(gram: Matrix, sample: RowSample) -> Iterator[tuple[str, float]]:
    if sample.examples > 1:
        yield "correlation", of_gram.correlation(gram, sample)
    if len(sample.places) > 1:
        yield "position_cosine", of_gram.position_cosine(gram, sample)


def _spectra(signals: Iterable[tuple[str, Shape, Matrix]]) -> Iterator[tuple[str, dict[str, float]]]:
    """The numbers of every spectrum by path; matrices of one size together, and one matrix once."""
    sizes: dict[int, dict[int, list[tuple[str, int, Matrix]]]] = {}
    for path, shape, gram in signals:
        place = gram.__array_interface__["data"][0]
        sizes.setdefault(len(gram), {}).setdefault(place, []).append((path, shape.channels, gram))
    for size, alike in sizes.items():
        every, step = list(alike.values()), max(1, _STACKED // size**2)
        for group in (every[start : start + step] for start in range(0, len(every), step)):
            eigenvalues = _eigenvalues([uses[0][2] for uses in group])
            places = [(place, use) for place, uses in enumerate(group) for use in uses]
            channels = np.array([use[1] for _, use in places])
            found = spectra.numbers(eigenvalues[[place for place, _ in places]], channels)
            for place, (_, (path, _, _)) in enumerate(places):
                yield path, {quantity: float(values[place]) for quantity, values in found.items()}


_STACKED = 1 << 22
"""Numbers in the stack of Gram matrices whose eigenvalues are found together: 32 MiB."""


def _eigenvalues(grams: Sequence[Matrix]) -> Matrix:
    """Of each of N matrices `(R, R)`, ascending, not below zero, `(N, R)`; NaN where an entry is not finite."""
    finite = np.array([bool(np.isfinite(gram.sum())) for gram in grams])  # the sum of averages does not overflow
    found = np.full((len(grams), len(grams[0])), np.nan)
    if finite.any():
        sound = np.stack([gram for gram, known in zip(grams, finite, strict=True) if known])
        found[finite] = np.maximum(np.linalg.eigvalsh(sound, UPLO="U"), 0.0)
    return found


_Place = tuple[str, str, str | None]


def _grams(network: Network, seed: SeedStatistics) -> Iterator[tuple[_Place, Shape, Matrix]]:
    for path, gram in seed.grams.items():
        if path != INPUT:  # the same in every draw, and no component's row
            yield (path, "forward", None), network[path].shape, gram
    for (path, port), gram in seed.gradient_grams.items():
        node = network[path]
        yield (path, "backward", port), node.shapes_in[node.ports.index(port)], gram


__all__ = ["BELOW_MOMENTS", "ScalarKey", "read_scalars", "sampled_gram", "sampled_rows"]
