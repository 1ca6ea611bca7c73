"""What law a given weight tensor was drawn from, read off its numbers.

A fresh tensor is recognised by its first moments: mean zero, and the kurtosis of a uniform, normal or truncated normal
law. Its standard deviation is set to a known one (torch's default, He, Glorot, LeCun, a round number) where it lies
within the sampling error of that one. Tensors that are constant keep their value. What is neither is called structured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

import torch
from torch import Tensor

from lensnet.measure.draw import draw_weight, generator
from lensnet.network.weights import EXCESS_KURTOSIS, Distribution, WeightLaw

_SAMPLE = 1 << 17
_SIGMAS = 5.0


@dataclass(frozen=True)
class TensorLaw:
    """`kind`: constant (all entries `mean`), random (independent entries), structured (neither), or unknown (no
    values). `known`: the std is that of a known scheme, not a measured one."""

    kind: Literal["constant", "random", "structured", "unknown"]
    mean: float = 0.0
    std: float = 0.0
    distribution: Distribution = "normal"
    known: str = ""

    @property
    def second_moment(self) -> float:
        return self.mean**2 + self.std**2


def law_of(tensor: Tensor) -> TensorLaw:
    """The law of one tensor. Reads at most 131,072 of its entries; a tensor on the meta device has none."""
    if tensor.is_meta or not tensor.is_floating_point() or tensor.numel() == 0:
        return TensorLaw("unknown")
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // _SAMPLE)
    sample = flat[::step][:_SAMPLE].double()
    mean, std = float(sample.mean()), float(sample.std(correction=0))
    if not (torch.isfinite(sample).all()):
        return TensorLaw("structured", mean, std)
    if std <= 1e-12 * max(1.0, abs(mean)):
        return TensorLaw("constant", float(flat[0]))
    count = sample.numel()
    centred = (sample - mean) / std
    kurtosis = float(centred.pow(4).mean()) - 3.0
    skew = float(centred.pow(3).mean())
    extreme = float(centred.abs().max())
    if count < 8:
        return TensorLaw("random", 0.0, sqrt(mean**2 + std**2))
    noise = sqrt(24.0 / count)
    offset = abs(mean) > _SIGMAS * std / sqrt(count)
    distribution: Distribution = "normal"
    if extreme <= sqrt(3.0) * 1.02 + 2 / sqrt(count) and abs(kurtosis + 1.2) < _SIGMAS * noise + 0.05:
        distribution = "uniform"
    elif abs(kurtosis - EXCESS_KURTOSIS["truncated_normal"]) < 0.1 and extreme < 2.4 and count > 4096:
        distribution = "truncated_normal"
    elif abs(kurtosis) > _SIGMAS * noise + 0.02 or abs(skew) > _SIGMAS * sqrt(6.0 / count) + 0.02:
        return TensorLaw("structured", mean, std)
    shape = tuple(tensor.shape)
    if len(shape) >= 2 and not offset and not _alike(tensor):
        return TensorLaw("structured", mean, std)
    if len(shape) >= 2 and not offset:
        mean = 0.0
        std, known = _known(std, shape, count, kurtosis)
        if distribution == "normal" and _orthogonal(tensor):
            distribution = "orthogonal"
        return TensorLaw("random", mean, std, distribution, known)
    if not offset:
        mean = 0.0
        std, known = _known(std, shape, count, kurtosis)
        return TensorLaw("random", mean, std, distribution, known)
    return TensorLaw("random", mean, std, distribution)


def draw(law: TensorLaw, like: Tensor, seed: int, name: str) -> Tensor:
    """Fresh numbers from a law in the shape and type of a tensor."""
    source = generator(seed, name, "weight")
    made = draw_weight(WeightLaw(1, 1, law.std**2, law.distribution), tuple(like.shape), source, torch.float32)
    return (made + law.mean).to(like)


def with_biases(laws: dict[str, TensorLaw], parameters: Mapping[str, Tensor]) -> dict[str, TensorLaw]:
    """A bias is too short to show its law: beside a weight of torch's default it has that default's, if it may."""
    out = dict(laws)
    for name, law in laws.items():
        stem, dot, last = name.rpartition(".")
        weight = f"{stem}{dot}{last.replace('bias', 'weight')}"
        if "bias" in last and laws.get(weight, law).known == "torch" and law.kind == "random" and weight != name:
            std, count = laws[weight].std, parameters[name].numel()
            if abs(law.std / std - 1) < 4 / sqrt(count):
                out[name] = TensorLaw("random", 0.0, std, "uniform", "torch")
    return out


def _known(std: float, shape: tuple[int, ...], count: int, kurtosis: float) -> tuple[float, str]:
    """The standard deviation of a known scheme where the measured one cannot be told from it."""
    if len(shape) < 2:
        return std, ""
    rows = shape[0]
    fan_in = prod(shape[1:])
    fan_out = rows * (prod(shape[2:]) if len(shape) > 2 else 1)
    candidates = {
        "torch": sqrt(1 / (3 * fan_in)),
        "he": sqrt(2 / fan_in),
        "he, fan out": sqrt(2 / fan_out),
        "glorot": sqrt(2 / (fan_in + fan_out)),
        "lecun": sqrt(1 / fan_in),
        "unit": 1.0,
        "round": float(f"{std:.1g}"),
    }
    allowed = 4 * sqrt((kurtosis + 2) / (4 * count))
    for name, value in candidates.items():
        if abs(std / value - 1) < allowed:
            return value, name
    return std, ""


def _alike(tensor: Tensor) -> bool:
    """Whether rows and columns have one standard deviation: chance gives their squares a relative variance of about
    (kurtosis + 2)/entries, training gives far more."""
    matrix = tensor.detach().reshape(tensor.shape[0], -1)
    if min(matrix.shape) < 8:
        return True
    matrix = matrix[: 1 << 11, : 1 << 11].float()
    for axis in (0, 1):
        power = matrix.square().mean(axis)
        if float(power.var() / power.mean().square()) > 6 * 2.0 / matrix.shape[axis] + 1e-3:
            return False
    return True


def _orthogonal(tensor: Tensor) -> bool:
    matrix = tensor.detach().reshape(tensor.shape[0], -1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    few = matrix[:32].double()
    if len(few) < 4 or matrix.shape[1] < 8:
        return False
    gram = few @ few.T
    gram = gram / gram.diagonal().mean()
    return bool((gram - torch.eye(len(few), dtype=gram.dtype, device=gram.device)).abs().max() < 1e-4)
