"""The main job: predict, measure, and put one beside the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from lensnet.compare.comparison import Circumstances, report_on
from lensnet.compare.ensemble import Ensemble
from lensnet.compare.report import Report
from lensnet.compare.settings import Settings
from lensnet.levels.signal import Field, Law, Signal
from lensnet.measure.ensemble import Progress, measure
from lensnet.measure.fields import channel_mean, channel_product
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import Measurement, SeedStatistics
from lensnet.network.graph import INPUT, InputSource, Network
from lensnet.predict.moments.local import predict_locally
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Prediction


def predict(network: Network, settings: Settings | None = None, gradients: bool = True) -> Report:
    """The prediction alone, from the declared input or the moments of the actual batch; no forward pass."""
    return report_on(network, propagate(network, input_signal(network), gradients=gradients), None, None, settings)


def measure_only(network: Network, seeds: int = 8, **options: object) -> Report:
    """The measurement alone; options as for `lensnet.measure.ensemble.measure`."""
    ensemble = Ensemble()
    batch = load_batch(network.input)
    result = measure(network, batch, seeds, on_seed=lambda seed: ensemble.add(seed), **options)  # type: ignore[arg-type]
    return report_on(network, None, ensemble, _circumstances([result]))


def run(
    network: Network,
    seeds: int = 8,
    *,
    settings: Settings | None = None,
    device: str = "auto",
    dtype: str = "float32",
    backward: bool = True,
    first_seed: int = 0,
    most_seeds: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Predict, measure, compare; rows left undecided get more seeds, up to `most_seeds`."""
    settings = settings or Settings()
    batch = load_batch(network.input)
    most = 4 * seeds if most_seeds is None else most_seeds
    bench = _Bench(network, propagate(network, input_signal(network, batch), gradients=False))
    results: list[Measurement] = []
    todo, start = seeds, first_seed
    while True:
        result = measure(
            network, batch, todo, start, device=device, dtype=dtype, backward=backward,
            on_seed=bench.take, progress=progress,
        )  # fmt: skip
        results.append(result)
        start += todo
        report = bench.report(results, settings, backward)
        done, wanted = start - first_seed, report.seeds_within(most)
        if result.interrupted or wanted is None or done >= most:
            return report
        batch = batch[: result.batch]
        todo = min(max(wanted - done, 1), most - done)


@dataclass
class _Bench:
    """Gathers the seeds: their scalars beside the local predictions, and running means of what `through` takes over."""

    network: Network
    structure: Prediction
    ensemble: Ensemble = field(default_factory=Ensemble)
    sides: dict[tuple[str, str, str], Field] = field(default_factory=dict)
    outputs: dict[str, tuple[Field, Field]] = field(default_factory=dict)
    input: Signal | None = None

    def take(self, seed: SeedStatistics) -> None:
        if seed.seed in self.ensemble.seeds:  # the batch was halved and the seeds are measured again
            self.ensemble, self.sides, self.outputs = Ensemble(), {}, {}
        self.ensemble.add(seed, predict_locally(self.network, self.structure, seed))
        count = len(self.ensemble.seeds)
        for key, value in seed.side.items():
            self.sides[key] = _running(self.sides.get(key), value, count)
        for effect in self.structure.effects:
            path = effect.component
            if effect.status == "not-modelled" and path in seed.outputs:
                here = seed.outputs[path]
                before = self.outputs.get(path, (None, None))
                self.outputs[path] = (
                    _running(before[0], here.mean, count),
                    _running(before[1], here.second_moment, count),
                )

    def report(self, results: list[Measurement], settings: Settings, gradients: bool) -> Report:
        measured = {path: Signal(mean, second) for path, (mean, second) in self.outputs.items()}
        signal = self.structure.signals[INPUT]
        examples = results[-1].batch
        if signal.mean.shape[0] > examples:
            signal = Signal(signal.mean[:examples], signal.second_moment[:examples], signal.law, signal.side)
        through = propagate(self.network, signal, self.sides, measured, gradients)
        return report_on(self.network, through, self.ensemble, _circumstances(results), settings)


def _running(before: Field | None, value: Field, count: int) -> Field:
    value = np.asarray(value, dtype=float)
    return value if before is None or count == 1 else before + (value - before) / count


def _circumstances(results: list[Measurement]) -> Circumstances:
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    last = results[-1]
    return Circumstances(last.device, last.dtype, last.batch, notes, any(result.interrupted for result in results))


def input_signal(network: Network, batch: Tensor | None = None) -> Signal:
    """The signal at the network's input.

    Gaussian inputs are known from their declaration alone (one typical example); of anything else the moments of the
    actual batch (loaded when not given) are taken, per example and position.
    """
    source, shape = network.input, network.input.shape
    if shape.kind == "ids":
        blank = np.full((1, *shape.positions), np.nan)
        return Signal(blank, blank)
    if source.source == "gaussian":
        return _gaussian_signal(source)
    batch = load_batch(source) if batch is None else batch
    mean, second = channel_mean(batch, shape), channel_product(batch, batch, shape)
    return Signal(np.asarray(mean, dtype=float), np.asarray(second, dtype=float))


def _gaussian_signal(source: InputSource) -> Signal:
    """One typical example; the declared correlations go along as side quantities for the first component."""
    options: Mapping[str, object] = source.options
    mean, std = float(str(options.get("mean", 0.0))), float(str(options.get("std", 1.0)))
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


__all__ = ["input_signal", "measure_only", "predict", "run"]
