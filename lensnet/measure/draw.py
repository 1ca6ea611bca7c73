"""Random draws that depend on (seed, component, tensor) alone.

Every tensor has a generator of its own, seeded by a hash of those three, and is drawn on the CPU in float32. So a draw
depends neither on the order of the components, nor on the device, the dtype or what else the network holds: the same
seed is the same network everywhere.
"""

from __future__ import annotations

from hashlib import blake2b
from math import erf, exp, pi, prod, sqrt

import torch
from torch import Tensor

from lensnet.network.weights import WeightLaw

_CUT = 2.0
_INSIDE = erf(_CUT / sqrt(2.0))
# Standard deviation of N(0, 1) cut at +-2: 1 - 2*c*phi(c)/(2*Phi(c) - 1), under a root.
TRUNCATED_STD = sqrt(1.0 - 2.0 * _CUT * exp(-(_CUT**2) / 2.0) / sqrt(2.0 * pi) / _INSIDE)


def generator(seed: int, path: str, tensor: str) -> torch.Generator:
    """The generator of one tensor: a CPU generator seeded by a stable hash of (seed, component path, tensor name)."""
    digest = blake2b(f"{seed}\0{path}\0{tensor}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_weight(
    law: WeightLaw,
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    output_axis: int = 0,
) -> Tensor:
    """One weight tensor of the given shape, with the variance of `law`, on the CPU.

    `output_axis` is the axis of the output units: an orthogonal draw makes the matrix (outputs, all the rest) have
    orthonormal rows or columns, whichever are fewer, times the scale that gives the entries the mean square
    `law.variance`. A truncated normal is cut at two standard deviations and rescaled to the asked variance.
    """
    std = sqrt(law.variance)
    if law.distribution == "normal":
        out = torch.randn(shape, generator=generator).mul_(std)
    elif law.distribution == "uniform":
        out = torch.rand(shape, generator=generator).mul_(2.0).sub_(1.0).mul_(sqrt(3.0) * std)
    elif law.distribution == "truncated_normal":
        uniform = torch.rand(shape, generator=generator).mul_(2.0).sub_(1.0)
        out = torch.erfinv(uniform.mul_(_INSIDE)).mul_(sqrt(2.0) * std / TRUNCATED_STD)
    elif law.distribution == "orthogonal":
        out = _orthogonal(shape, generator, output_axis).mul_(std)
    else:
        raise ValueError(f"unknown distribution {law.distribution!r}")
    return out.to(dtype)


def draw_bias(
    law: WeightLaw, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """One bias tensor: the constant `law.bias_mean` plus noise of standard deviation `law.bias_std`."""
    if law.bias_std == 0.0:
        return torch.full(shape, law.bias_mean, dtype=dtype)
    if law.bias_distribution == "normal":
        noise = torch.randn(shape, generator=generator)
    else:
        noise = torch.rand(shape, generator=generator).mul_(2.0).sub_(1.0).mul_(sqrt(3.0))
    return noise.mul_(law.bias_std).add_(law.bias_mean).to(dtype)


def _orthogonal(shape: tuple[int, ...], generator: torch.Generator, output_axis: int) -> Tensor:
    """Haar-distributed orthonormal rows or columns, scaled to a mean square of one per entry."""
    rows = shape[output_axis]
    columns = prod(shape) // rows
    tall = max(rows, columns)
    gauss = torch.randn((tall, min(rows, columns)), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    # The signs make the distribution uniform (Haar): a bare QR favours one sign of the diagonal.
    q = q * torch.sign(torch.diagonal(r))
    matrix = q if rows >= columns else q.T
    rest = shape[:output_axis] + shape[output_axis + 1 :]
    return matrix.reshape(rows, *rest).movedim(0, output_axis).mul(sqrt(tall)).to(torch.float32).contiguous()
