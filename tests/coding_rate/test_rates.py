"""The rates: against the plain definition, their bounds, their gradient, and as a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lensnet
from lensnet.quantities.coding_rate import mcr2_loss, rates
from lensnet.quantities.subspaces import class_angles, class_geometry, class_rank, gate_entropy, principal_angles
from tests.coding_rate import reference


def cloud(m: int, d: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(m, d, generator=source, dtype=torch.float64), dim=1)


@pytest.mark.parametrize(("m", "d", "eps2"), [(24, 8, 0.1), (10, 40, 0.5), (300, 20, 0.01)])
def test_rates_are_their_definition(m: int, d: int, eps2: float) -> None:
    z = cloud(m, d)
    y = torch.arange(m) % 7 // 2  # four classes of unequal size
    found = rates(z, y, eps2)
    R, Rc = reference.rates(z.numpy().T, y.numpy(), eps2)
    assert float(found.total) == pytest.approx(R, rel=1e-13)
    assert float(found.conditional) == pytest.approx(Rc, rel=1e-13)
    assert float(lensnet.coding_rate(z, eps2)) == pytest.approx(R, rel=1e-13)
    assert R <= d / 2 * np.log(1 + 1 / eps2), "the upper bound for columns of length 1"
    assert Rc >= np.log(1 + d / eps2) / 2, "the lower bound for columns of length 1"


def test_the_gradient_is_that_of_finite_differences_and_of_the_papers_formula() -> None:
    z, y = cloud(20, 6).requires_grad_(), torch.arange(20) % 3
    assert torch.autograd.gradcheck(lambda z: lensnet.rate_reduction(z, y, 0.3), (z,))
    lensnet.rate_reduction(z, y, 0.3).backward()
    columns = z.detach().numpy().T
    labels = y.numpy()
    G = reference.operator(columns, 0.3) @ columns
    for j in range(3):
        G[:, labels == j] -= (
            (labels == j).mean() * reference.operator(columns[:, labels == j], 0.3) @ columns[:, labels == j]
        )
    np.testing.assert_allclose(z.grad.numpy().T, G, atol=1e-14)


def test_a_float32_network_trains_on_it() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(10, 6)
    x, y = cloud(60, 10).float(), torch.arange(60) % 3
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    before = None
    for _ in range(40):
        loss = -lensnet.rate_reduction(torch.nn.functional.normalize(model(x), dim=1), y)
        before = loss.item() if before is None else before
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < before - 0.1


def test_a_hundred_classes_of_unequal_size_need_no_matrix_of_memberships() -> None:
    """One class holds half of the data: padding every class to it would take 100 times the features."""
    y = torch.cat([torch.zeros(500, dtype=torch.long), torch.arange(500) % 100])
    z = cloud(1000, 30)
    assert float(rates(z, y, 0.5).conditional) == pytest.approx(reference.rates(z.numpy().T, y.numpy(), 0.5)[1])
    assert float(mcr2_loss(z, y)) == pytest.approx(-float(lensnet.rate_reduction(z, y)))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="distortion squared"):
        lensnet.coding_rate(cloud(4, 3), 0.0)
    with pytest.raises(ValueError, match="labels"):
        lensnet.rate_reduction(cloud(4, 3), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="integers"):
        lensnet.rate_reduction(cloud(4, 3), torch.zeros(4))
    broken = cloud(4, 3)
    broken[0, 0] = torch.nan
    assert torch.isnan(lensnet.coding_rate(broken))


def test_angles_ranks_and_entropy_in_a_case_known_by_hand() -> None:
    """Two planes that share one line and are perpendicular beside it; a third class on the line at 30 degrees to it."""
    along, left, right = torch.eye(3, dtype=torch.float64)
    tilted = np.cos(np.pi / 6) * along + np.sin(np.pi / 6) * (left + right) / 2**0.5
    a, b = torch.stack([along, left], 1), torch.stack([along, right], 1)
    np.testing.assert_allclose(principal_angles(a, b), [0, np.pi / 2], atol=1e-15)
    z = torch.stack([along, left, along, right, tilted, -tilted])
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    assert class_rank(z, y).tolist() == [2, 2, 1]
    angles = class_angles(z, y)
    assert float(angles[0, 1]) == pytest.approx(0, abs=1e-12)
    assert float(angles[0, 2]) == pytest.approx(np.arcsin(np.sin(np.pi / 6) / 2**0.5), rel=1e-12)
    whole, later, one = class_geometry(z, y), class_geometry(z[2:], y[2:]), class_geometry(z[:2], y[:2])
    assert whole.ranks.tolist() == [2, 2, 1] and float(whole.mean_rank) == pytest.approx(5 / 3)
    assert later.ranks.tolist() == [0, 2, 1] and float(later.mean_rank) == 1.5
    np.testing.assert_allclose([whole.smallest, whole.largest], [0, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose([later.smallest, later.largest], angles[1, 2].expand(2), rtol=1e-12)  # a line has one
    assert np.isnan([one.smallest, one.largest]).all()
    np.testing.assert_allclose(gate_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])), [0, np.log(2)])
