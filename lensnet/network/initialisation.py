"""From `gain`, `std` or `init` in a spec to the law that a weight tensor is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from lensnet.network.weights import Distribution, WeightLaw

INIT_PARAMETERS = ("gain", "std", "init", "bias", "bias_std")
INIT_ABOUT = {
    "gain": "weight std = gain / sqrt(fan_in); multiplies the scheme's own scale when `init` names one",
    "std": "weight standard deviation, instead of a gain",
    "init": "a named scheme: he, glorot, lecun, orthogonal, truncated_normal, uniform, normal, torch",
    "bias": "constant that every bias starts at",
    "bias_std": "standard deviation of Gaussian biases around `bias`",
}

# scheme -> (distribution, variance of one weight from fan-in and fan-out)
_SCHEMES: dict[str, Distribution] = {
    "he": "normal",  # He et al. 2015: 2 / fan_in
    "glorot": "uniform",  # Glorot and Bengio 2010: 2 / (fan_in + fan_out)
    "lecun": "normal",  # LeCun et al. 1998: 1 / fan_in
    "orthogonal": "orthogonal",  # Saxe et al. 2014: orthonormal rows or columns
    "truncated_normal": "truncated_normal",  # cut at two standard deviations, rescaled to the asked variance
    "uniform": "uniform",
    "normal": "normal",
    "torch": "uniform",  # torch.nn.Linear, Conv: kaiming_uniform(a=sqrt(5)): 1 / (3 fan_in), biases likewise
}
SCHEMES = tuple(_SCHEMES)
_UNSCALED = ("truncated_normal", "uniform", "normal", "orthogonal")


class InitialisationError(ValueError):
    """Contradictory or unknown initialisation; `parameter` is the key to blame, `help` the way out."""

    def __init__(self, message: str, parameter: str, help: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter
        self.help = help


def init_parameter_names(weight: str) -> dict[str, str]:
    """The spec keys that initialise a weight tensor: `gain`, ... for `weight`, `value_gain`, ... for `value`."""
    prefix = "" if weight == "weight" else f"{weight}_"
    return {f"{prefix}{name}": name for name in INIT_PARAMETERS}


def weight_law(weight: str, given: Mapping[str, Any], fan_in: int, fan_out: int, rows: int | None = None) -> WeightLaw:
    """The law of one weight tensor from what the spec gives (already numbers and scheme names).

    `rows`: output units of the tensor read as a matrix (rows, fan_in); it is `fan_out` except for convolutions.
    Raises InitialisationError when the keys contradict each other.
    """
    prefix = "" if weight == "weight" else f"{weight}_"
    values = {name: given[key] for key, name in init_parameter_names(weight).items() if key in given}
    scheme = values.get("init", "normal")
    if scheme not in _SCHEMES:
        raise InitialisationError(f"no initialisation is called {scheme!r}", f"{prefix}init")
    if "std" in values and "gain" in values:
        raise InitialisationError("`std` and `gain` both fix the scale of the weights", f"{prefix}std", "keep one")
    if "std" in values and scheme not in _UNSCALED:
        raise InitialisationError(
            f"`init: {scheme}` fixes the scale of the weights, and so does `std`", f"{prefix}std", "keep one"
        )
    for name in ("gain", "std", "bias_std"):
        if values.get(name, 0) < 0:
            raise InitialisationError(f"`{name}` is negative", f"{prefix}{name}")
    if "std" in values:
        variance = float(values["std"]) ** 2
    else:
        variance = float(values.get("gain", 1.0)) ** 2 * _own_variance(scheme, fan_in, fan_out, rows or fan_out)
    bias_std, bias_law = float(values.get("bias_std", 0.0)), "normal"
    if scheme == "torch" and "bias_std" not in values and "bias" not in values:
        bias_std, bias_law = sqrt(1.0 / (3.0 * fan_in)), "uniform"
    return WeightLaw(
        fan_in=fan_in,
        fan_out=fan_out,
        variance=variance,
        distribution=_SCHEMES[scheme],
        bias_mean=float(values.get("bias", 0.0)),
        bias_std=bias_std,
        bias_distribution="uniform" if bias_law == "uniform" else "normal",
    )


def _own_variance(scheme: str, fan_in: int, fan_out: int, rows: int) -> float:
    if scheme == "he":
        return 2.0 / fan_in
    if scheme == "glorot":
        return 2.0 / (fan_in + fan_out)
    if scheme == "torch":
        return 1.0 / (3.0 * fan_in)
    if scheme == "orthogonal":
        return 1.0 / max(fan_in, rows)
    return 1.0 / fan_in
