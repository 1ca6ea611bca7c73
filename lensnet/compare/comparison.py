"""From a prediction and an ensemble of weight draws to the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from typing import Protocol

import numpy as np

from lensnet.compare.budget import Through, budget
from lensnet.compare.contrast import Pair
from lensnet.compare.coverage import coverage
from lensnet.compare.ensemble import Ensemble, Key, Moments, Predicted, Statistics, certain, key_of
from lensnet.compare.findings import (
    Finding,
    dead_findings,
    gate_findings,
    invariant_findings,
    nonfinite_findings,
    range_findings,
)
from lensnet.compare.keys import keys_by_component, scale_of
from lensnet.compare.places import depth_from_input, depth_from_output
from lensnet.compare.report import Kind, Report
from lensnet.compare.row import Assumption, Row
from lensnet.compare.settings import Settings
from lensnet.compare.verdict import judge, unmeasured
from lensnet.network.graph import INPUT, Network, Node
from lensnet.quantities.quantity import OF_THE_WHOLE_WAY, OVER_DRAWS


class Propagated(Protocol):
    """A prediction from the network's input: see `lensnet.predict.prediction.Prediction`."""

    @property
    def effects(self) -> Sequence[Predicted]: ...
    @property
    def signals(self) -> Mapping[str, Moments]: ...


class Measured(Protocol):
    """An ensemble of weight draws: see `lensnet.measure.statistics.Measurement`."""

    @property
    def seeds(self) -> Sequence[Statistics]: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def interrupted(self) -> bool: ...


@dataclass(frozen=True)
class Circumstances:
    """How the measurement was made, for the head of the report."""

    device: str = ""
    dtype: str = ""
    batch: int = 0
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    levels: tuple[str, ...] = ("moments",)


def compare(
    network: Network,
    through: Propagated | None,
    local_by_seed: Mapping[int, Iterable[Predicted]],
    measurement: Measured,
    settings: Settings | None = None,
) -> Report:
    """Everything at once: the propagated prediction, the local predictions by seed, and the measurement.

    A long run feeds an `Ensemble` seed by seed instead and calls `report_on`, so that no field is kept.
    """
    ensemble = Ensemble()
    for statistics in measurement.seeds:
        ensemble.add(statistics, local_by_seed.get(statistics.seed, ()))
    circumstances = Circumstances(
        measurement.device,
        measurement.dtype,
        measurement.batch,
        tuple(measurement.notes),
        measurement.interrupted,
    )
    return report_on(network, through, ensemble, circumstances, settings)


def report_on(
    network: Network,
    through: Propagated | None = None,
    ensemble: Ensemble | None = None,
    circumstances: Circumstances | None = None,
    settings: Settings | None = None,
) -> Report:
    """The report on what is there: a prediction alone, a measurement alone, or both side by side."""
    ensemble = ensemble or Ensemble()
    settings = settings or Settings()
    how = circumstances or Circumstances()
    effects = {key_of(effect): effect for effect in through.effects} if through else {}
    values = {key: value for key, effect in effects.items() if (value := _value(effect)) is not None}
    if through and INPUT in through.signals:
        source = through.signals[INPUT]
        for quantity, numbers in (("mean", source.mean), ("second_moment", source.second_moment)):
            if np.all(np.isfinite(numbers)):
                values[Key(INPUT, quantity, "forward", None)] = float(np.mean(numbers))
    rows = tuple(row for level in how.levels for row in _rows(network, effects, ensemble, settings, level))
    scatter = {key: effect.scatter for key, effect in effects.items()}
    kind: Kind = "comparison" if through and ensemble.seeds else ("prediction" if through else "measurement")
    broken = {path for paths in ensemble.nonfinite.values() for path in paths}
    return Report(
        network=network.name,
        about=network.about,
        kind=kind,
        device=how.device,
        dtype=how.dtype,
        batch=how.batch or network.input.batch,
        seeds=len(ensemble.seeds),
        levels=how.levels,
        rows=rows,
        budget=tuple(budget(network, ensemble, Through(values, scatter))),
        coverage=coverage([node.path for node in network], rows, broken),
        findings=tuple(_findings(network, values, ensemble, how)),
        settings=settings,
    )


def _findings(network: Network, values: dict[Key, float], ensemble: Ensemble, how: Circumstances) -> Iterator[Finding]:
    if how.interrupted:
        text = f"interrupted: the report holds the {len(ensemble.seeds)} seeds that were finished"
        yield Finding("interrupted", "doubt", text)
    yield from nonfinite_findings(ensemble)
    yield from gate_findings(network.gates, ensemble, values)
    yield from invariant_findings(network, ensemble, how.batch or network.input.batch)
    yield from dead_findings(ensemble)
    yield from range_findings(network, ensemble, values)
    for note in how.notes:
        if how.interrupted and note.startswith("interrupted"):
            continue  # said already
        yield Finding("note", "note", note)


