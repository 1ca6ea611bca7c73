"""Numbers of Gram matrices and spectra against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.quantities import spectra
from lensnet.quantities.gram import correlation, position_cosine
from lensnet.quantities.rows import RowSample, row_sample


def test_rows_are_spread_over_examples_first() -> None:
    assert row_sample(32, ()) == RowSample(32, (0,))
    assert row_sample(500, (7, 7)).count == 128 and row_sample(500, (7, 7)).places == (24,)
    few = row_sample(4, (100,))
    assert few.examples == 4 and len(few.places) == 32 and few.count == 128
    assert np.ptp(np.diff(few.places)) <= 1 and few.places[0] >= 0 and few.places[-1] < 100


@pytest.mark.parametrize("positions", [(56, 56), (32, 32), (27, 64), (7, 9), (8, 16, 16), (5, 4, 12)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16, 25, 32, 50, 128, 10_000])
def test_places_are_spread_over_every_axis(positions: tuple[int, ...], count: int) -> None:
    """Distinct, and on every axis no gap is much longer than it is between as many evenly spaced places."""
    places = row_sample(1, positions, count).places
    kept = min(count, int(np.prod(positions)))
    assert (
        len(set(places)) == kept
        and places == tuple(sorted(places))
        and 0 <= places[0] <= places[-1] < np.prod(positions)
    )
    for axis, size in zip(np.unravel_index(places, positions), positions, strict=True):
        taken = np.unique(axis)
        gaps = np.diff(np.concatenate([taken, [taken[0] + size]]))
        assert gaps.max() <= np.ceil(3 * size / min(kept, size)), (axis, gaps)


def test_correlations_of_a_product_structure() -> None:
    """G = A (x) B has the cosines of A between examples and those of B between positions."""
    a, b = np.array([[2.0, 0.6], [0.6, 0.5]]), np.array([[1.0, -0.3], [-0.3, 4.0]])
    sample = RowSample(2, (0, 1))
    gram = np.kron(a, b)
    assert correlation(gram, sample) == pytest.approx(0.6, rel=1e-12)
    assert position_cosine(gram, sample) == pytest.approx(-0.15, rel=1e-12)


def test_rows_without_energy_have_no_direction() -> None:
    gram = np.diag([1.0, 0.0, 1.0])
    gram[0, 2] = gram[2, 0] = 0.5
    assert correlation(gram, RowSample(3, (0,))) == pytest.approx(0.5)
    assert np.isnan(correlation(np.zeros((2, 2)), RowSample(2, (0,))))


def test_equal_eigenvalues_count_themselves() -> None:
    flat = np.array([3.0] * 5 + [0.0] * 3)
    for measure in (spectra.rank, spectra.stable_rank, spectra.effective_rank, spectra.participation_ratio):
        assert measure(flat) == pytest.approx(5.0)


def test_coding_rate_is_the_log_determinant() -> None:
    """Against 1/2 logdet(I + d/(m eps^2) Z^T Z) of columns on the sphere, from the other side of the matrix."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((40, 12))
    z /= np.linalg.norm(z, axis=1, keepdims=True)  # rows are samples of unit length, d = 12
    direct = 0.5 * np.linalg.slogdet(np.eye(12) + 12 / (40 * 0.5) * z.T @ z)[1]
    features = z * np.sqrt(12)  # as a network has them: unit second moment per channel
    assert spectra.coding_rate(spectra.spectrum_of(features @ features.T / 12), 12) == pytest.approx(direct, rel=1e-12)


def test_what_is_not_finite_is_no_number() -> None:
    assert np.isnan(spectra.spectrum_of(np.array([[np.inf, 0.0], [0.0, 1.0]]))).all()
    assert np.isnan(spectra.rank(np.full(2, np.nan)))
    assert np.isnan(spectra.stable_rank(np.zeros(3)))
