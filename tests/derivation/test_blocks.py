"""Stacks and repeated blocks: growth, fixed points and the edge of chaos against the known numbers."""

import math

import numpy as np
import pytest
import sympy as sp

import lensnet
from lensnet.derivation.api import derive
from lensnet.derivation.errors import DeriveError

HEAD = """\
network: trial
input: {source: gaussian, channels: 64, batch: 4}
body:
  - repeat: 6
    name: block
    body:
"""


def block(tmp_path, *items, head=HEAD):
    path = tmp_path / "trial.yaml"
    path.write_text(head + "".join(f"      - {item}\n" for item in items))
    return str(path)


def test_he_gain_comes_out_of_a_solve(tmp_path):
    spec = block(tmp_path, "{component: linear, units: 64, gain: 1.3}", "{component: relu}")
    result = derive(spec)
    assert result.expressions["preserving g"] == sp.sqrt(2)
    assert result.numbers["growth"] == pytest.approx(1.3**2 / 2, rel=1e-12)
    at_he = derive(block(tmp_path, "{component: linear, units: 64, gain: sqrt(2)}", "{component: relu}"))
    assert at_he.fixed_points == ()  # every q is one
    assert at_he.numbers["growth"] == pytest.approx(1, rel=1e-12)


def test_edge_of_chaos_of_tanh():
    """Poole et al. 2016 (sigma_w^2 = 1.760955 at sigma_b^2 = 0.05, q* = 0.570048 in front of tanh)."""
    result = derive("tanh_ordered")
    assert result.numbers["edge of chaos g**2"] == pytest.approx(1.760955, abs=2e-6)
    edge = result.numbers["edge of chaos q"]  # behind tanh
    assert 1.760955 * edge + 0.05 == pytest.approx(0.570048, abs=2e-6)
    assert result.fixed_points[0].phase == "ordered"
    assert result.fixed_points[0].gradient == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize(
    ("variance", "edge", "q"),
    [(0.01, 1.424204, 0.273301), (0.1, 1.986073, 0.805799), (0.3, 2.505127, 1.461169)],
)
def test_edge_of_chaos_at_other_biases(tmp_path, variance, edge, q):
    dense = f"{{component: linear, units: 64, gain: 1.3, bias_std: sqrt({variance})}}"
    result = derive(block(tmp_path, "{component: tanh}", dense), "second_moment")
    assert result.numbers["edge of chaos g**2"] == pytest.approx(edge, abs=2e-6)
    assert result.numbers["edge of chaos q"] == pytest.approx(q, abs=2e-6)


def test_phases_of_tanh():
    critical, chaotic = derive("tanh_critical").fixed_points[0], derive("tanh_chaotic").fixed_points[0]
    assert critical.phase == "critical"
    assert critical.gradient == pytest.approx(1, abs=1e-5)
    assert chaotic.phase == "chaotic"
    assert chaotic.gradient == pytest.approx(1.342, abs=1e-3)


def test_tanh_without_bias_is_critical_at_gain_one(tmp_path):
    result = derive(block(tmp_path, "{component: tanh}", "{component: linear, units: 64, gain: 1.3}"))
    assert result.numbers["edge of chaos g"] == pytest.approx(1, rel=1e-6)
    zero, other = result.fixed_points
    assert (zero.q, zero.stability) == (0, "unstable")
    assert zero.slope == pytest.approx(1.69, rel=1e-5)
    assert other.stability == "stable"


def test_bistable_gelu_has_two_fixed_points():
    low, high = derive("bistable_gelu").fixed_points
    assert (low.stability, high.stability) == ("stable", "unstable")
    assert low.q == pytest.approx(0.02424, abs=1e-5)
    assert high.q == pytest.approx(1.3154, abs=1e-4)
    assert high.slope == pytest.approx(1.114, abs=5e-4)


