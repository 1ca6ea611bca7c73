"""The prediction from the input alone: no forward pass, and no torch where the input is known by its declaration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lensnet.compare.climb import climb, needs_descent
from lensnet.compare.comparison import Circumstances, report_on
from lensnet.compare.report import Report
from lensnet.compare.settings import Settings
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Law, Signal
from lensnet.network.graph import INPUT, InputSource, Network
from lensnet.predict.engine import Descent, Source
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Prediction
from lensnet.quantities.rows import DEFAULT_ROWS

if TYPE_CHECKING:
    from torch import Tensor


BELOW = (Level.KERNEL, Level.FLUCTUATION)
"""The levels that are asked where the moments do not hold."""


def predict(
    network: Network,
    settings: Settings | None = None,
    gradients: bool = True,
    levels: Sequence[Level] = (Level.MOMENTS,),
    rows: int = DEFAULT_ROWS,
    batch: Tensor | None = None,
) -> Report:
    """The prediction alone, from the declared input or the moments of the actual batch; no forward pass.

    `batch`: the input in place of the declared one, in torch's layout for its shape.
    """
    batch = _loaded(network) if batch is None and _is_below(levels) else batch
    through = propagate(network, input_signal(network, batch), gradients=gradients)
    return _report(network, through, batch, settings, gradients, levels, rows)


def predict_down(
    network: Network, settings: Settings | None = None, gradients: bool = True, rows: int = DEFAULT_ROWS
) -> Report:
    """`predict` from the cheapest level down: the levels below are asked only where the moments do not hold."""
    through = propagate(network, input_signal(network), gradients=gradients)
    first = _report(network, through, None, settings, gradients)
    if not needs_descent(first):
        return first
    levels = (Level.MOMENTS, *BELOW)
    return climb(_report(network, through, _loaded(network), settings, gradients, levels, rows))


def _report(
    network: Network,
    moments: Prediction,
    batch: Tensor | None,
    settings: Settings | None,
    gradients: bool,
    levels: Sequence[Level] = (Level.MOMENTS,),
    rows: int = DEFAULT_ROWS,
) -> Report:
    """What the levels say that start from these moments."""
    descent = descend(network, moments, batch, levels, rows, "float32", gradients)
    how = Circumstances(levels=names_of(levels), notes=descent.notes)
    return report_on(network, joined(moments, descent), None, how, settings)


def descend(
    network: Network,
    moments: Prediction,
    batch: Tensor | None,
    levels: Sequence[Level],
    rows: int,
    dtype: str,
    gradients: bool,
) -> Descent:
    """The predictions of the levels below the moments, from the actual batch."""
    values = None if batch is None or not _is_below(levels) else np.asarray(batch.double().numpy())
    return Descent(network, Source(moments, values, rows, dtype, gradients), levels)


def joined(moments: Prediction, descent: Descent) -> Prediction:
    return Prediction([*moments.effects, *descent.effects], moments.signals, moments.gradients)


def _is_below(levels: Collection[Level]) -> bool:
    return bool(set(levels) - {Level.MOMENTS})


def names_of(levels: Collection[Level]) -> tuple[str, ...]:
    return tuple(str(level) for level in Level if level in levels)


def _loaded(network: Network) -> Tensor:
    from lensnet.measure.sources import load_batch

    return load_batch(network.input)


def input_signal(network: Network, batch: Tensor | None = None) -> Signal:
    """The signal at the network's input.

    Of a Gaussian input all entries are alike (one typical example): its mean and variance are those of the actual batch
    where one is given, since a few thousand numbers stray from their law, else the declared ones. Of anything else the
    moments of the actual batch (loaded when not given) are taken, per example and position.
    """
    source, shape = network.input, network.input.shape
    if shape.kind == "ids":
        blank = np.full((1, *shape.positions), np.nan)
        return Signal(blank, blank)
    if source.source == "gaussian":
        return _gaussian_signal(source, batch)
    from lensnet.measure.fields import channel_mean, channel_product

    batch = _loaded(network) if batch is None else batch
    mean, second = channel_mean(batch, shape), channel_product(batch, batch, shape)
    return Signal(np.asarray(mean, dtype=float), np.asarray(second, dtype=float))


def _gaussian_signal(source: InputSource, batch: Tensor | None) -> Signal:
    """One typical example; the declared correlations go along as side quantities for the first component."""
    options: Mapping[str, object] = source.options
    mean, std = float(str(options.get("mean", 0.0))), float(str(options.get("std", 1.0)))
    if batch is not None:
        mean, std = float(batch.double().mean()), float(batch.double().std(correction=0))
    size = (1, *source.shape.positions)
    means, variance = np.full(size, mean), np.full(size, std**2)
    second = mean**2 + std**2
    between_positions = float(str(options.get("position_correlation", 0.0)))
    side: dict[str, float] = {}
    if source.shape.positions and second > 0:
        side = {"position_correlation": between_positions, "window_correlation": between_positions}
        side["token_gram"] = (mean**2 + std**2 * between_positions) / second
    else:
        side["batch_correlation"] = float(str(options.get("correlation", 0.0)))
    law = Law(means, variance, terms=float("inf"), origin=INPUT)
    return Signal(means, variance + means**2, law, side)


__all__ = ["BELOW", "descend", "input_signal", "joined", "names_of", "predict", "predict_down"]
