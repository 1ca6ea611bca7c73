"""The main job: measure, and put the prediction beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensnet.compare.climb import climb, needs_descent
from lensnet.compare.comparison import Circumstances, report_on
from lensnet.compare.ensemble import Ensemble, key_of
from lensnet.compare.report import Report
from lensnet.compare.settings import Settings
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Signal
from lensnet.measure.construction import Weights, is_made_from_data
from lensnet.measure.ensemble import Progress, measure
from lensnet.measure.sources import load_batch
from lensnet.measure.statistics import Measurement, SeedStatistics, Shuffled
from lensnet.network.graph import INPUT, Network
from lensnet.predict.engine import Descent
from lensnet.predict.labelled_rates import labelled_effects
from lensnet.predict.moments.local import predict_locally
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.own_effects import has_own, own_effects, own_quantities
from lensnet.predict.prediction import Effect, Prediction
from lensnet.predicting import BELOW, descend, input_signal, joined, names_of
from lensnet.quantities.rows import DEFAULT_ROWS


def measure_only(
    network: Network, seeds: int = 8, levels: Sequence[Level] = (Level.MOMENTS,), **options: object
) -> Report:
    """The measurement alone; options as for `lensnet.measure.ensemble.measure`."""
    ensemble = Ensemble()
    batch = load_batch(network.input, dtype=torch.float64)
    options["dtype"] = _precision(network, str(options.get("dtype", "float32")))
    result = measure(network, batch, seeds, on_seed=ensemble.add, levels=levels, **options)  # type: ignore[arg-type]
    return report_on(network, None, ensemble, replace(_circumstances([result]), levels=_shown(network, levels)))


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
    levels: Sequence[Level] = (Level.MOMENTS,),
    rows: int = DEFAULT_ROWS,
    weights: Weights | None = None,
    batch: Tensor | None = None,
    measure: Callable[..., Measurement] = measure,
) -> Report:
    """Predict, measure, compare; rows left undecided get more seeds, up to `most_seeds`.

    `levels`: those of the ladder that the report has rows of. `rows`: most rows of the sample matrices whose Gram
    matrices the levels below the moments look at. `weights`: tensors of a constructed network. A network that is made
    from data is measured in float64. `batch`: the input in place of the declared one. `measure`: what runs the forward
    and backward passes; a model that was imported brings its own.
    """
    settings = settings or Settings()
    dtype = _precision(network, dtype)
    if batch is None:
        batch = load_batch(network.input, dtype=torch.float64 if dtype == "float64" else torch.float32)
    most = 4 * seeds if most_seeds is None else most_seeds
    structure = propagate(network, input_signal(network, batch), gradients=False)
    bench = _Bench(network, structure, tuple(levels), descend(network, structure, batch, levels, rows, dtype, backward))
    results: list[Measurement] = []
    todo, start = seeds, first_seed
    while True:
        result = measure(
            network, batch, todo, start, device=device, dtype=dtype, backward=backward,
            on_seed=bench.take, progress=progress, levels=levels, rows=rows, weights=weights,
        )  # fmt: skip
        results.append(result)
        start += todo
        report = bench.report(results, settings, backward)
        done, wanted = start - first_seed, report.seeds_within(most)
        if result.interrupted or wanted is None or done >= most:
            return report
        batch = batch[: result.batch]
        todo = min(max(wanted - done, 1), most - done)


def run_down(network: Network, seeds: int = 8, *, progress: Progress | None = None, **options: Any) -> Report:
    """`run` from the cheapest level down: the levels below are asked only where a number of the moments does not hold.

    Of every number the report keeps the cheapest level that holds, and findings say what a lower level explains.
    Options as for `run`, without `levels`.
    """
    first = run(network, seeds, progress=progress, **options)
    if not needs_descent(first) or any(finding.kind == "interrupted" for finding in first.findings):
        return first
    options |= {"levels": (Level.MOMENTS, *BELOW), "most_seeds": first.seeds}
    return climb(run(network, first.seeds, progress=progress, **options), own_quantities(network))


@dataclass
class _Bench:
    """Gathers the seeds: their scalars beside the local predictions, and running means of what `through` takes over."""

    network: Network
    structure: Prediction
    levels: tuple[Level, ...]
    descent: Descent
    ensemble: Ensemble = field(default_factory=Ensemble)
    sides: dict[tuple[str, str, str], Field] = field(default_factory=dict)
    outputs: dict[str, tuple[Field, Field]] = field(default_factory=dict)
    input: Signal | None = None

    def take(self, seed: SeedStatistics) -> None:
        if seed.seed in self.ensemble.seeds:  # the batch was halved and the seeds are measured again
            self.ensemble, self.sides, self.outputs = Ensemble(), {}, {}
        examples = next(iter(seed.outputs.values())).mean.shape[0]
        if examples < self.network.input.batch:  # memory ended: formulas count the examples that are there
            self.network = self.network.with_batch(examples)
            self.descent = self.descent.on(examples)
        local = predict_locally(self.network, self.structure, seed)
        own = own_effects(self.network, seed.side, through=False) + labelled_effects(self.network, seed)
        self.ensemble.add(seed, [*local, *self.descent.local(seed), *own])
        if seed.shuffled is not None:
            self._take_chance(local, seed.shuffled)
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

    def _take_chance(self, local: Sequence[Effect], shuffled: Shuffled) -> None:
        """How far weights that have learned nothing miss the prediction: alone in their component, and all of them."""
        for effect in local:
            key = key_of(effect)
            if key.direction == "forward" and key[:2] in shuffled.alone:
                self.ensemble.add_chance(key, "local", shuffled.alone[key[:2]], effect.value)
        whole = Ensemble()
        whole.add(shuffled.whole, predict_locally(self.network, self.structure, shuffled.whole))
        for key in whole.measured:
            measured, expected = whole.pairs(key)
            if measured and (key.direction == "backward" or key[:2] not in shuffled.alone):
                self.ensemble.add_chance(key, "local", measured[0], expected[0])
            self.ensemble.add_chance(key, "through", whole.values(key)[0])

    def report(self, results: list[Measurement], settings: Settings, gradients: bool) -> Report:
        measured = {path: Signal(mean, second) for path, (mean, second) in self.outputs.items()}
        signal = self.structure.signals[INPUT]
        examples = results[-1].batch
        if signal.mean.shape[0] > examples:
            signal = Signal(signal.mean[:examples], signal.second_moment[:examples], signal.law, signal.side)
        through = propagate(self.network, signal, self.sides, measured, gradients)
        through.effects += own_effects(self.network, self.sides, through=True)
        how = replace(_circumstances(results), levels=_shown(self.network, self.levels))
        how = replace(how, notes=(*how.notes, *self.descent.notes))
        return report_on(self.network, joined(through, self.descent), self.ensemble, how, settings)


def _precision(network: Network, dtype: str) -> str:
    """Rates differ in digits that float32 does not have."""
    return "float64" if dtype == "float32" and is_made_from_data(network) else dtype


def _shown(network: Network, levels: Collection[Level]) -> tuple[str, ...]:
    """The levels of the report: those asked for, and that of the quantities that components bring themselves."""
    return names_of({*levels, Level.SPECTRUM} if any(map(has_own, network)) else levels)


def _running(before: Field | None, value: Field, count: int) -> Field:
    value = np.asarray(value, dtype=float)
    return value if before is None or count == 1 else before + (value - before) / count


def _circumstances(results: list[Measurement]) -> Circumstances:
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    last = results[-1]
    return Circumstances(last.device, last.dtype, last.batch, notes, any(result.interrupted for result in results))


__all__ = ["measure_only", "run", "run_down"]
