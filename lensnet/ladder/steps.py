"""Steps of the ladder: each level follows from the one below it by a limit, and every component shows that it does.

    fluctuation -> spectrum, kernel    infinitely many neurons: the scatter over weight draws vanishes as 1/sqrt(width)
    spectrum    -> kernel              many neurons for every sample: eigenvalues become those of the covariance
    kernel      -> moments             the two samples coincide: their covariance becomes the second moment

A step is `proven` where the formulas are equal symbolically, `verified` where their values agree numerically (in the
limit of wide layers if need be), `fails` where they do not, and `not modelled` where the lower level says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lensnet.catalog.catalog import catalog
from lensnet.catalog.derivation import Derivation
from lensnet.ladder.growth import grown
from lensnet.ladder.symbolic import proof
from lensnet.ladder.trial import Trial, network_of, path_of
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field
from lensnet.network.graph import Network
from lensnet.predict.engine import Descent, Source
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Effect, Prediction
from lensnet.predicting import input_signal

How = Literal["proven", "verified", "fails", "not modelled"]

LIMITS = {
    (Level.KERNEL, "same sample"): "the two samples coincide",
    (Level.SPECTRUM, "channels -> oo"): "infinitely many neurons for every sample",
    (Level.FLUCTUATION, "channels -> oo"): "infinitely many neurons: no scatter over weight draws",
}
"""Limits in words; others are shown as they are declared."""

FACTORS = (1, 4, 16)
"""Widths at which formulas are compared, as multiples of a trial's."""

EQUAL = 1e-6
"""Relative difference that rounding, quadrature and tables leave between two formulas for the same number."""

ROOM, REST = 1.2, 0.05
"""A difference of order 1/n**p may keep `ROOM` times 4**-p of itself, and `REST`, when n is four times as large."""

MOST_SAMPLES = 4096
"""Samples (examples times positions) whose pairs are followed; wider trials have fewer examples."""

ROWS = 12
"""Rows of the sample matrices whose spectra are compared: few, so that wide layers are wide against them."""

_COUNTS = ("stable_rank", "effective_rank", "participation_ratio", "coding_rate")


@dataclass(frozen=True)
class Step:
    """One step of one component. `worst`: largest relative difference at the widest trial, None where there is none."""

    component: str
    below: Level
    above: Level
    quantity: str
    how: How
    detail: str
    worst: float | None = None

    @property
    def derivation(self) -> Derivation:
        """What the component says of the step: which level, limit and order."""
        return catalog()[self.component].derivations[self.above]

    @property
    def limit(self) -> str:
        return LIMITS.get((self.below, self.derivation.limit), self.derivation.limit)


def kernel_to_moments(trials: Sequence[Trial]) -> Iterator[Step]:
    """Whether the covariance of a sample with itself is the second moment, forward and backward."""
    name = trials[0].component
    ids = all(trial.settings.get("kind") == "ids" for trial in trials)
    for quantity, direction in (("second_moment", "forward"), ("second_moment", "backward")):
        if ids and direction == "backward":
            continue  # token ids have no gradient
        yield _told(name, Level.KERNEL, Level.MOMENTS, quantity, direction, trials)


def spectrum_to_kernel(trials: Sequence[Trial]) -> Step:
    """Whether ranks and coding rate at finite width tend to those of the covariance as the width grows."""
    return _limit_of(trials, Level.SPECTRUM, Level.KERNEL, _COUNTS)


def scatter_vanishes(trials: Sequence[Trial], above: Level = Level.SPECTRUM) -> Step:
    """Whether the predicted scatter over weight draws vanishes as what the component names grows (the width)."""
    name = trials[0].component
    derivation = catalog()[name].derivations[above]
    for trial in trials:
        scatters = [_scatter(grown(trial, factor, derivation.grows)) for factor in FACTORS]
        known = [value for value in scatters if value is not None]
        if len(known) < len(FACTORS):
            continue
        if max(known) < EQUAL:
            return Step(name, Level.FLUCTUATION, above, "scatter", "verified", "nothing scatters", 0.0)
        ratios = [b / a for a, b in zip(known, known[1:], strict=False) if a > 0]
        how: How = "verified" if max(ratios) <= _falls(derivation) ** 0.5 else "fails"
        detail = "scatter " + ", ".join(f"{value:.2g}" for value in known) + f" at {_told_growth(derivation)}"
        return Step(name, Level.FLUCTUATION, above, "scatter", how, detail, known[-1])
    return Step(name, Level.FLUCTUATION, above, "scatter", "not modelled", "no prediction of the scatter")


