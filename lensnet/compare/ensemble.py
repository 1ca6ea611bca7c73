"""Numbers gathered seed by seed: what was measured, and what was predicted from the same seed's own inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lensnet.compare.row import Assumption, Direction, View
from lensnet.quantities.quantity import OVER_DRAWS


class Key(NamedTuple):
    """Which number: a quantity of a component, forward at its output or backward at one of its input ports.

    `level`: at which level it was predicted. A measured number has none: it is the same whoever predicts it.
    """

    component: str
    quantity: str
    direction: Direction
    port: str | None
    level: str = "moments"

    @property
    def measured(self) -> Key:
        """The key of the number that was measured: what has a distribution over weight draws is a second moment."""
        if self.quantity in OVER_DRAWS:
            return self._replace(quantity="second_moment", level="moments")
        return self if self.level == "moments" else self._replace(level="moments")


class Statistics(Protocol):
    """One weight draw: see `lensnet.measure.statistics.SeedStatistics`."""

    seed: int
    nonfinite: list[str]

    @property
    def outputs(self) -> Mapping[str, Moments]: ...
    @property
    def gradients(self) -> Mapping[tuple[str, str], NDArray[np.float64]]: ...
    @property
    def invariant(self) -> Mapping[str, float]: ...
    @property
    def scalars(self) -> Mapping[tuple[str, str, str, str | None], float]: ...


class Moments(Protocol):
    """Fields over examples and positions."""

    @property
    def mean(self) -> NDArray[np.float64]: ...
    @property
    def second_moment(self) -> NDArray[np.float64]: ...


class Condition(Protocol):
    """An assumption with its margin: see `lensnet.predict.prediction.Check`."""

    @property
    def text(self) -> str: ...
    @property
    def margin(self) -> float | None: ...
    @property
    def below(self) -> str | None: ...


class Predicted(Protocol):
    """One predicted number: see `lensnet.predict.prediction.Effect`."""

    @property
    def component(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def port(self) -> str | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def error(self) -> float: ...
    @property
    def scatter(self) -> float: ...
    @property
    def checks(self) -> tuple[Condition, ...]: ...
    @property
    def status(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def band(self) -> tuple[float, float] | None: ...
    @property
    def floor(self) -> float | None: ...


def key_of(effect: Predicted) -> Key:
    return Key(effect.component, effect.quantity, effect.direction, effect.port, str(effect.level))


@dataclass
class _Local:
    """Local predictions of one key: seed -> value, and their assumptions over all seeds."""

    values: dict[int, float] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    margins: dict[str, list[float | None]] = field(default_factory=dict)
    below: dict[str, str | None] = field(default_factory=dict)
    doubts: int = 0


@dataclass
class Ensemble:
    """All scalars of a run, fed one weight draw at a time; no field and no tensor is kept.

    `measured[key][seed]`: average of the measured field. Inputs of the network are keyed as component `"input"`.
    """

    seeds: list[int] = field(default_factory=list)
    measured: dict[Key, dict[int, float]] = field(default_factory=dict)
    invariant: dict[str, dict[int, float]] = field(default_factory=dict)
    nonfinite: dict[int, list[str]] = field(default_factory=dict)
    _local: dict[Key, _Local] = field(default_factory=dict)
    _through: dict[Key, dict[int, float]] = field(default_factory=dict)
    _chance: dict[tuple[Key, View], list[float]] = field(default_factory=dict)

    def add(self, statistics: Statistics, local: Iterable[Predicted] = (), through: Iterable[Predicted] = ()) -> None:
        """Take in one weight draw and the predictions made from its own statistics.

        `through`: predictions of the whole way made for this draw alone, where it draws what goes in.
        Raises ValueError when the seed is already there: the same draw twice would fake a smaller error bar.
        """
        seed = statistics.seed
        if seed in self.seeds:
            raise ValueError(f"seed {seed} was measured twice")
        self.seeds.append(seed)
        for path, moments in statistics.outputs.items():
            self._measure(Key(path, "mean", "forward", None), seed, moments.mean)
            self._measure(Key(path, "second_moment", "forward", None), seed, moments.second_moment)
        for (path, port), gradient in statistics.gradients.items():
            self._measure(Key(path, "second_moment", "backward", port), seed, gradient)
        for (path, quantity, direction, at), value in statistics.scalars.items():
            key = Key(path, quantity, "forward" if direction == "forward" else "backward", at)
            self.measured.setdefault(key, {})[seed] = float(value)
        for path, value in statistics.invariant.items():
            self.invariant.setdefault(path, {})[seed] = float(value)
        if statistics.nonfinite:
            self.nonfinite[seed] = list(statistics.nonfinite)
        for effect in local:
            self._predict(effect, seed)
        for effect in through:
            if effect.value is not None:
                self._through.setdefault(key_of(effect), {})[seed] = effect.value

    def add_chance(self, key: Key, view: View, value: float, expected: float | None = None) -> None:
        """What weights drawn by chance give, where the measured ones are one draw: `value`, and what was predicted of
        it (None: the same in every draw)."""
        apart = value - (expected or 0.0) if key.quantity == "mean" else _ratio(value, expected)
        if np.isfinite(apart):
            self._chance.setdefault((key, view), []).append(apart)

    def chance(self, key: Key, view: View) -> float:
        """Standard deviation over draws of the weights by which one draw misses its expectation: of a mean absolute,
        of all else relative (of the logarithm). 0 where every seed is a draw, since seeds show it themselves."""
        found = self._chance.get((key.measured, view), ())
        return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0

    def _measure(self, key: Key, seed: int, values: NDArray[np.float64]) -> None:
        with np.errstate(all="ignore"):
            self.measured.setdefault(key, {})[seed] = float(np.mean(values)) if np.size(values) else float("nan")

    def _predict(self, effect: Predicted, seed: int) -> None:
        value = effect.value
        if value is None:
            return
        local = self._local.setdefault(key_of(effect), _Local())
        local.values[seed] = value
        local.errors.append(effect.error)
        if effect.floor is not None:
            local.floors.append(effect.floor)
        local.doubts += effect.status == "out-of-regime"
        for check in effect.checks:
            local.margins.setdefault(check.text, []).append(check.margin)
            local.below[check.text] = check.below

    def pairs(self, key: Key) -> tuple[list[float], list[float]]:
        """(measured, locally predicted), one number each per seed that has both."""
        return self._both(key, self._local.get(key, _Local()).values)

    def through_pairs(self, key: Key) -> tuple[list[float], list[float]]:
        """(measured, predicted for the draw), one number each per seed that has both."""
        return self._both(key, self._through.get(key, {}))

    def _both(self, key: Key, predicted: Mapping[int, float]) -> tuple[list[float], list[float]]:
        measured = self.measured.get(key.measured, {})
        both = [seed for seed in self.seeds if seed in measured and seed in predicted]
        return [measured[seed] for seed in both], [predicted[seed] for seed in both]

    def values(self, key: Key) -> list[float]:
        """One measured number per seed, in the order of the seeds."""
        if not self.seeds:
            return []
        measured = self.measured.get(key.measured, {})
        return [measured[seed] for seed in self.seeds if seed in measured]

    def typical(self, key: Key) -> float | None:
        """Median over the seeds of the measured numbers that are finite; None when there are none."""
        finite = [value for value in self.values(key) if np.isfinite(value)]
        return float(np.median(finite)) if finite else None

    def declared_error(self, key: Key) -> float:
        """Relative error that the local formula declares (the largest over the seeds)."""
        return max(self._local[key].errors, default=0.0) if key in self._local else 0.0

    def declared_floor(self, key: Key) -> float | None:
        """Absolute error that the local formula declares (the largest over the seeds); None where it declares none."""
        return max(self._local[key].floors, default=None) if key in self._local else None

    def assumptions(self, key: Key) -> tuple[Assumption, ...]:
        """Of the local predictions, each with its median margin over the seeds."""
        local = self._local.get(key)
        if local is None:
            return ()
        out = [Assumption(text, _median(margins), local.below[text]) for text, margins in local.margins.items()]
        return certain(out, 2 * local.doubts > len(local.values))


def certain(assumptions: Iterable[Assumption], doubtful: bool) -> tuple[Assumption, ...]:
    """The assumptions, with one more that fails when the prediction is in doubt and none of them says why."""
    out = tuple(assumptions)
    if doubtful and not any(assumption.fails for assumption in out):
        return (*out, Assumption("the effect model holds here (it says that it does not)", -1.0))
    return out


def _ratio(value: float, expected: float | None) -> float:
    """ln(value/expected), the unit of what is positive."""
    unit = 1.0 if expected is None else expected
    return float(np.log(value / unit)) if value > 0 and unit > 0 else float("nan")


def _median(margins: Iterable[float | None]) -> float | None:
    """NaN counts as a failure; None (true by construction) stays None."""
    known = [-inf if margin != margin else margin for margin in margins if margin is not None]
    return float(np.median(known)) if known else None
