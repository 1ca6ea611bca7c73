"""Eigenvalues of sample matrices, predicted from the batch and measured over weight draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lensnet.compare.eigenvalues import Array, Eigenvalues
from lensnet.levels.ladder import Level
from lensnet.measure.ensemble import Progress, measure
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import SeedStatistics
from lensnet.network.graph import Network
from lensnet.predict.engine import Descent, Source
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.spectrum.engine import SpectrumPrediction
from lensnet.predict.spectrum.layers import seen_at
from lensnet.predicting import input_signal
from lensnet.quantities.rows import DEFAULT_ROWS
from lensnet.quantities.spectra import spectrum_of


def eigenvalues(
    network: Network,
    at: Sequence[str],
    seeds: int = 8,
    rows: int = DEFAULT_ROWS,
    first_seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Eigenvalues]:
    """For every component in `at`: density predicted through the network, eigenvalues of `seeds` draws (0: none).

    Raises KeyError for a path that is not in the network.
    """
    for path in at:
        network[path]
    batch = load_batch(network.input)
    moments = propagate(network, input_signal(network, batch), gradients=False)
    source = Source(moments, np.asarray(batch.double().numpy()), rows, gradients=False)
    predicted = Descent(network, source, [Level.SPECTRUM]).through[Level.SPECTRUM]
    measured: dict[str, list[Array]] = {path: [] for path in at}

    def take(seed: SeedStatistics) -> None:
        for path in at:
            measured[path].append(spectrum_of(seed.grams[path]))

    if seeds:
        measure(
            network, batch, seeds, first_seed, device, backward=False, keep_seeds=False, on_seed=take,
            progress=progress, levels=(Level.SPECTRUM,), rows=rows,
        )  # fmt: skip
    assert isinstance(predicted, SpectrumPrediction)
    return [_one(network, path, predicted, tuple(measured[path])) for path in at]


def _one(network: Network, path: str, predicted: SpectrumPrediction, measured: tuple[Array, ...]) -> Eigenvalues:
    output = None if predicted.layers is None else predicted.layers.outputs.get(path)
    x = density = infinite = np.zeros(0)
    rows = len(measured[0]) if measured else 0
    if output is not None and predicted.layers is not None:
        rows = len(output.gram)
        gram = predicted.layers.states[path].rows_gram(output.sample)
        infinite = spectrum_of(gram) if gram is not None else infinite
        if output.neurons is not None:
            x, density = output.neurons.spectrum(seen_at(output.neurons)).curve
            density = density * x
    return Eigenvalues(path, rows, network[path].shape.channels, x, density, infinite, measured)


__all__ = ["eigenvalues"]
