"""One trial: a component on a Gaussian input, predicted, and measured over weight draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from lensnet.catalog.catalog import catalog
from lensnet.ladder.trial import Trial, all_trials, grid, network_of, path_of, trials
from lensnet.measure.ensemble import measure
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import SeedStatistics
from lensnet.predict.moments.local import predict_locally
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Effect
from lensnet.predicting import input_signal

__all__ = ["DRAWS", "Figure", "Trial", "all_trials", "figures", "grid", "network_of", "path_of", "trials"]

DRAWS = 4  # weight draws that share an input batch


@dataclass
class Figure:
    """One quantity of a trial: measured over predicted, as relative error with its standard error over weight draws.

    A mean is compared relative to the root mean square of its signal.
    """

    trial: Trial
    quantity: str
    direction: str
    port: str | None
    predicted: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    scale: float = 1.0
    declared: float = 0.0
    in_regime: bool = True
    component: str = ""

    def take(self, same: Sequence[Figure]) -> None:
        """Add the average of figures that share one input batch."""
        self.predicted.append(float(np.mean([f.predicted[0] for f in same])))
        self.measured.append(float(np.mean([f.measured[0] for f in same])))
        self.declared = max(self.declared, *(f.declared for f in same))
        self.in_regime &= all(f.in_regime for f in same)

    @property
    def error(self) -> float:
        return (np.mean(self.measured) - np.mean(self.predicted)) / self._reference

    @property
    def standard_error(self) -> float:
        differences = np.subtract(self.measured, self.predicted)
        return float(np.std(differences, ddof=1) / sqrt(len(differences)) / self._reference)

    @property
    def _reference(self) -> float:
        return self.scale if self.quantity == "mean" else max(abs(float(np.mean(self.predicted))), 1e-12)


def figures(trial: Trial, batches: int, first: int = 0, before: Sequence[Figure] = ()) -> list[Figure]:
    """Local predictions of the tried component beside its measurement, one pair of averages for every input batch.

    Every batch is new and meets `DRAWS` new weight draws (one when the component draws nothing). `before`: figures to
    go on with, made with the batches up to `first`.
    """
    network = network_of(trial)
    structure = propagate(network, input_signal(network), gradients=False)
    component = catalog()[trial.component]
    found = {(f.component, f.quantity, f.direction, f.port): f for f in before}
    random = bool(component.weights) or len(component.ports_in) > 1 or component.variadic or component.family == "noise"
    draws = DRAWS if random or component.is_fork or component.spec.body is not None else 1
    for batch in range(first, first + batches):
        together: list[list[Figure]] = []

        def take(seed: SeedStatistics, together: list[list[Figure]] = together) -> None:
            effects = predict_locally(network, structure, seed)
            together.append([_figure(trial, e, seed) for e in effects if _is_tried(trial, e)])

        measure(network, load_batch(network.input, batch), draws, batch * draws, device="cpu", on_seed=take)
        for same in zip(*together, strict=True):
            one = same[0]
            key = (one.component, one.quantity, one.direction, one.port)
            found.setdefault(key, replace_lists(one)).take(same)
    return list(found.values())


def _is_tried(trial: Trial, effect: Effect) -> bool:
    """The component itself, or a part of one that is made of components."""
    here = effect.component == path_of(trial) or effect.component.startswith("tried.")
    return here and effect.field is not None


def replace_lists(figure: Figure) -> Figure:
    return replace(figure, predicted=[], measured=[])


def _figure(trial: Trial, effect: Effect, seed: SeedStatistics) -> Figure:
    if effect.direction == "backward":
        values = seed.gradients[effect.component, str(effect.port)]
    else:
        values = getattr(seed.outputs[effect.component], effect.quantity)
    return Figure(
        trial,
        effect.quantity,
        effect.direction,
        effect.port,
        [float(effect.value or 0.0)],
        [float(np.mean(values))],
        sqrt(float(np.mean(seed.outputs[effect.component].second_moment))) or 1.0,
        effect.error,
        effect.status == "ok",
        effect.component,
    )
