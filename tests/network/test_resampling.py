"""The weights of an interpolation against torch's own, one axis at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lensnet.network.geometry import Filter
from lensnet.network.resampling import weights

SIZES = [(5, 10), (5, 8), (7, 3), (4, 4), (1, 6), (6, 1)]
MODES: list[tuple[Filter, str, bool]] = [
    ("nearest", "nearest", False), ("nearest_exact", "nearest-exact", False), ("area", "area", False),
    ("linear", "bilinear", False), ("linear", "bilinear", True), ("cubic", "bicubic", False),
    ("cubic", "bicubic", True),
]  # fmt: skip


@pytest.mark.parametrize(("filter", "mode", "corners"), MODES)
@pytest.mark.parametrize(("size", "size_out"), SIZES)
def test_a_picture_is_interpolated_as_torch_does_it(
    filter: Filter, mode: str, corners: bool, size: int, size_out: int
) -> None:
    pulses = torch.eye(size, dtype=torch.float64).view(size, 1, size, 1)
    aligned = corners if mode in ("bilinear", "bicubic") else None
    wanted = F.interpolate(pulses, (size_out, 1), mode=mode, align_corners=aligned)[:, 0, :, 0].T
    found = weights(filter, size, size_out, corners)
    assert np.allclose(found, wanted.numpy(), atol=1e-6)
    assert np.allclose(found.sum(axis=1), 1)
