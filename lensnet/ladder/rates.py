"""Rate tests: what a level drops must fall with the width at the order that it declares.

The levels above `fluctuation` say that a layer is its own average. What is dropped is the scatter of one weight draw
(and of one finite set of channels) around that average. If the claim is "up to O(1/width)", two things must be seen at
four widths or more:

- the relative variance of an output's second moment falls as 1/width (the slope is fitted; a component may declare
  another order, or that it falls with the positions), or there is none;
- the average error of the formula, as b + a/width, leaves a limit b within what the formula declares.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from lensnet.catalog.catalog import catalog
from lensnet.ladder.growth import grown, size
from lensnet.ladder.trial import Trial, network_of, path_of
from lensnet.measure.ensemble import measure
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import SeedStatistics
from lensnet.network.graph import Network
from lensnet.predict.moments.local import predict_locally
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Effect, Prediction
from lensnet.predicting import input_signal

WIDTHS = (1, 2, 4, 8)
"""Factors on the channels of a trial."""

WIDER = 8
"""How much wider a rate test is repeated when it fails, or as far as its weights fit."""

MOST_WEIGHTS = 2**27
"""Weights of the widest network of a repeated test: half a gigabyte."""

ORDER = 1.0
"""Required order of the relative variance unless a component declares another: it falls as width**-1."""

NEXT_ORDER = 0.08
"""What the next term, c/width relative to the first, may tilt the slope by over these widths."""

EXACT = 1e-9
"""Relative variance below which nothing scatters: a norm fixes what leaves it."""

ROUNDING = 1e-5
"""Relative error that float32 leaves in an average."""

BEYOND_CHANCE = 3.5
"""Standard errors from which on a limit is not zero: 1 in 2,000 by chance."""


@dataclass(frozen=True)
class Rate:
    """What a component's second moment does as its width grows.

    `order`: at which the relative variance must fall. `variances`: relative variance over draws at each of `widths`,
    which are numbers of what `grows`;
    `slope`, `interval`: fitted exponent and two standard errors of it, None where nothing scatters. `errors`,
    `standard_errors`: average relative error of the formula and its standard error, at each width; `limit`,
    `limit_error`: what is left of it at infinite width; `declared`: what the formula declares at the widest.
    """

    component: str
    quantity: str
    widths: tuple[int, ...]
    variances: tuple[float, ...]
    slope: float | None
    interval: float | None
    errors: tuple[float, ...]
    standard_errors: tuple[float, ...]
    limit: float
    limit_error: float
    declared: float
    order: float = ORDER
    grows: str = "channels"

    @property
    def averages_itself(self) -> bool:
        """Whether the scatter falls at the required order."""
        if self.slope is None or self.interval is None:
            return True
        return self.slope + self.order <= self.interval + NEXT_ORDER

    @property
    def within_declared(self) -> bool:
        """Whether the average error goes away with the width, or stays within what is declared."""
        return not abs(self.limit) > BEYOND_CHANCE * self.limit_error + self.declared + ROUNDING

    @property
    def holds(self) -> bool:
        return self.averages_itself and self.within_declared

    def told(self) -> str:
        """`width^(-1.02 ± 0.11)`, or that nothing scatters."""
        base = "width" if self.grows == "channels" else self.grows
        return "no scatter" if self.slope is None else f"{base}^({self.slope:+.2f} ± {self.interval:.2f})"


def rate_test(
    trial: Trial, draws: int = 64, factors: Sequence[int] = WIDTHS, advance: Callable[[], None] | None = None
) -> list[Rate]:
    """The rates of a component's second moments, forward and backward at every port.

    Every draw has new weights and a new input batch, so both kinds of chance count. Where the scatter does not fall at
    the required order and there are no weights, the test is repeated at widths `WIDER` times as large, or as much wider
    as `MOST_WEIGHTS` allow: heavy tails come late into their law. `advance` is called after each width.
    """
    found = _rates(trial, draws, factors, advance)
    if all(rate.averages_itself for rate in found) or catalog()[trial.component].weights:
        return found
    wider = _affordable(trial, max(factors))
    return _rates(trial, draws, [wider * factor for factor in factors], advance) if wider > 1 else found


def _affordable(trial: Trial, factor: int) -> int:
    """How much wider than `factor` a trial may become, at most `WIDER`."""
    grows = catalog()[trial.component].derivations["spectrum"].grows
    wider = WIDER
    while wider > 1 and _weights(network_of(grown(trial, wider * factor, grows))) > MOST_WEIGHTS:
        wider //= 2
    return wider


def _weights(network: Network) -> int:
    """How many numbers its dense layers draw: those that bring the input to the ports of a trial."""
    return sum(node.shapes_in[0].channels * node.shape.channels for node in network if node.weights)


def _rates(trial: Trial, draws: int, factors: Sequence[int], advance: Callable[[], None] | None) -> list[Rate]:
    grows = catalog()[trial.component].derivations["spectrum"].grows
    widths: list[int] = []
    benches: list[_Bench] = []
    for factor in factors:
        wide = grown(trial, factor, grows)
        widths.append(size(wide, grows))
        benches.append(_measured(wide, draws))
        if advance is not None:
            advance()
    if grows == "channels" and benches[0].outputs == benches[-1].outputs:
        return []  # the output does not widen (the scores of so many classes): there is nothing to average over
    keys = [key for key in benches[0].measured if all(key in other.measured for other in benches)]
    return [_fit(trial.component, key, widths, benches) for key in keys]


@dataclass
class _Bench:
    """Numbers of one width: quantity -> one entry a draw, averaged over positions, for every example."""

    network: Network
    structure: Prediction
    path: str
    measured: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    predicted: dict[str, list[float]] = field(default_factory=dict)
    declared: dict[str, float] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Channels of the tried component's output."""
        return self.network[self.path].shape.channels

    def take(self, seed: SeedStatistics) -> None:
        self._measure("second moment", seed.outputs[self.path].second_moment)
        for (at, port), gradient in seed.gradients.items():
            if at == self.path:
                self._measure(f"gradient at {port}", gradient)
        for effect in predict_locally(self.network, self.structure, seed):
            if effect.component == self.path and effect.quantity == "second_moment":
                self._predict(effect)

    def _measure(self, name: str, values: NDArray[np.float64]) -> None:
        flat = np.asarray(values, dtype=float)
        self.measured.setdefault(name, []).append(flat.reshape(len(flat), -1).mean(1))

    def _predict(self, effect: Effect) -> None:
        name = "second moment" if effect.direction == "forward" else f"gradient at {effect.port}"
        if effect.value is not None:
            self.predicted.setdefault(name, []).append(effect.value)
            self.declared[name] = max(self.declared.get(name, 0.0), effect.error)

    def error(self, name: str) -> tuple[float, float]:
        """Average relative error of the local prediction, and its standard error over draws."""
        measured = np.array([values.mean() for values in self.measured[name]])
        predicted = np.array(self.predicted.get(name, []))
        if len(predicted) != len(measured) or not np.all(np.isfinite(predicted)) or not predicted.mean() > 0:
            return 0.0, float("inf")
        differences = (measured - predicted) / predicted.mean()
        return float(differences.mean()), float(differences.std(ddof=1)) / sqrt(len(differences))


