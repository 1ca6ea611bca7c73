"""The main job for the steps of an algorithm: the same verbs as for layers, with the iterate as the signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lensnet.compare.comparison import Circumstances, report_on
from lensnet.compare.ensemble import Ensemble
from lensnet.compare.report import Report
from lensnet.compare.settings import Settings
from lensnet.levels.ladder import Level
from lensnet.measure.device import unit_roundoff
from lensnet.measure.ensemble import Progress
from lensnet.measure.errors import MeasureError
from lensnet.measure.statistics import Measurement, SeedStatistics
from lensnet.measure.steps.ensemble import measure_steps
from lensnet.network.graph import INPUT, Network
from lensnet.predict.engine import LevelError
from lensnet.predict.prediction import Prediction
from lensnet.predict.steps.propagate import averaged, objective_of, predict_steps_locally, propagate_steps
from lensnet.quantities.quantity import QUANTITIES

DTYPE = "float64"
"""Algorithms are followed over many decades of their loss, so they are measured in double precision."""


def predict(
    network: Network,
    settings: Settings | None = None,
    gradients: bool = True,
    levels: Sequence[Level] = (Level.MOMENTS,),
    rows: int = 0,
) -> Report:
    """The prediction alone, from the declared start. Steps have no way back: `gradients` and `rows` mean nothing."""
    how = Circumstances(levels=_levels(network, levels))
    return report_on(network, propagate_steps(network), None, how, settings)


def measure_only(
    network: Network,
    seeds: int = 8,
    levels: Sequence[Level] = (Level.MOMENTS,),
    backward: bool = True,
    rows: int = 0,
    dtype: str = DTYPE,
    **options: Any,
) -> Report:
    """The measurement alone; options as for `lensnet.measure.steps.ensemble.measure_steps`."""
    ensemble = Ensemble()
    chosen = _levels(network, levels)
    result = measure_steps(network, seeds, dtype=dtype, keep_seeds=False, on_seed=ensemble.add, **options)
    return report_on(network, None, ensemble, _circumstances([result], chosen))


def run(
    network: Network,
    seeds: int = 8,
    *,
    settings: Settings | None = None,
    device: str = "auto",
    dtype: str = DTYPE,
    backward: bool = True,
    first_seed: int = 0,
    most_seeds: int | None = None,
    progress: Progress | None = None,
    levels: Sequence[Level] = (Level.MOMENTS,),
    rows: int = 0,
    weights: object = None,
) -> Report:
    """Predict, measure, compare; rows left undecided get more seeds, up to `most_seeds`. See `lensnet.run.run`.

    Raises MeasureError for `weights`: steps have none.
    """
    if weights is not None:
        raise MeasureError(f"{network.name} is a stack of steps of an algorithm: it has no weights to be given")
    settings = settings or Settings()
    chosen = _levels(network, levels)
    rounding = unit_roundoff(dtype)
    through = propagate_steps(network, rounding)
    drawn = objective_of(network).drawn
    by_draw: list[Prediction] = []
    ensemble = Ensemble()

    def take(seed: SeedStatistics) -> None:
        if drawn:
            by_draw.append(propagate_steps(network, rounding, seed.states[INPUT]))
        local = predict_steps_locally(network, seed.states, rounding)
        ensemble.add(seed, local, by_draw[-1].effects if drawn else ())

    most = 4 * seeds if most_seeds is None else most_seeds
    results: list[Measurement] = []
    todo, start = seeds, first_seed
    while True:
        results.append(
            measure_steps(
                network, todo, start, device=device, dtype=dtype, keep_seeds=False, on_seed=take, progress=progress
            )
        )
        start += todo
        whole = averaged(by_draw) if by_draw else through
        report = report_on(network, whole, ensemble, _circumstances(results, chosen), settings)
        done, wanted = start - first_seed, report.seeds_within(most)
        if results[-1].interrupted or wanted is None or done >= most:
            return report
        todo = min(max(wanted - done, 1), most - done)


# An algorithm is told at one level, so there is none to descend to.
predict_down, run_down = predict, run


def _levels(network: Network, asked: Sequence[Level]) -> tuple[str, ...]:
    """The levels at which the objective has quantities, in the order of the ladder.

    Nobody predicts an algorithm at the level of moments, so asking for that (the default) asks for what there is.
    Raises LevelError when none of the levels asked for is among them.
    """
    there = {QUANTITIES[name].level for name in objective_of(network).quantities}
    wanted = there if tuple(asked) == (Level.MOMENTS,) else there & set(asked)
    if not wanted:
        told, known = " or ".join(map(str, asked)), ", ".join(str(level) for level in Level if level in there)
        raise LevelError(f"--level {told}: these steps are predicted at the level {known}")
    return tuple(str(level) for level in Level if level in wanted)


def _circumstances(results: Sequence[Measurement], levels: tuple[str, ...]) -> Circumstances:
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    last = results[-1]
    return Circumstances(last.device, last.dtype, 0, notes, any(r.interrupted for r in results), levels)


__all__ = ["measure_only", "predict", "predict_down", "run", "run_down"]