def _told(name: str, below: Level, above: Level, quantity: str, direction: str, trials: Sequence[Trial]) -> Step:
    label = quantity.replace("_", " ") if direction == "forward" else "gradient"
    proved = proof(name, direction)
    if proved is not None:
        return Step(name, below, above, label, "proven", proved, 0.0)
    derivation = catalog()[name].derivations[above]
    compared = [found for trial in trials if (found := _coincide(trial, direction, derivation.grows)) is not None]
    if not compared:
        return Step(name, below, above, label, "not modelled", f"no formula at the level {below}")
    judged = [(*_judged(differences, derivation), differences[-1].value) for differences in compared]
    how, detail, worst = max(judged, key=lambda entry: (entry[0] == "fails", entry[2]))
    return Step(name, below, above, label, how, detail, worst)


@dataclass(frozen=True)
class _Difference:
    """Relative difference of two formulas at one width, and the error that either declares there."""

    value: float
    declared: float = 0.0


def _falls(derivation: Derivation) -> float:
    """Most that a difference may keep when what grows is four times as large."""
    return ROOM * 4.0**-derivation.order + REST


def _told_growth(derivation: Derivation) -> str:
    grows = derivation.grows
    return f"1, 4 and 16 times {'the width' if grows == 'channels' else 'as many ' + grows}"


def _judged(differences: Sequence[_Difference], derivation: Derivation) -> tuple[How, str]:
    values = [difference.value for difference in differences]
    if max(values) <= EQUAL:
        return "verified", f"equal at {_told_growth(derivation)}"
    ratios = [b / a if a > EQUAL else 0.0 for a, b in zip(values, values[1:], strict=False)]
    shown = ", ".join(f"{value:.1e}" for value in values) + f" at {_told_growth(derivation)}"
    if max(ratios) < 1 and ratios[-1] <= _falls(derivation):  # narrow layers need not be in the limit yet
        return "verified", f"equal in the limit: difference {shown}"
    if all(difference.value <= difference.declared for difference in differences):
        return "verified", f"equal within the declared error of {differences[-1].declared:.1e}: difference {shown}"
    return "fails", f"difference {shown}"


def _coincide(trial: Trial, direction: str, grows: str) -> list[_Difference] | None:
    """Differences between the kernel's diagonal and the moments at growing width; None where not modelled."""
    out = []
    for factor in FACTORS:
        difference = _diagonal_difference(grown(trial, factor, grows), direction)
        if difference is None:
            return None
        out.append(difference)
    return out


def _diagonal_difference(trial: Trial, direction: str) -> _Difference | None:
    from lensnet.predict.kernel.propagate import identity_probe, propagate_back
    from lensnet.predict.kernel.propagate import propagate as propagate_kernel
    from lensnet.predict.kernel.source import input_state

    network, path = _followed(trial), path_of(trial)
    moments = propagate(network, input_signal(network), gradients=direction == "backward")
    kernels = propagate_kernel(network, input_state(network, None))
    if path not in kernels.states or not _in_regime(moments, trial, direction):
        return None
    if any(check.margin is not None and check.margin < 0 for check in kernels.checks[path]):
        return None
    declared = sum(e.error for e in moments.effects if e.component == path and e.quantity == "second_moment")
    if direction == "forward":
        difference = _relative(kernels.states[path].second_moment, moments.signals[path].second_moment)
        return _Difference(difference, declared + kernels.errors[path])
    gradients = propagate_back(kernels, identity_probe(kernels))
    worst = None
    for port, producer in zip(network[path].ports, network[path].inputs, strict=True):
        pairs, p = gradients.pairs.get((path, port)), moments.gradients.get((path, port))
        if pairs is not None and p is not None:
            layout = kernels.states[producer].layout
            worst = max(worst or 0.0, _relative(layout.diagonal(layout.whole(pairs)), p))
            declared += gradients.errors[path, port]
    return None if worst is None else _Difference(worst, declared)