def _rows(
    network: Network, effects: Mapping[Key, Predicted], ensemble: Ensemble, settings: Settings, level: str
) -> Iterator[Row]:
    """The rows of one level, component by component."""
    asked = keys_by_component(network, effects, ensemble, level)
    if not ensemble.seeds:
        yield from (
            _predicted_row(node, key, effects[key]) for node in network for key in asked[node.path] if key in effects
        )
        return
    before, behind = depth_from_input(network), depth_from_output(network)
    scatter = _known_scatter(effects)
    for node in network:
        for key in asked[node.path]:
            effect, values = effects.get(key), ensemble.values(key)
            if effect is None and not values:
                continue
            depth = before[node.path] if key.direction == "forward" else behind[node.path]
            size = _size(network, node, key, ensemble, effects)
            if level != "fluctuation" and key.quantity not in OF_THE_WHOLE_WAY:
                yield _local_row(node, key, ensemble, size, settings)
            paired = ensemble.through_pairs(key)
            chance = ensemble.chance(key, "through")
            yield _through_row(
                node, key, effect, values, size, depth, settings, scatter.get(key.measured), paired, chance
            )


def _predicted_row(node: Node, key: Key, effect: Predicted) -> Row:
    """Where nothing was measured there is nothing to judge."""
    predicted, assumptions = _value(effect), _assumptions(effect)
    result = unmeasured(predicted, any(assumption.fails for assumption in assumptions))
    return Row(
        node.path, node.kind, key.quantity, key.direction, key.level, "through", predicted, None, None, None, None,
        None, None, assumptions, result.verdict, key.port, result.functional, declared=effect.error, band=effect.band,
    )  # fmt: skip


def _assumptions(effect: Predicted) -> tuple[Assumption, ...]:
    checks = [Assumption(check.text, check.margin, check.below) for check in effect.checks]
    return certain(checks, effect.status == "out-of-regime")


def _known_scatter(effects: Mapping[Key, Predicted]) -> dict[Key, float]:
    """Variance over weight draws of the logarithm of measured numbers, as far as the fluctuation level knows it."""
    return {
        key.measured: effect.scatter
        for key, effect in effects.items()
        if key.quantity == "scatter" and effect.status == "ok"
    }


def _local_row(node: Node, key: Key, ensemble: Ensemble, size: float, settings: Settings) -> Row:
    measured, local = ensemble.pairs(key)
    modelled = bool(local) or not ensemble.values(key)
    pair = Pair(
        predicted=None,
        measured=measured if modelled else ensemble.values(key),
        local=local if modelled else None,
        scale=scale_of(key.quantity),
        size=size,
        declared=ensemble.declared_error(key),
        assumptions=ensemble.assumptions(key),
        floor=ensemble.declared_floor(key),
        chance=ensemble.chance(key, "local"),
    )
    return _row(node, key, "local", pair, settings)


def _through_row(
    node: Node,
    key: Key,
    effect: Predicted | None,
    values: Sequence[float],
    size: float,
    depth: int,
    settings: Settings,
    scatter: float | None,
    paired: tuple[Sequence[float], Sequence[float]] = ((), ()),
    chance: float = 0.0,
) -> Row:
    """`paired`: measured and predicted draw by draw, where each draw has a prediction of the whole way of its own."""
    pair = Pair(
        predicted=None if effect is None else _value(effect),
        measured=paired[0] or values,
        local=paired[1] or None,
        scale=scale_of(key.quantity),
        size=size,
        declared=0.0 if effect is None else effect.error,
        scatter=scatter if scatter is not None or effect is None else effect.scatter,
        depth=depth,
        assumptions=() if effect is None else _assumptions(effect),
        certain=scatter is not None,
        over=key.quantity if key.quantity in OVER_DRAWS else None,
        band=None if effect is None else effect.band,
        floor=None if effect is None else effect.floor,
        chance=chance,
    )
    return _row(node, key, "through", pair, settings)


def _row(node: Node, key: Key, view: str, pair: Pair, settings: Settings) -> Row:
    result = judge(pair, settings)
    return Row(
        component=node.path,
        kind=node.kind,
        quantity=key.quantity,
        direction=key.direction,
        level=key.level,
        view="local" if view == "local" else "through",
        predicted=result.predicted,
        measured=result.measured,
        standard_error=result.standard_error,
        median=result.median,
        tolerance=result.tolerance,
        error=result.error,
        slack=result.slack,
        assumptions=pair.assumptions,
        verdict=result.verdict,
        port=key.port,
        functional=result.functional,
        per_seed=tuple(pair.measured),
        seeds_wanted=result.seeds_wanted,
        declared=pair.declared,
        band=pair.band,
    )


def _size(network: Network, node: Node, key: Key, ensemble: Ensemble, effects: Mapping[Key, Predicted]) -> float:
    """Magnitude that the absolute tolerance of a row is relative to, measured where possible."""

    def known(other: Key) -> float:
        value = ensemble.typical(other)
        if value is None and other in effects:
            value = _value(effects[other])
        return value or 0.0

    if key.quantity not in ("mean", "second_moment"):
        return 1.0
    if key.quantity == "mean":
        return sqrt(known(Key(node.path, "second_moment", "forward", None)))
    if key.direction == "forward":
        return max(known(Key(producer, "second_moment", "forward", None)) for producer in node.inputs)
    uses = [(user.path, port) for user, port in network.consumers(node.path)]
    if not uses:
        return 1.0
    return max(known(Key(path, "second_moment", "backward", port)) for path, port in uses)


def _value(effect: Predicted) -> float | None:
    """A NaN prediction says nothing: it stands behind a component without a model."""
    value = effect.value
    return None if value is None or isnan(value) else value
