"""Eigenvalues of sample matrices, predicted from the batch and measured over weight draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lensnet.algebra.random_matrix.singular_values import singular
from lensnet.compare.eigenvalues import Array, Eigenvalues
from lensnet.levels.ladder import Level
from lensnet.measure.ensemble import Progress, measure
from lensnet.measure.jacobians import draw_jacobians
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import SeedStatistics
from lensnet.network.graph import LARGEST_JACOBIAN, Network
from lensnet.predict.engine import Descent, Source
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.spectrum.engine import SpectrumPrediction
from lensnet.predict.spectrum.jacobian import ROUNDING, ways
from lensnet.predict.spectrum.layers import seen_at
from lensnet.predicting import input_signal
from lensnet.quantities.jacobian import WHOLE
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


def jacobians(
    network: Network,
    at: Sequence[str],
    seeds: int = 8,
    first_seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Eigenvalues]:
    """The same of J J^T for the Jacobian J from the network's input to every component in `at`: squared singular
    values.

    Raises KeyError for a path that is not in the network, ValueError for a network whose Jacobians are not looked at.
    """
    inputs = network.input.shape.features
    if not network.has_jacobians or inputs > WHOLE:
        raise ValueError(
            f"the singular values of its Jacobians are not looked at: that needs at most {WHOLE} numbers as input, at "
            f"most {LARGEST_JACOBIAN:,} at every output, and examples that do not see each other"
        )
    batch = load_batch(network.input)
    signals = propagate(network, input_signal(network, batch), gradients=False).signals
    known = ways(network, signals)
    followed = [path for path in at if path in known]
    laws = dict(zip(followed, singular([known[path].stages for path in followed]), strict=True))
    measured = draw_jacobians(network, batch, at, range(first_seed, first_seed + seeds), device, progress)
    out = []
    for path in at:
        count = min(inputs, network[path].shape.features)
        law = laws.get(path)
        shown = law is not None and law.x.size > 1
        x = law.x[::-1] if law is not None and shown else np.zeros(0)
        density = law.density[::-1] * count if law is not None and shown else np.zeros(0)
        channels = network[path].shape.features
        draws = tuple(measured[path])
        out.append(Eigenvalues(path, count, channels, x, density, np.zeros(0), draws, ROUNDING**2))
    return out


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


__all__ = ["eigenvalues", "jacobians"]
