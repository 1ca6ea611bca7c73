"""The fluctuation level: not one number per component but its distribution over weight draws.

For every output q (average over the batch, positions and channels) and every gradient p:

    median        the typical value, with the band that holds 90 % of the weight draws
    scatter       standard deviation of ln q over weight draws
    band          the share of weight draws inside the band: 0.9
    second_moment the mean over weight draws with its 1/width correction, where it differs from the infinite width
    rounding      relative rms error of the output in the number format of the forward pass

The size at infinite width is the kernel level's where that has been worked out, else the moments'.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Literal

import numpy as np

from lensnet.levels.ladder import Level
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape
from lensnet.predict.engine import Above, Draw, LevelPrediction, Source
from lensnet.predict.fluctuation.backward import Backward
from lensnet.predict.fluctuation.forward import Forward
from lensnet.predict.fluctuation.log_law import LogLaw
from lensnet.predict.fluctuation.pairs import ONE_ROW, UNKNOWN, RowPairs, pairs_of
from lensnet.predict.fluctuation.response import FORGOTTEN, Response, Sources
from lensnet.predict.fluctuation.rounding import rounding_effects
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Check, Effect, Prediction, Status
from lensnet.predict.scatter import DRAWS_FOLLOW
from lensnet.quantities.rows import row_sample

SHARE = 0.9
"""Of the weight draws inside the band."""
BENT = 0.5
"""Largest relative change of an elasticity within one standard deviation that a linear response may have."""
INDEPENDENT = 0.1
"""Declared error of a median per unit of variance that the rows do not share: it is taken as independent between them,
and log-normal."""
SAME = 1e-4
"""Relative correction of the mean below which it gets no row of its own."""


class FluctuationEngine:
    """See the module. What the network is made of comes from the moments, how alike its rows are from the kernel."""

    level = Level.FLUCTUATION
    needs: tuple[Level, ...] = (Level.KERNEL,)

    def through(self, network: Network, source: Source, above: Above) -> LevelPrediction:
        """The distribution at every output and, with `source.gradients`, of the gradient at every input port."""
        moments = source.moments
        if source.gradients and not moments.gradients:
            moments = propagate(network, moments.signals[INPUT])
        kernel = above.get(Level.KERNEL)
        rows = _Rows(network, source, kernel)
        sources = Sources(2 + sum(4 + len(node.ports) for node in network))
        forward = Forward(network, moments.signals, rows.pairs, sources, _head_start(moments, kernel, source))
        base = _Base(moments, kernel)
        out = LevelPrediction(Level.FLUCTUATION)
        for node in network:
            response = forward.responses[node.path]
            law = sources.law(response, rows.count(node.shape))
            apart = sources.apart(response, rows.count(node.shape))
            out.effects += _effects(node, None, base, law, response, apart)
        out.effects += rounding_effects(network, forward, base.forward(), source.dtype)
        if source.gradients:
            backward = Backward(network, forward, moments.gradients)
            for (path, port), gradient in backward.responses.items():
                if path in network:
                    node = network[path]
                    count = rows.count(node.shapes_in[node.ports.index(port)])
                    law, apart = sources.law(gradient.response, count), sources.apart(gradient.response, count)
                    out.effects += _effects(node, port, base, law, gradient.response, apart)
        return out

    def local(
        self, network: Network, source: Source, through: LevelPrediction, above: Above, draw: Draw
    ) -> list[Effect]:
        """Nothing: a distribution over weight draws cannot be seen in one of them."""
        return []


class _Rows:
    """How alike the rows of the batch are at every output, from the kernel level."""

    def __init__(self, network: Network, source: Source, kernel: LevelPrediction | None) -> None:
        self.network = network
        self.rows = source.rows
        self.examples = network.input.batch if source.batch is None else len(source.batch)
        self.states = kernel.states if kernel else {}
        self._found: dict[str, RowPairs] = {}

    def pairs(self, path: str) -> RowPairs:
        if path not in self._found:
            self._found[path] = self._pairs(path)
        return self._found[path]

    def count(self, shape: Shape) -> int:
        """Rows of the batch at an edge of this shape."""
        return self.examples * shape.position_count

    def _pairs(self, path: str) -> RowPairs:
        shape = self.network.input.shape if path == INPUT else self.network[path].shape
        examples, positions = self.examples, shape.position_count
        if examples * positions == 1:
            return ONE_ROW
        state = self.states.get(path)
        followed = examples if state is None else min(examples, state.layout.examples)  # pairs of some stand for all
        sample = row_sample(followed, shape.positions, self.rows)
        gram = None if state is None else state.rows_gram(sample)
        if gram is None or not np.all(np.isfinite(gram)):
            return UNKNOWN
        return pairs_of(np.asarray(gram), examples, positions, len(sample.places))


@dataclass
class _Base:
    """The sizes at infinite width, with what they assume: the kernel level's, else those of the moments."""

    moments: Prediction
    kernel: LevelPrediction | None

    def __post_init__(self) -> None:
        self._known: dict[tuple[str, str | None], Effect] = {}
        for effect in [*self.moments.effects, *(self.kernel.effects if self.kernel else [])]:
            if effect.quantity != "second_moment":
                continue
            key = (effect.component, effect.port)
            if key not in self._known or (effect.status == "ok" and effect.value is not None):
                self._known[key] = effect

    def forward(self) -> dict[str, Effect]:
        """Of every output, by path."""
        return {path: effect for (path, port), effect in self._known.items() if port is None}

    def at(self, path: str, port: str | None) -> Effect | None:
        return self._known.get((path, port))


