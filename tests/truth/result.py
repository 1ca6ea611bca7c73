"""A trial as plain numbers: measured over predicted, with the draws that its error bar asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lensnet.catalog.catalog import catalog
from tests.truth.trial import Figure, Trial, figures

# Batches of draws added one after the other, and the relative standard error at which enough have been seen.
BATCHES = ((6, 0.003), (6, 0.003), (12, 0.01), (24, 0.01), (48, 0.01))


@dataclass(frozen=True)
class Result:
    """One figure as plain numbers."""

    component: str
    family: str
    direction: str
    quantity: str
    error: float
    standard_error: float
    in_regime: bool
    trial: str


def measured(trial: Trial) -> list[Result]:
    """The figures of a trial, with as many draws as the error bar asks for."""
    torch.set_num_threads(1)
    found: list[Figure] = []
    done = 0
    for batches, enough in BATCHES:
        found = figures(trial, batches, done, found)
        done += batches
        if all(figure.standard_error < enough for figure in found):
            break
    family = catalog()[trial.component].family
    return [
        Result(
            trial.component, family, figure.direction, figure.quantity, float(figure.error),
            figure.standard_error, figure.in_regime, str(trial),
        )
        for figure in found
    ]  # fmt: skip
