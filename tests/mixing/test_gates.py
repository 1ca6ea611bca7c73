"""Gates: the Gaussian averages of sigmoid, gelu and silu, and the top-k softmax of a mixture of experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lensnet.algebra.mixing.gate_moments import (
    excitation_square,
    gate_mean,
    gate_pull,
    gate_slope,
    gate_slope_spread,
    gate_square,
)
from lensnet.algebra.mixing.softmax_moments import softmax_moments
from lensnet.algebra.mixing.top_k_moments import gate_jacobian, gate_square_sum, gate_sum

GATES = [torch.sigmoid, F.gelu, F.silu]


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("mean, variance", [(0.0, 1.0), (1.3, 0.2), (-2.0, 9.0), (0.4, 100.0), (0.7, 0.0)])
def test_gate_averages_against_a_fine_sum(kind: int, mean: float, variance: float) -> None:
    z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    weight /= weight.sum()
    x = (mean + variance**0.5 * z).requires_grad_()
    value = GATES[kind](x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    value = value.detach()
    cases = {
        gate_mean: value,
        gate_square: value**2,
        gate_slope: slope**2,
        gate_slope_spread: (slope * z) ** 2,
        gate_pull: value * slope * variance**0.5 * z,
    }
    for function, integrand in cases.items():
        expected = float((weight * integrand).sum())
        found = function(kind, np.array(mean), np.array(variance))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-8), function.__name__


def test_a_scattered_variance_raises_the_mean_square_of_a_gate() -> None:
    sharp, scattered = (excitation_square(np.array(0.0), np.array(9.0), s) for s in (1e-9, 0.6))
    rng = np.random.default_rng(0)
    variance = 9 * rng.gamma(1 / 0.6, 0.6, 400_000)
    drawn = (1 / (1 + np.exp(-np.sqrt(variance) * rng.standard_normal(400_000)))) ** 2
    assert scattered == pytest.approx(drawn.mean(), rel=3e-3)
    assert sharp != pytest.approx(scattered, rel=0.02)


@pytest.mark.parametrize("experts, expected", [(2, 0.54348), (4, 0.28566), (8, 0.14383)])
def test_the_best_of_several_experts(experts: int, expected: float) -> None:
    """E of the squared largest share at logit variance 1, gate not renormalised."""
    assert gate_square_sum(np.array(1.0), experts, 1, 0) == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize("variance", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("experts, active", [(8, 2), (5, 4), (16, 3), (4, 1)])
@pytest.mark.parametrize("renormalised", [False, True])
def test_top_k_against_monte_carlo(variance: float, experts: int, active: int, renormalised: bool) -> None:
    logits = np.random.default_rng(experts).standard_normal((60_000, experts)) * np.sqrt(variance)
    raw = np.exp(-np.sort(-logits, axis=1))
    whole = raw[:, :active] if renormalised else raw
    share = raw[:, :active] / whole.sum(1, keepdims=True)
    everyone = whole / whole.sum(1, keepdims=True)
    square = (share**2).sum(1)
    jacobian = square - 2 * (share**3).sum(1) + square * (everyone**2).sum(1)
    for function, values in ((gate_sum, share.sum(1)), (gate_square_sum, square), (gate_jacobian, jacobian)):
        error = values.std() / np.sqrt(len(values))
        found = function(np.array(variance), experts, active, renormalised)
        assert found == pytest.approx(values.mean(), abs=4.5 * error + 2e-4 * values.mean() + 1e-9)


def test_all_experts_in_use_is_a_plain_softmax() -> None:
    for renormalised in (False, True):
        plain = softmax_moments(1.7, 6)
        assert gate_square_sum(np.array(1.7), 6, 6, renormalised) == pytest.approx(plain.square_sum, rel=3e-4)
        assert gate_jacobian(np.array(1.7), 6, 6, renormalised) == pytest.approx(plain.jacobian, rel=1e-3)


def test_more_experts_than_there_are() -> None:
    with pytest.raises(ValueError, match="cannot keep 5 of 4"):
        gate_square_sum(np.array(1.0), 4, 5, True)


@pytest.mark.parametrize(("count", "kept", "whole"), [(4, 2, True), (8, 3, False), (6, 1, False)])
def test_shares_by_sigmoids_against_draws(count: int, kept: int, whole: bool) -> None:
    """Sums, squares and Jacobians of sigmoid shares, against torch's own derivatives of fresh draws."""
    import torch

    from lensnet.algebra.mixing.top_k_gates import share_jacobian, share_square_sum, share_sum

    ratings = 0.3 + 1.2 * torch.randn(4096, count, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def shares(x: torch.Tensor) -> torch.Tensor:
        open_ = torch.where(x >= x.topk(kept).values[..., -1:], x.sigmoid(), 0.0)
        return open_ / open_.sum(-1, keepdim=True) if whole else open_

    made = shares(ratings)
    slopes = torch.vmap(torch.func.jacrev(shares))(ratings)
    measured = made.sum(-1), made.square().sum(-1), slopes.square().sum((-1, -2))
    given = (np.array(0.3), np.array(1.44), *(np.array(float(one)) for one in (count, kept, whole, 1, 0, 1)))
    for function, values in zip((share_sum, share_square_sum, share_jacobian), measured, strict=True):
        error = 4 * float(values.std()) / len(values) ** 0.5 + 0.01 * float(values.mean())
        assert abs(float(function(*given)) - float(values.mean())) <= error, function.__name__


def test_shares_of_a_sparsemixer_against_draws() -> None:
    """The best of three with those near it, by their definition written out for one row, and its own derivatives."""
    import torch

    from lensnet.algebra.mixing.top_k_gates import share_jacobian, share_square_sum, share_sum

    near, count = 0.5, 3
    ratings = 1.2 * torch.randn(4096, count, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def share(x: torch.Tensor) -> torch.Tensor:
        best = x.max()
        meet = (best - x) / torch.maximum(x.abs(), best) <= near
        return torch.where(x == best, torch.where(meet, x.exp(), 0.0) / torch.where(meet, x.exp(), 0.0).sum(), 0.0)

    made, slopes = torch.vmap(share)(ratings), torch.vmap(torch.func.jacrev(share))(ratings)
    measured = made.sum(-1), made.square().sum(-1), slopes.square().sum((-1, -2))
    given = (np.array(0.0), np.array(1.44), *(np.array(float(one)) for one in (count, 1, 0, 0, near, 1)))
    for function, values in zip((share_sum, share_square_sum, share_jacobian), measured, strict=True):
        error = 4 * float(values.std()) / len(values) ** 0.5 + 0.01 * float(values.mean())
        assert abs(float(function(*given)) - float(values.mean())) <= error, function.__name__