def _head_start(moments: Prediction, kernel: LevelPrediction | None, source: Source) -> float:
    """ln of the batch's own second moment over the declared one: a batch of Gaussian examples is itself a draw."""
    if source.batch is None:
        return 0.0
    start = kernel.states.get(INPUT) if kernel else None
    known = moments.signals[INPUT].second_moment if start is None else start.second_moment
    declared, actual = float(np.mean(known)), float(np.mean(source.batch**2))
    return log(actual / declared) if declared > 0 and actual > 0 else 0.0


def _effects(node: Node, port: str | None, base: _Base, law: LogLaw, response: Response, apart: float) -> list[Effect]:
    direction: Literal["forward", "backward"] = "forward" if port is None else "backward"
    known = base.at(node.path, port)
    if known is None or known.value is None or not isfinite(known.value) or known.value <= 0 or not isfinite(law.mean):
        return []
    inherited = tuple(check for check in known.checks if not check.text.startswith(DRAWS_FOLLOW))
    checks = (*inherited, *_checks(response))
    unexplained = known.status != "ok" and len(inherited) == len(known.checks)
    failed = unexplained or any(check.margin is not None and not check.margin >= 0 for check in checks)
    status: Status = "out-of-regime" if failed else "ok"
    size = log(known.value)
    low, high = law.band(SHARE)
    band = _exp(size + low), _exp(size + high)
    small = 3.0 / response.width if isfinite(response.width) else 0.0

    def effect(quantity: str, value: float, error: float) -> Effect:
        return Effect(
            node.path, quantity, direction, port, np.array(value), error, checks, status, law.variance,
            Level.FLUCTUATION, band if quantity != "scatter" else None,
        )  # fmt: skip

    out = [
        effect("median", _exp(size + law.median), small * law.scatter + INDEPENDENT * apart),
        effect("scatter", law.scatter, small),
        effect("band", SHARE, 0.0),
    ]
    mean = law.mean_factor
    inverted = bool(np.min(response.gains, initial=0.0) < -FORGOTTEN)  # the mean of an inverse is none of the inverse
    if abs(response.shift) > SAME or inverted:  # else it is the mean at infinite width
        out.insert(0, effect("second_moment", known.value * mean, small * law.variance))
    return out


def _checks(response: Response) -> list[Check]:
    """What the law of the logarithm rests on."""
    out = [Check(text, -1.0) for text in response.doubts]
    bent = abs(response.bent)
    text = f"single draws respond linearly (elasticity changes by {bent:.1%} within one sd, at most {BENT:.0%})"
    out.append(Check(text, BENT / bent - 1 if bent > BENT / 1000 else None))
    return out


def _exp(value: float) -> float:
    return exp(value) if value < 700 else float("inf")


__all__ = ["FluctuationEngine"]
