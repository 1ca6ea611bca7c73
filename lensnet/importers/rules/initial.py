"""The initialisation keys of a spec for a weight tensor, from its law."""

from __future__ import annotations

from math import sqrt
from typing import Any

from lensnet.importers.laws import TensorLaw


def initial(weight: TensorLaw, bias: TensorLaw | None, fan_in: int, prefix: str = "") -> dict[str, Any]:
    """The initialisation keys of a spec for a weight tensor and its bias, from their laws."""
    default = sqrt(1.0 / (3.0 * fan_in))
    if weight.kind == "unknown":
        weight = TensorLaw("random", 0.0, default, "uniform", "torch")
    out: dict[str, Any] = {}
    std = sqrt(weight.second_moment)
    if weight.kind == "random" and weight.distribution == "orthogonal":
        out |= {"init": "orthogonal", "std": std}
    elif weight.kind == "random" and weight.distribution == "uniform":
        if weight.known == "torch" and abs(weight.std / default - 1) < 1e-6 and _torch_bias(bias, default):
            return {f"{prefix}init": "torch"}
        out |= {"init": "uniform", "std": std}
    elif weight.kind == "random" and weight.distribution == "truncated_normal":
        out |= {"init": "truncated_normal", "std": std}
    else:
        out["std"] = std
    if bias is not None and bias.kind != "unknown":
        if abs(bias.mean) > 0:
            out["bias"] = bias.mean
        if bias.std > 0:
            out["bias_std"] = bias.std
    return {f"{prefix}{key}": short(value) for key, value in out.items()}


def _torch_bias(bias: TensorLaw | None, default: float) -> bool:
    return bias is not None and (
        bias.kind == "unknown" or (bias.kind == "random" and abs(bias.std / default - 1) < 1e-6)
    )


def short(value: Any) -> Any:
    """A number with seven digits; anything else as it is."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