def _followed(trial: Trial) -> Network:
    """The network of a trial, with no more examples than pairs can be kept of."""
    network = network_of(trial)
    most = max([network.input.shape.position_count, *(node.shape.position_count for node in network)])
    if network.input.batch * most > MOST_SAMPLES:
        network = network_of(trial.at(batch=max(MOST_SAMPLES // most, 1)))
    return network


def _in_regime(moments: Prediction, trial: Trial, direction: str) -> bool:
    """Whether the moments claim to hold, apart from correlations that nobody declared.

    The input of a trial without correlations is independent noise around zero: what the formulas then take (nothing is
    correlated) is true.
    """
    path, given = path_of(trial), trial.settings
    independent = not any(given.get(key) for key in ("mean", "correlation", "position_correlation", "given"))
    mine = [e for e in moments.effects if e.component == path and e.direction == direction]
    failed = {c.text for e in mine for c in e.checks if c.margin is not None and not c.margin >= 0}
    excused = {text for text in failed if independent and text.endswith("is declared or measured")}
    return bool(mine) and all(e.field is not None for e in mine) and not failed - excused


def _relative(a: Field, b: Field) -> float:
    """Relative difference of two fields: at the worst place where they are equal there, else of their averages.

    Averages are what a row shows; formulas that sample an integral agree there and not at every single token.
    """
    size = float(np.max(np.abs(b)))
    worst = float(np.max(np.abs(np.asarray(a) - b))) / (size or 1.0)
    middle = float(np.mean(b))
    return worst if worst <= EQUAL or not middle else abs(float(np.mean(a)) - middle) / abs(middle)


def _limit_of(trials: Sequence[Trial], below: Level, above: Level, quantities: Sequence[str]) -> Step:
    name = trials[0].component
    derivation = catalog()[name].derivations[above]
    for trial in trials:
        runs = [_predicted(grown(trial, factor, derivation.grows), (below, above)) for factor in FACTORS]
        worst: dict[str, list[_Difference]] = {}
        for quantity in quantities:
            differences = [_difference(effects, quantity, below, above) for effects in runs]
            known = [difference for difference in differences if difference is not None]
            if len(known) == len(FACTORS):
                worst[quantity] = known
        if worst:
            quantity = max(worst, key=lambda name: worst[name][-1].value)
            label = quantity.replace("_", " ")
            how, detail = _judged(worst[quantity], derivation)
            if how == "fails" and not _widens(trial):
                continue  # scores of so many classes: there is no limit to take
            return Step(name, below, above, label, how, detail, worst[quantity][-1].value)
    return Step(name, below, above, "spectrum", "not modelled", f"no prediction at the level {below}")


def _widens(trial: Trial) -> bool:
    """Whether the output has more channels in a wider layer."""
    narrow, wide = (network_of(grown(trial, factor))[path_of(trial)].shape.channels for factor in FACTORS[:2])
    return wide > narrow


def _predicted(trial: Trial, levels: tuple[Level, ...]) -> list[Effect]:
    network, path = _followed(trial), path_of(trial)
    moments = propagate(network, input_signal(network), gradients=False)
    descent = Descent(network, Source(moments, None, ROWS, gradients=False), levels)
    return [effect for effect in descent.effects if effect.component == path and effect.direction == "forward"]


def _difference(effects: Sequence[Effect], quantity: str, below: Level, above: Level) -> _Difference | None:
    values = {e.level: e.value for e in effects if e.quantity == quantity and e.value is not None}
    if below not in values or above not in values:
        return None
    low, high = values[below], values[above]
    return _Difference(abs(low - high) / abs(high) if high else abs(low))


def _scatter(trial: Trial) -> float | None:
    effects = _predicted(trial, (Level.FLUCTUATION,))
    return next((e.value for e in effects if e.quantity == "scatter" and e.value is not None), None)
