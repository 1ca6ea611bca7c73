"""Singular values of Jacobians: moments at finite width and densities at large width, against sampled products."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import ortho_group

from lensnet.algebra.random_matrix.jacobian import Slopes, Stage, Traces
from lensnet.algebra.random_matrix.singular_values import singular

NORMAL = ndtri((np.arange(400) + 0.5) / 400)
SLOPES = {
    "identity": lambda z: np.ones_like(z),
    "relu": lambda z: np.sqrt(2) * (z > 0),
    "hardtanh": lambda z: 1.0 * (np.abs(z) < 1),
    "tanh": lambda z: np.cosh(z) ** -2.0,
}


def slopes(kind: str, q: float = 1.0) -> Slopes:
    return Slopes.of(SLOPES[kind](np.sqrt(q) * NORMAL) ** 2)


def stages(kind: str, weights: str, widths: list[int], q: float = 1.0) -> list[Stage]:
    return [
        Stage(n, m, 1 / n, weights, slopes(kind, q))  # type: ignore[arg-type]
        for n, m in zip(widths, widths[1:], strict=False)
    ]


def drawn(kind: str, weights: str, widths: list[int], draws: int, q: float = 1.0) -> np.ndarray:
    """Squared singular values, `(draws, min(n, N))`."""
    rng, out = np.random.default_rng(0), []
    for _ in range(draws):
        j = np.eye(widths[0])
        for n, m in zip(widths, widths[1:], strict=False):
            if weights == "orthogonal":
                size = max(n, m)
                w = ortho_group.rvs(size, random_state=rng)[:m, :n] * np.sqrt(size / n)
            else:
                w = rng.standard_normal((m, n)) / np.sqrt(n)
            j = SLOPES[kind](np.sqrt(q) * rng.standard_normal(m))[:, None] * (w @ j)
        out.append(np.linalg.svd(j, compute_uv=False) ** 2)
    return np.array(out)


def traces(stages: list[Stage]) -> Traces:
    out = Traces.identity(stages[0].inputs)
    for stage in stages:
        out = out.dense(stage.outputs, stage.variance, stage.weights)
        assert stage.slopes is not None
        out = out.sloped(stage.slopes.moment(1), stage.slopes.moment(2))
    return out


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("kind", "widths"), [("relu", [8] * 4), ("tanh", [6, 10, 4]), ("identity", [5, 9, 3, 7])])
def test_trace_moments_are_exact_at_small_width(kind: str, weights: str, widths: list[int]) -> None:
    """E tr, E (tr)^2 and E tr of the square of products of narrow random layers, beyond 3.5 standard errors."""
    found, squares = traces(stages(kind, weights, widths)), drawn(kind, weights, widths, 2500)
    trace, second = squares.sum(axis=1), (squares**2).sum(axis=1)
    for predicted, values in ((found.first, trace), (found.squared, trace**2), (found.second, second)):
        assert predicted == pytest.approx(values.mean(), abs=3.5 * values.std() / np.sqrt(len(values)) + 1e-12)


@pytest.mark.parametrize(("kind", "q"), [("relu", 1.0), ("hardtanh", 1.0), ("tanh", 0.3)])
@pytest.mark.parametrize(("weights", "s1"), [("gaussian", -1.0), ("orthogonal", 0.0)])
def test_wide_layers_have_the_known_mean_and_variance(kind: str, q: float, weights: str, s1: float) -> None:
    """Mean p_1^L and relative variance L (p_2/p_1^2 - 1 - s_1) (Pennington, Schoenholz and Ganguli 2017)."""
    depth, law = 5, slopes(kind, q)
    p1, p2 = law.moment(1), law.moment(2)
    for width, tolerance in ((10_000, 3e-3), (100_000, 3e-4)):
        found = traces(stages(kind, weights, [width] * (depth + 1), q))
        assert found.gain == pytest.approx(p1**depth, rel=1e-9)
        assert found.spread == pytest.approx(depth * (p2 / p1**2 - 1 - s1), rel=tolerance)


def test_orthogonal_tanh_is_isometric_and_a_rectifier_never_is() -> None:
    small = traces(stages("tanh", "orthogonal", [500] * 21, q=1e-3))
    assert abs(small.gain - 1) < 0.05
    assert small.spread < 1e-3
    for weights in ("gaussian", "orthogonal"):
        for depth in (1, 5, 20):
            found = traces(stages("relu", weights, [500] * (depth + 1)))
            assert found.gain == pytest.approx(1.0)
            assert found.spread > 0.95 * depth


def test_one_gaussian_layer_is_marchenko_pastur() -> None:
    """Quantiles against the integrated density, for a narrowing, a square and a widening layer."""
    from lensnet.algebra.random_matrix.marchenko_pastur import density, edges

    for inputs, outputs in ((200, 100), (100, 100), (100, 300)):
        law = singular([[Stage(inputs, outputs, 1 / inputs)]])[0]
        ratio, count = inputs / outputs, min(inputs, outputs)
        low, high = edges(ratio)
        x = low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, 4001))) / 2
        mass = density(x, ratio) * inputs / count
        below = np.concatenate([[0], np.cumsum((mass[1:] + mass[:-1]) / 2 * np.diff(x))])
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            exact = np.sqrt(np.interp(share, below / below[-1], x) * outputs / inputs)
            assert law.quantile(share) == pytest.approx(exact, rel=0.015)


@pytest.mark.parametrize(
    ("kind", "weights", "widths", "q"),
    [
        ("relu", "gaussian", [100] * 4, 1.0),
        ("relu", "orthogonal", [100] * 4, 1.0),
        ("tanh", "gaussian", [60, 100, 150, 80], 1.0),
        ("tanh", "orthogonal", [60, 100, 150, 80], 1.0),
        ("tanh", "orthogonal", [100] * 7, 0.1),
        ("hardtanh", "orthogonal", [100] * 3, 1.0),
    ],
)
def test_densities_by_s_transforms_against_sampled_products(
    kind: str, weights: str, widths: list[int], q: float
) -> None:
    """The share of singular values below each predicted quantile."""
    law = singular([stages(kind, weights, widths, q)])[0]
    values = np.sqrt(drawn(kind, weights, widths, 20, q).ravel())
    assert law.at_zero == pytest.approx(np.mean(values < 1e-6), abs=0.05)
    for share in (0.1, 0.3, 0.6, 0.8, 0.95):
        place = law.quantile(share)
        if place > 0 and not (kind == "hardtanh" and 0.95 < place < 1.05):  # an atom at 1 has no quantiles
            assert np.mean(values < place) == pytest.approx(share, abs=0.03)


def test_many_products_at_once_are_each_alone() -> None:
    product = stages("tanh", "gaussian", [50] * 5)
    together = singular([product[: k + 1] for k in range(4)])
    for k, law in enumerate(together):
        alone = singular([product[: k + 1]])[0]
        for share in (0.1, 0.5, 0.9):
            assert law.quantile(share) == pytest.approx(alone.quantile(share), rel=1e-6)
