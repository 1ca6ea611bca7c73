"""The ladder of one component or of the whole catalogue: every step checked, every rate tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lensnet.catalog.catalog import catalog
from lensnet.ladder.rates import WIDTHS, Rate, rate_test
from lensnet.ladder.steps import Step, kernel_to_moments, scatter_vanishes, spectrum_to_kernel
from lensnet.ladder.trial import Trial, is_layer, trials
from lensnet.levels.ladder import Level

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

DRAWS = 64
"""Weight draws at each width of a rate test."""

MOST_TRIALS = 3
"""Trials on which the formulas of two levels are compared."""


@dataclass(frozen=True)
class Rung:
    """Everything checked of one component."""

    component: str
    family: str
    steps: tuple[Step, ...] = ()
    rates: tuple[Rate, ...] = ()
    note: str = ""
    keeps_scatter: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing fails, apart from what the component itself says of its scatter."""
        steps = [step for step in self.steps if step.how == "fails"]
        if self.keeps_scatter:
            steps = [step for step in steps if step.below != Level.FLUCTUATION]
            return not steps and all(rate.within_declared for rate in self.rates)
        return not steps and all(rate.holds for rate in self.rates)


@dataclass
class LadderReport:
    """The rungs of the components asked for. `exit_status`: 0 when nothing fails, 1 otherwise, 4 when interrupted."""

    rungs: list[Rung] = field(default_factory=list)
    draws: int = DRAWS
    interrupted: bool = False

    @property
    def exit_status(self) -> int:
        if not all(rung.holds for rung in self.rungs):
            return 1
        return 4 if self.interrupted else 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "draws": self.draws,
            "interrupted": self.interrupted,
            "exit_status": self.exit_status,
            "components": [_rung_data(rung) for rung in self.rungs],
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from lensnet.ladder.shown import render

        yield from render(self, options.max_width)


Advance = Callable[[str], None]


def check_ladder(
    names: Sequence[str] = (), draws: int = DRAWS, rates: bool = True, advance: Advance | None = None
) -> LadderReport:
    """Check the steps and, with `rates`, test the rates of components by name (without names: all of the catalogue).

    `advance` is told the name of each component before it is checked. Ctrl-C returns what was finished. Raises KeyError
    for a name that is no component.
    """
    known = catalog()
    out = LadderReport(draws=draws)
    try:
        for name in names or list(known):
            if advance is not None:
                advance(name)
            out.rungs.append(check_component(name, draws, rates))
    except KeyboardInterrupt:
        out.interrupted = True
    return out


def check_component(name: str, draws: int = DRAWS, rates: bool = True) -> Rung:
    """The steps and rates of one component, on the trials of its own file."""
    component = catalog()[name]
    if not is_layer(component):
        return Rung(name, component.family, note="of an algorithm, which is told at one level: no step to check")
    if component.spec.body is not None:
        return Rung(name, component.family, note="made of other components, which are checked on their own")
    inside = [trial for trial in trials(component) if not trial.outside]
    if not inside:
        return Rung(name, component.family, note="no trial in its file: nothing to check it on")
    measured = tuple(rate_test(inside[0], draws, WIDTHS)) if rates else ()
    return Rung(name, component.family, tuple(_steps(inside)), measured, keeps_scatter=component.spec.keeps_scatter)


def _steps(inside: Sequence[Trial]) -> Iterator[Step]:
    """One for every level that follows from a lower one, as the component says or as all do."""
    chosen = inside[:MOST_TRIALS]
    for name, derivation in catalog()[inside[0].component].derivations.items():
        above, below = Level(name), Level(derivation.below)
        if below is Level.FLUCTUATION:
            yield scatter_vanishes(chosen, above)
        elif below is Level.SPECTRUM:
            yield spectrum_to_kernel(chosen)
        else:
            yield from kernel_to_moments(chosen)


def _rung_data(rung: Rung) -> dict[str, Any]:
    return {
        "component": rung.component,
        "family": rung.family,
        "holds": rung.holds,
        "note": rung.note,
        "keeps_scatter": rung.keeps_scatter,
        "steps": [
            {
                "from": str(step.below),
                "to": str(step.above),
                "limit": step.limit,
                "order": step.derivation.rate,
                "declared": step.derivation.declared,
                "quantity": step.quantity,
                "how": step.how,
                "detail": step.detail,
                "worst": step.worst,
            }
            for step in rung.steps
        ],
        "rates": [
            {
                "quantity": rate.quantity,
                "widths": list(rate.widths),
                "grows": rate.grows,
                "order": rate.order,
                "variances": list(rate.variances),
                "slope": rate.slope,
                "interval": rate.interval,
                "errors": list(rate.errors),
                "standard_errors": [None if error == float("inf") else error for error in rate.standard_errors],
                "limit": rate.limit,
                "limit_error": None if rate.limit_error == float("inf") else rate.limit_error,
                "declared": rate.declared,
                "holds": rate.holds,
            }
            for rate in rung.rates
        ],
    }


__all__ = ["LadderReport", "Rung", "check_component", "check_ladder"]
