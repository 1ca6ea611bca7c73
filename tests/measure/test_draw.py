"""Weight draws: their statistics, and that a draw depends on (seed, component, tensor) alone."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from scipy import stats

from lensnet.measure.draw import TRUNCATED_STD, draw_bias, draw_weight, generator
from lensnet.measure.module import draw, to_module
from lensnet.network.shape import Shape
from lensnet.network.weights import EXCESS_KURTOSIS, WeightLaw
from tests.measure.networks import linear, network

SHAPE = (400, 500)


def law(distribution: str, **fields: float) -> WeightLaw:
    return WeightLaw(500, 400, 0.03, distribution, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
def test_moments_lie_within_standard_errors(distribution: str) -> None:
    weight = draw_weight(law(distribution), SHAPE, generator(3, "a", "weight")).double()
    count, variance, kurtosis = weight.numel(), 0.03, EXCESS_KURTOSIS[distribution]
    assert abs(weight.mean()) < 4 * sqrt(variance / count)
    assert abs(weight.square().mean() / variance - 1) < 4 * sqrt((2 + kurtosis) / count)
    measured = (weight**4).mean() / weight.square().mean() ** 2 - 3
    assert abs(float(measured) - kurtosis) < 0.05


def test_distributions_are_what_they_say() -> None:
    std = sqrt(0.03)
    for distribution, reference in {
        "normal": stats.norm(0, std),
        "uniform": stats.uniform(-sqrt(3) * std, 2 * sqrt(3) * std),
        "truncated_normal": stats.truncnorm(-2, 2, scale=std / TRUNCATED_STD),
    }.items():
        weight = draw_weight(law(distribution), (20000,), generator(0, "b", "weight"))
        assert stats.kstest(weight.numpy(), reference.cdf).pvalue > 1e-3


def test_truncated_std_matches_scipy() -> None:
    assert TRUNCATED_STD == pytest.approx(stats.truncnorm(-2, 2).std(), rel=1e-12)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (16, 3, 5, 5), (64, 2, 3, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    weight = draw_weight(law("orthogonal"), shape, generator(1, "c", "weight")).double().flatten(1)
    rows, columns = weight.shape
    gram = weight @ weight.T if rows <= columns else weight.T @ weight
    assert torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype) * gram[0, 0], atol=1e-5)
    assert float(weight.square().mean()) == pytest.approx(0.03, rel=1e-5)


def test_orthogonal_transposed_has_its_outputs_on_the_second_axis() -> None:
    weight = draw_weight(law("orthogonal"), (6, 20, 2, 2), generator(1, "c", "weight"), output_axis=1)
    matrix = weight.transpose(0, 1).flatten(1).double()
    assert torch.allclose(matrix @ matrix.T, torch.eye(20, dtype=torch.float64) * (matrix @ matrix.T)[0, 0], atol=1e-5)


def test_orthogonal_signs_are_even() -> None:
    traces = [
        float(draw_weight(law("orthogonal"), (8, 8), generator(seed, "d", "weight")).trace()) for seed in range(300)
    ]
    assert abs(stats.ttest_1samp(traces, 0.0).statistic) < 4


def test_biases() -> None:
    constant = draw_bias(law("normal", bias_mean=1.0), (7,), generator(0, "a", "bias"))
    assert torch.equal(constant, torch.ones(7))
    for kind in ("normal", "uniform"):
        noisy = WeightLaw(5, 5, 1.0, bias_mean=0.5, bias_std=0.2, bias_distribution=kind)  # type: ignore[arg-type]
        bias = draw_bias(noisy, (40000,), generator(0, "a", "bias"))
        assert float(bias.mean()) == pytest.approx(0.5, abs=0.005)
        assert float(bias.std()) == pytest.approx(0.2, rel=0.02)


def test_a_draw_depends_on_seed_path_and_tensor_alone() -> None:
    shape = Shape(8)
    small = network([linear("a", "input", shape, 8)], shape)
    large = network([linear("b", "input", shape, 8, bias_std=0.3), linear("a", "b", shape, 8)], shape)
    first, second = to_module(small), to_module(large)
    draw(first, small, 5)
    draw(second, large, 5)
    assert torch.equal(first.get_parameter("a.weight"), second.get_parameter("a.weight"))
    assert not torch.equal(second.get_parameter("a.weight"), second.get_parameter("b.weight"))
    before = second.get_parameter("a.weight").clone()
    draw(second, large, 6)
    assert not torch.equal(before, second.get_parameter("a.weight"))
    draw(second, large, 5)
    assert torch.equal(before, second.get_parameter("a.weight"))


def test_dtype_only_rounds() -> None:
    narrow = draw_weight(law("normal"), (50,), generator(0, "a", "weight"))
    wide = draw_weight(law("normal"), (50,), generator(0, "a", "weight"), torch.float64)
    assert wide.dtype == torch.float64
    assert torch.equal(wide.float(), narrow)
