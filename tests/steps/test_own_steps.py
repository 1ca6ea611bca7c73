"""A system and an update that lensnet does not know: YAML, a torch class with the state, and one tensor operation.

Spins in a field, updated at random (a Gibbs sweep): nothing is a gradient, the step draws, and what is followed is a
magnetisation instead of an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lensnet
from lensnet.levels.ladder import Level
from lensnet.measure.steps import estimators, operations, problem
from lensnet.quantities.quantity import QUANTITIES, Quantity

SPEC = """
network: spins
constants: {spins: 20000}
input: {source: paramagnet, spins: spins, coupling: 1.5, start: 0.4}
body:
  - {repeat: 6, name: sweep, component: gibbs_sweep, temperature: 1}
define:
  paramagnet:
    title: Spins that all see each other
    parameters:
      spins: {type: integer, min: 1}
      coupling: {type: real}
      start: {type: real}
    objective:
      size: spins
      modes: 1
      coordinates: {m: start}
      loss: -coupling*m**2/2
      quantities:
        magnetisation: {formula: sum_modes(m), floor: 4/sqrt(spins)}
    implementation: paramagnet
  gibbs_sweep:
    title: Every spin drawn anew in the field of all
    acts_on: state
    parameters:
      temperature: {type: real, min: 0, symbol: T}
    uses: {m: magnetisation, coupling: strength of the field of all}
    effects:
      kernel:
        m: tanh(coupling*m/T)
    assumes:
      - {check: T > 0, text: there is a temperature}
    implementation: gibbs_sweep
"""


class Paramagnet(problem.Problem):
    def draw(self) -> None:
        self.up = self.signs("spins", int(self.parameters["spins"]))

    def start(self) -> Tensor:
        share = (1 + float(self.parameters["start"])) / 2
        count = len(self.up)
        order = torch.argsort(self.up)
        return self.here(torch.where(order < round(share * count), 1.0, -1.0))

    def loss(self, x: Tensor) -> Tensor:
        return -float(self.parameters["coupling"]) * x.mean() ** 2 / 2

    def error(self, x: Tensor) -> Tensor:
        return x

    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        return {"m": x.mean().reshape(1)}

    def remaining(self, x: Tensor) -> Tensor:
        return x.mean().reshape(1)


def gibbs_sweep(
    problem: Any, state: operations.Tensors, temperature: float, generator: torch.Generator
) -> dict[str, Tensor]:
    x = state["iterate"]
    field = float(problem.parameters["coupling"]) * float(x.mean()) / temperature
    up = torch.rand(x.shape, generator=generator, dtype=torch.float64) < 1 / (1 + np.exp(-2 * field))
    return {"iterate": torch.where(up, 1.0, -1.0).to(x)}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        QUANTITIES, "magnetisation", Quantity("magnetisation", "m", Level.KERNEL, "bounded", "", "scalar")
    )
    monkeypatch.setitem(problem._PROBLEMS, "paramagnet", Paramagnet)
    monkeypatch.setitem(operations._OPERATIONS, "gibbs_sweep", gibbs_sweep)
    monkeypatch.setitem(estimators._ESTIMATORS, "magnetisation", lambda moment: moment.iterate.mean())


def test_a_stochastic_update_of_an_energy_model(known: None, tmp_path: Path) -> None:
    (tmp_path / "spins.yaml").write_text(SPEC)
    report = lensnet.load(tmp_path / "spins.yaml").run(seeds=6)
    assert report.exit_status == 0
    assert {(row.level, row.quantity) for row in report.rows} == {("kernel", "magnetisation")}
    through = [row for row in report.rows if row.view == "through"]
    m = 0.4
    for row in through:
        m = np.tanh(1.5 * m)
        assert row.predicted == pytest.approx(m)
        assert row.measured == pytest.approx(m, abs=6 / np.sqrt(20000))
        assert row.standard_error is not None and 0 < row.standard_error < 0.01, "every seed draws spins of its own"
    assert "magnetisation" in str(report)


def test_a_step_made_for_another_system_is_refused(known: None, tmp_path: Path) -> None:
    text = SPEC.replace("source: paramagnet, spins: spins, coupling: 1.5, start: 0.4", "source: quadratic")
    (tmp_path / "spins.yaml").write_text(text)
    with pytest.raises(Exception, match="gibbs_sweep needs m, coupling, which quadratic does not have"):
        lensnet.load(tmp_path / "spins.yaml")
