"""From the neurons at an output to the numbers of its spectrum, at finite and at infinite width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lensnet.algebra.random_matrix.neurons import Neurons
from lensnet.algebra.random_matrix.sample_spectrum import largest
from lensnet.levels.ladder import Level
from lensnet.predict.prediction import Check, Effect, Status
from lensnet.predict.spectrum.layers import seen_at
from lensnet.predict.spectrum.sums import Output
from lensnet.quantities import spectra

QUANTITIES = ("rank", "stable_rank", "effective_rank", "participation_ratio", "coding_rate")
MOST_ROWS_PER_NEURON = 0.02
_WIDE = f"few rows against neurons (rows/width at most {MOST_ROWS_PER_NEURON:g})"
_ENOUGH = "enough neurons for an average over them (width at least 16)"
_LEAST_WIDTH = 16


def spectrum_effects(path: str, output: Output, channels: int) -> Iterator[Effect]:
    """Rows of the spectrum level."""
    if output.neurons is None:
        values = read(spectra.spectrum_of(output.gram), channels)
        yield from _effects(path, values, 0.0, output.checks, Level.SPECTRUM)
        return
    checks = (*output.checks, Check(_ENOUGH, output.neurons.count / _LEAST_WIDTH - 1, Level.FLUCTUATION))
    yield from _effects(path, of_neurons(output.neurons), declared_error(output), checks, Level.SPECTRUM)


def infinite_width_effects(path: str, output: Output, gram: np.ndarray, channels: int) -> Iterator[Effect]:
    """The same numbers of the kernel alone, at its level: right when there are far more neurons than rows."""
    crowd = output.total
    margin = 1 - crowd / MOST_ROWS_PER_NEURON if crowd > 0 else None
    checks = (Check(_WIDE, None if margin is None else max(margin, -1.0), Level.SPECTRUM),)
    yield from _effects(path, read(spectra.spectrum_of(gram), channels), crowd, checks, Level.KERNEL)


def of_neurons(neurons: Neurons) -> dict[str, float]:
    """The quantities of the sample matrix of independent neurons, typical over draws."""
    scale = seen_at(neurons)
    values = neurons.spectrum(scale).eigenvalues()
    found = read(values, int(neurons.count))
    found["participation_ratio"] = neurons.participation_ratio()
    found["coding_rate"] = neurons.log_determinant(scale) / 2
    if neurons.draws is None and values.max(initial=0.0) > 0:
        found["stable_rank"] = float(values.sum()) / largest(neurons.eigenvalues, neurons.count)[0]
    return found


def read(eigenvalues: spectra.Spectrum, channels: int) -> dict[str, float]:
    """All five numbers of a list of eigenvalues."""
    return {quantity: float(value) for quantity, value in spectra.numbers(eigenvalues, channels).items()}


def declared_error(output: Output) -> float:
    """1/width, and second order in rows/width from this layer and from those before."""
    own = output.total - output.behind
    crowd = own**2 / 8 + output.behind * own / 16
    return output.inverse_width + crowd


def _effects(
    path: str, values: dict[str, float], error: float, checks: Sequence[Check], level: Level
) -> Iterator[Effect]:
    failed = any(check.margin is not None and not check.margin >= 0 for check in checks)
    status: Status = "out-of-regime" if failed else "ok"
    for quantity in QUANTITIES:
        value = values[quantity]
        if np.isfinite(value):
            field = np.array([value])
            yield Effect(path, quantity, "forward", None, field, error, tuple(checks), status, 0.0, level)