def test_fixed_point_is_where_the_engine_ends():
    """A deep stack, propagated by predict."""
    report = lensnet.load("bistable_gelu", ["constants.depth=60"]).predict()
    last = [row for row in report.rows if row.quantity == "second_moment" and row.direction == "forward"][-1]
    assert last.predicted == pytest.approx(derive("bistable_gelu").fixed_points[0].q, rel=1e-6)


def test_residual_growth_and_its_limit():
    result = derive("residual_mlp")
    growth = result.expressions["second_moment"]
    names = {symbol.name: symbol for symbol in growth.free_symbols}
    b, up, down, q = (names[name] for name in ("b", "g_up", "g_down", "q"))
    assert sp.expand(growth - (q + b**2 * up**2 * down**2 * q / 2)) == 0
    assert result.numbers["growth"] == pytest.approx(1 + 1 / 12, rel=1e-12)
    assert "exp(kappa)" in str(result)
    report = lensnet.load("residual_mlp").predict()
    forward = [row for row in report.rows if (row.quantity, row.direction) == ("second_moment", "forward")]
    rows = {row.component: row.predicted for row in forward}
    assert rows["block.11.add"] / rows["stem"] == pytest.approx(result.numbers["growth"] ** 12, rel=1e-9)


def test_a_branch_that_remembers_is_not_added_incoherently(tmp_path):
    """x + relu(x): q + q/2 + 2*q/2, not q + q/2."""
    spec = block(tmp_path, "{name: add, component: residual, branch: [{component: relu}]}")
    composed = derive(spec, at="block.0").expressions["second_moment"]
    (q,) = composed.free_symbols
    assert sp.expand(composed - 5 * q / 2) == 0


def test_x_plus_x_is_four():
    result = derive("x_plus_x", first="dense", last="doubled")
    composed = result.expressions["second_moment"]
    names = {symbol.name: symbol for symbol in composed.free_symbols}
    assert sp.expand(composed - 4 * names["g"] ** 2 * names["q"]) == 0
    backward = result.expressions["backward_second_moment"]
    assert sp.expand(backward / sp.Symbol("p", positive=True) - 4 * names["g"] ** 2) == 0


def test_long_stacks_are_shown_in_steps_and_longer_ones_refused():
    result = derive("alexnet", "second_moment")
    assert result.expressions == {}
    assert "q_fc8" in str(result)
    with pytest.raises(DeriveError, match="components"):
        derive("resnet18")
    with pytest.raises(DeriveError, match="is called"):
        derive("resnet18", at="stage1_9")


def test_symbols_and_engine_agree_for_a_part_with_everything(tmp_path):
    """Bias means, an off-centre activation, dropout: composed formula against the engine's numbers."""
    from lensnet.derivation.section import part_at
    from lensnet.derivation.stability import BlockMap
    from lensnet.derivation.stack import Stack
    from lensnet.derivation.stack_backward import BackwardStack
    from lensnet.derivation.stack_steps import agreement, composed_results

    spec = block(
        tmp_path,
        "{name: norm, component: rmsnorm}",
        "{name: up, component: linear, units: 96, gain: 1.2, bias: 0.3, bias_std: 0.2}",
        "{name: act, component: relu}",
        "{name: drop, component: dropout, rate: 0.25}",
        "{name: down, component: linear, units: 64, gain: 0.7}",
    )
    network = lensnet.load(spec).network
    map_ = BlockMap(network, part_at(network, "block.1"))
    stack = Stack(map_.part, map_.centred, map_.gaussian)
    worst, count = agreement(stack, map_, composed_results(stack, BackwardStack(stack), ("q",)))
    assert count >= 4
    assert worst < 1e-9


def test_numbers_and_formulas_travel():
    result = derive("linear", "second_moment")
    assert result.formula == "q' = b_0**2 + fan_in*q*w2 + sigma_b**2"
    assert r"\sigma_{b}^{2}" in result.latex
    assert math.isclose(derive("relu").numbers["critical gain"], math.sqrt(2))
    assert np.isfinite(derive("tanh").numbers["slope"])
