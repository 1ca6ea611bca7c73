"""The full grid: every component against Monte Carlo truth, as a table.

    python -m tests.truth --write docs/truth.md

A figure is one quantity of one trial: the measured value, averaged over draws of weights and input, over the predicted
one. Its standard error is that of the paired differences; draws are added until it is small or the budget is spent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from lensnet.catalog.catalog import catalog
from tests.truth.result import Result, measured
from tests.truth.trial import Trial, grid

PERCENTILES = (50, 90, 99)


def table(results: Sequence[Result]) -> list[str]:
    """Markdown: per component and direction, errors in percent at the percentiles, the worst, the typical error bar."""
    head = "| component | direction | figures | 50 % | 90 % | 99 % | worst | error bar | out of regime |"
    lines = [head, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    keys = sorted({(r.family, r.component, r.direction) for r in results})
    for family, component, direction in keys:
        mine = [r for r in results if (r.component, r.direction) == (component, direction)]
        lines.append(_line(f"{family}/{component}", direction, mine))
    for direction in ("forward", "backward"):
        mine = [r for r in results if r.direction == direction]
        lines.append(_line("**all**", direction, mine))
    return lines


def _line(name: str, direction: str, results: Sequence[Result]) -> str:
    inside = [r for r in results if r.in_regime]
    outside = len(results) - len(inside)
    if not inside:
        return f"| {name} | {direction} | 0 | | | | | | {outside} |"
    errors = 100 * np.abs([r.error for r in inside])
    bars = 100 * np.median([r.standard_error for r in inside])
    cells = [f"{value:.2f}" for value in (*np.percentile(errors, PERCENTILES), errors.max())]
    return f"| {name} | {direction} | {len(inside)} | {' | '.join(cells)} | {bars:.2f} | {outside} |"


def page(results: Sequence[Result]) -> str:
    worst = sorted((r for r in results if r.in_regime), key=lambda r: abs(r.error) - 2 * r.standard_error)[-10:]
    lines = [
        "# Every component against Monte Carlo truth",
        "",
        "Written by `make truth`. Each component of the catalogue is tried with the parameters that its own file lists",
        "under `trials:`, each at several input means; the prediction is made from the measured moments of its",
        "own input in every draw. Errors are |measured / predicted - 1| in per cent (means: relative to the rms of the",
        "signal); the error bar is the median standard error over draws of weights and input, in per cent: errors much",
        "below it are noise. Trials that an effect flags as out of its regime are counted apart.",
        "",
        *table(results),
        "",
        "## The ten worst figures beyond their error bars",
        "",
        "| component | direction | quantity | error % | error bar % | trial |",
        "|---|---|---|--:|--:|---|",
        *(_worst_line(r) for r in reversed(worst)),
        "",
    ]
    return "\n".join(lines)


def _worst_line(r: Result) -> str:
    cells = (r.component, r.direction, r.quantity, f"{100 * r.error:+.2f}", f"{100 * r.standard_error:.2f}", r.trial)
    return f"| {' | '.join(cells)} |"


def run(trials: Sequence[Trial], workers: int) -> Iterable[Result]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        done = pool.map(measured, trials)
        for results in track(done, "trials", total=len(trials), console=Console(stderr=True)):
            yield from results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("components", nargs="*", help="only these components (default: the whole catalogue)")
    parser.add_argument("--write", type=Path, help="write the table to this file instead of the terminal")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    names = given.components or sorted(catalog())
    trials = [trial for name in names for trial in grid(catalog()[name]) if not trial.outside]
    text = page(list(run(trials, given.workers)))
    if given.write:
        given.write.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