def _measured(trial: Trial, draws: int) -> _Bench:
    network = network_of(trial)
    bench = _Bench(network, propagate(network, input_signal(network), gradients=False), path_of(trial))
    for index in range(draws):
        measure(network, load_batch(network.input, index), 1, index, device="cpu", on_seed=bench.take, keep_seeds=False)
    gc.collect()  # fx graphs are cyclic, and their weights large: left alone they pile up by the gigabyte
    return bench


def _fit(component: str, quantity: str, widths: Sequence[int], benches: Sequence[_Bench]) -> Rate:
    variances = [_relative_variance(np.stack(bench.measured[quantity])) for bench in benches]
    values = tuple(value for value, _ in variances)
    slope = interval = None
    if max(values) > EXACT:
        slope, interval = _slope(widths, values, [error for _, error in variances])
    errors = [bench.error(quantity) for bench in benches]
    limit, limit_error = _limit(widths, errors)
    derivation = catalog()[component].derivations["spectrum"]
    return Rate(
        component,
        quantity,
        tuple(widths),
        values,
        slope,
        interval,
        tuple(error for error, _ in errors),
        tuple(se for _, se in errors),
        limit,
        limit_error,
        benches[-1].declared.get(quantity, 0.0),
        derivation.order,
        derivation.grows,
    )


def _slope(widths: Sequence[int], values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Weighted least squares of ln value on ln width: the slope and two standard errors of it."""
    x, y = np.log(np.array(widths, dtype=float)), np.log(np.maximum(values, EXACT))
    weight = 1 / np.maximum(np.array(errors), 1e-3) ** 2
    centre = np.sum(weight * x) / np.sum(weight)
    spread = float(np.sum(weight * (x - centre) ** 2))
    return float(np.sum(weight * (x - centre) * y)) / spread, 2 / sqrt(spread)


def _limit(widths: Sequence[int], errors: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """b of the fit b + a/width to the average errors, and its standard error; (0, inf) where nothing was predicted."""
    known = [
        (1 / width, error, max(se, ROUNDING / BEYOND_CHANCE)) for width, (error, se) in zip(widths, errors, strict=True)
    ]
    if not all(np.isfinite(se) for _, _, se in known):
        return 0.0, float("inf")
    x, y, se = (np.array(column) for column in zip(*known, strict=True))
    design = np.stack([np.ones_like(x), x], axis=1) / se[:, None]
    covariance = np.linalg.inv(design.T @ design)
    return float((covariance @ design.T @ (y / se))[0]), sqrt(float(covariance[0, 0]))


def _relative_variance(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Variance over mean squared over draws, at fixed example, averaged over examples; and its relative error.

    `sample`: `(draws, examples)`. Examples of one draw share its weights, so the error counts draws alone.
    """
    mean = sample.mean()
    if not (mean > 0 and np.isfinite(mean)):
        return 0.0, 1.0
    squares = (sample - sample.mean(0)) ** 2 / mean**2
    by_draw = squares.mean(1) * len(sample) / (len(sample) - 1)
    value = float(by_draw.mean())
    return value, float(by_draw.std(ddof=1)) / sqrt(len(sample)) / value if value > 0 else 1.0


__all__ = ["Rate", "rate_test"]
