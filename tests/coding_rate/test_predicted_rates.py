"""Rates predicted without the data: random matrices, closed forms, and the optimum that a long ReduNet ends at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lensnet
from lensnet.levels.ladder import Level
from lensnet.predict.labelled_rates import isotropic_rate, orthogonal_classes_rates, random_layer_rate
from lensnet.quantities.coding_rate import coding_rate, rates
from lensnet.run import run


@pytest.mark.parametrize("sphere", [True, False], ids=["sphere", "Gaussian"])
@pytest.mark.parametrize(("d", "m", "eps2"), [(8, 24, 0.1), (32, 32, 0.1), (16, 48, 0.3), (40, 20, 0.05)], ids=str)
def test_random_directions(d: int, m: int, eps2: float, sphere: bool) -> None:
    draws = 600
    source = torch.Generator().manual_seed(0)
    z = torch.randn(draws, m, d, dtype=torch.float64, generator=source) / d**0.5
    z = torch.nn.functional.normalize(z, dim=-1) if sphere else z
    found = coding_rate(z, eps2)
    mean, spread = isotropic_rate(d, m, eps2, sphere)
    error = float(found.std()) / draws**0.5
    assert float(found.mean()) == pytest.approx(mean, abs=4 * error + 6e-4 * mean)
    assert float(found.std()) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_a_random_layer_at_four_widths(relu: bool) -> None:
    """The deterministic equivalent is off by O(1/width); the infinitely wide layer would be off by much more."""
    m, eps2, draws = 50, 0.5, 24
    source = torch.Generator().manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(m, 60, dtype=torch.float64, generator=source), dim=1)
    c = (x @ x.T).numpy().clip(-1, 1)
    kernel = (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi if relu else c
    for width in (32, 64, 128, 400):
        h = x @ torch.randn(draws, 60, width, dtype=torch.float64, generator=source)
        h = torch.nn.functional.normalize(h.relu() if relu else h, dim=-1)
        measured = coding_rate(h, eps2)
        predicted = random_layer_rate(kernel, width, eps2)
        error = float(measured.std()) / draws**0.5
        assert float(measured.mean()) == pytest.approx(predicted, abs=4 * error + predicted / width)
    assert random_layer_rate(np.eye(4), 10**7, 0.1) == pytest.approx(2 * np.log1p(10**7 / 0.4), rel=1e-4)


def test_orthogonal_classes_are_the_closed_form_and_three_lines_the_optimum() -> None:
    """d = 9, three classes: a coarse distortion favours thin classes, a fine one thick ones."""
    for eps2, expected in ((0.1, [2.90, 4.49, 5.64]), (4.0, [0.250, 0.202, 0.165])):
        found = [float(np.subtract(*orthogonal_classes_rates(9, [6] * 3, [r] * 3, eps2))) for r in (1, 2, 3)]
        assert found == pytest.approx(expected, rel=0.005)
    z = torch.eye(9, dtype=torch.float64).repeat(2, 1)
    y = torch.arange(9).repeat(2) // 3
    assert float(rates(z, y, 0.1).reduction) == pytest.approx(
        float(np.subtract(*orthogonal_classes_rates(9, [6] * 3, [3] * 3, 0.1))), rel=1e-13
    )
    total, classes = orthogonal_classes_rates(3, [5] * 3, [1] * 3, 0.1)
    assert (total, classes) == pytest.approx((3.596843, 1.716994), abs=1e-6)


def test_a_long_redunet_reaches_the_optimum() -> None:
    made = lensnet.load("redunet_gaussians", ["constants.depth=700", "constants.eta=0.5"]).construct()
    total, classes = made.rates["output"]
    best = np.subtract(*orthogonal_classes_rates(3, [100] * 3, [1] * 3, 0.1))
    assert total - classes == pytest.approx(float(best), abs=1e-4)


def test_labelled_rates_of_a_dense_network_are_predicted(tmp_path: Path) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "network: net\ninput: {source: digits, batch: 100}\nbody:\n"
        "  - {name: fc, component: linear, units: 256}\n  - {name: act, component: relu}\n"
    )
    report = run(lensnet.load(spec).network, 8, levels=(Level.MOMENTS, Level.SPECTRUM), backward=False)
    rows = [row for row in report.rows if row.quantity in ("total_rate", "class_rate") and row.view == "local"]
    assert len(rows) == 4
    assert all(abs(row.error) < 0.03 and row.verdict == "agrees" for row in rows)


def test_any_labelled_run_measures_ranks_angles_and_gates(tmp_path: Path) -> None:
    """Three lines at 60 degrees to each other, through a rotation and a gate that cannot decide, and one that must."""
    lines = np.pad(np.linalg.cholesky(np.full((3, 3), 0.5) + np.eye(3) / 2), ((0, 0), (0, 5)))
    y = np.arange(24) % 3
    np.savez(tmp_path / "lines.npz", z=lines[y] * np.linspace(1, 2, 24)[:, None], y=y)
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "network: net\ninput: {source: file, path: lines.npz, key: z, labels: y, batch: 24}\nbody:\n"
        "  - {name: turn, component: linear, units: 8, init: orthogonal}\n"
        "  - {name: soft, component: softmax_gate, classes: 4, lam: 0}\n"
        "  - {name: hard, component: softmax_gate, classes: 4, routing: hard}\n"
    )
    report = run(lensnet.load(spec).network, 3, levels=(Level.MOMENTS, Level.SPECTRUM), backward=False)
    found = {(row.component, row.quantity): row.measured for row in report.rows if row.view == "local"}
    assert found["turn", "class_rank"] == 1
    assert found["turn", "class_angle"] == pytest.approx(np.pi / 3, rel=1e-6)
    assert found["turn", "class_angle_largest"] == pytest.approx(np.pi / 3, rel=1e-6)
    assert found["soft", "gate_entropy"] == pytest.approx(np.log(4), rel=1e-6)
    assert found["hard", "gate_entropy"] == 0 and ("turn", "gate_entropy") not in found


def test_the_probe_sees_any_model_and_leaves_it_alone() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Flatten()
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.randn(12, 1, 6, 6), torch.arange(12) % 3
    state = torch.random.get_rng_state()
    found = lensnet.probe_rates(model, x, y)
    assert torch.equal(state, torch.random.get_rng_state()) and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert [layer.kind for layer in found] == ["input", "Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Flatten"]
    flat = torch.nn.functional.normalize(x.flatten(1).double(), dim=1)
    assert found[0].reduction == pytest.approx(float(lensnet.rate_reduction(flat, y)))
    ranks = [np.linalg.matrix_rank(flat[y == j].numpy()) for j in range(3)]
    assert found[0].class_rank == np.mean(ranks)
    assert 0 < found[0].class_angle < found[0].class_angle_largest <= np.pi / 2
    assert found[-1].total == pytest.approx(found[-2].total), "flattening and sleeping dropout change nothing"
