"""What every level of the ladder below the moments offers: a prediction from the input, and one from a measured draw.

An engine sees the network, the input as it is, and what the levels above have said; it returns effects. The moments
level stands apart (`lensnet.predict.moments`), since every other level starts from its signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.ladder import Level
from lensnet.network.graph import Network
from lensnet.predict.moments.local import Observed
from lensnet.predict.prediction import Effect, Prediction
from lensnet.quantities.rows import DEFAULT_ROWS


class Draw(Observed, Protocol):
    """What one weight draw left behind, Gram matrices and numbers of lower levels included."""

    @property
    def grams(self) -> Mapping[str, NDArray[np.float64]]: ...
    @property
    def gradient_grams(self) -> Mapping[tuple[str, str], NDArray[np.float64]]: ...
    @property
    def scalars(self) -> Mapping[tuple[str, str, str, str | None], float]: ...


@dataclass(frozen=True)
class Source:
    """Where a prediction starts.

    `moments`: the propagated moments. `batch`: the actual input in torch layout, float64; None for an input that is
    known from its declaration alone. `rows`: most rows of a sample matrix. `dtype`: number format of the forward pass.
    `gradients`: whether the way back is wanted.
    """

    moments: Prediction
    batch: NDArray[np.float64] | None = None
    rows: int = DEFAULT_ROWS
    dtype: str = "float32"
    gradients: bool = True


@dataclass
class LevelPrediction:
    """All that one level says about a network: effects, notes for the report, its own states for the levels below."""

    level: Level
    effects: list[Effect] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    states: Mapping[str, Any] = field(default_factory=dict)


Above = Mapping[Level, LevelPrediction]


class LevelEngine(Protocol):
    """A level of the ladder. `needs`: levels whose predictions it builds on."""

    level: Level
    needs: tuple[Level, ...]

    def through(self, network: Network, source: Source, above: Above) -> LevelPrediction:
        """Predict every component from the network's input."""

    def local(
        self, network: Network, source: Source, through: LevelPrediction, above: Above, draw: Draw
    ) -> list[Effect]:
        """Predict every component from the statistics measured at its own ports in one weight draw."""


_ENGINES = {
    Level.KERNEL: ("lensnet.predict.kernel.engine", "KernelEngine"),
    Level.SPECTRUM: ("lensnet.predict.spectrum.engine", "SpectrumEngine"),
    Level.FLUCTUATION: ("lensnet.predict.fluctuation.engine", "FluctuationEngine"),
}


class LevelError(ValueError):
    """A level that was asked for and at which something cannot be predicted."""


def engine(level: Level) -> LevelEngine:
    """The engine of a level below the moments, imported when first asked for."""
    module, name = _ENGINES[level]
    made: LevelEngine = getattr(import_module(module), name)()
    return made


class Descent:
    """The levels asked for, and those that they build on, in the order of the ladder."""

    def __init__(self, network: Network, source: Source, levels: Sequence[Level]) -> None:
        self.network = network
        self.source = source
        self.wanted = [level for level in Level if level in levels]
        below = [level for level in Level if level in _ENGINES]
        chosen = {level for level in below if level in levels}
        self.engines: dict[Level, LevelEngine] = {}
        for level in reversed(below):
            if level in chosen:
                self.engines[level] = engine(level)
                chosen |= set(self.engines[level].needs)
        self.through: dict[Level, LevelPrediction] = {}
        for level in below:
            if level in self.engines:
                self.through[level] = self.engines[level].through(network, source, self.through)

    def on(self, examples: int) -> Descent:
        """The same for the first `examples` of the batch."""
        batch = self.source.batch
        if batch is None or len(batch) <= examples:
            return self
        return Descent(self.network, replace(self.source, batch=batch[:examples]), self.wanted)

    @property
    def effects(self) -> list[Effect]:
        """What the asked levels predict from the input."""
        below = [level for level in self.wanted if level in self.through]
        return [effect for level in below for effect in self.through[level].effects]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for prediction in self.through.values() for note in prediction.notes)

    def local(self, draw: Draw) -> list[Effect]:
        """What the asked levels predict from one measured draw."""
        out: list[Effect] = []
        for level in self.wanted:
            if level in self.engines:
                out += self.engines[level].local(self.network, self.source, self.through[level], self.through, draw)
        return out


__all__ = ["Above", "Descent", "Draw", "LevelEngine", "LevelPrediction", "Source", "engine"]
