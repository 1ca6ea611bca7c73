"""The operation table of a tape for torch. The only module of `algebra` that imports torch; loaded on first use.

Every function takes tensors (constants arrive as 0-dimensional tensors), is differentiable by autograd, and works
under `torch.func.vmap`: no operation looks at the data. Derivatives at kinks follow torch: 1/2 on each side of a tie of
max and min, 0 for abs, sign and step at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LOG_2 = math.log(2.0)
_HALF_TYPES = (torch.float16, torch.bfloat16)


def _softplus(x: Tensor) -> Tensor:
    # functional.softplus switches to x itself above 20, an error of 2e-9 there; this form has no such seam
    return -functional.logsigmoid(-x)


def _sech(x: Tensor) -> Tensor:
    decay = torch.exp(-torch.abs(x))
    return 2.0 * decay / (1.0 + decay * decay)


class _LogCosh(torch.autograd.Function):
    """log(cosh(x)) with gradient tanh(x); written out because the branch near 0 would otherwise meet inf * 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        size = torch.abs(x)
        far = size + torch.log1p(torch.exp(-2.0 * size)) - _LOG_2
        half = torch.sinh(torch.clamp(size, max=1.0) / 2.0)
        return torch.where(size < 1.0, torch.log1p(2.0 * half * half), far)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * torch.tanh(x)


def _log_cosh(x: Tensor) -> Tensor:
    result: Tensor = _LogCosh.apply(x)
    return result


def _gamma(x: Tensor) -> Tensor:
    negative = 1.0 - 2.0 * torch.remainder(torch.ceil(-x), 2.0)
    return torch.where(x > 0, 1.0, negative.detach()) * torch.exp(torch.lgamma(x))


def _step(x: Tensor) -> Tensor:
    return (1.0 + torch.sign(x)) / 2.0


def _guard(mask: Tensor, value: Tensor, fill: Tensor) -> Tensor:
    """`value` where the branch is taken, a harmless constant elsewhere, so that the gradient there is 0 and not NaN."""
    return torch.where(mask, value, fill)


def _polygamma(order: Tensor, x: Tensor) -> Tensor:
    return torch.special.polygamma(int(order), x)


TORCH_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "pow": torch.pow,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "atan2": torch.atan2,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "erf": torch.special.erf,
    "erfc": torch.special.erfc,
    "erfinv": torch.special.erfinv,
    "log_ndtr": torch.special.log_ndtr,
    "gamma": _gamma,
    "loggamma": torch.lgamma,
    "digamma": torch.digamma,
    "polygamma": _polygamma,
    "sigmoid": torch.sigmoid,
    "softplus": _softplus,
    "sech": _sech,
    "logcosh": _log_cosh,
    "abs": torch.abs,
    "sign": torch.sign,
    "step": _step,
    "floor": torch.floor,
    "ceiling": torch.ceil,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "gt": torch.gt,
    "ge": torch.ge,
    "lt": torch.lt,
    "le": torch.le,
    "eq": torch.eq,
    "ne": torch.ne,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    "where": torch.where,
    "guard": _guard,
}


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def as_tensors(values: Mapping[str, Any], names: Sequence[str]) -> tuple[list[Tensor], torch.dtype, torch.device, bool]:
    """The named values as tensors of one floating type and device, and whether results must be cast back to half.

    Half precision is computed in float32 and rounded once at the end, as torch's own fused activations do.
    """
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    dtype = floating[0].dtype if floating else torch.get_default_dtype()
    for tensor in floating[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    device = tensors[0].device if tensors else torch.device("cpu")
    half = dtype in _HALF_TYPES
    working = torch.float32 if half else dtype
    converted = [
        value.to(working) if isinstance(value, Tensor) else torch.as_tensor(value, dtype=working, device=device)
        for value in (values[name] for name in names)
    ]
    return converted, dtype, device, half


def constants_for(constants: Sequence[Any], dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Constants of a program as 0-dimensional tensors (booleans stay boolean); empty registers stay None."""
    working = torch.float32 if dtype in _HALF_TYPES else dtype
    return [
        None
        if value is None
        else torch.tensor(value, device=device, dtype=torch.bool if isinstance(value, bool) else working)
        for value in constants
    ]


def cast_back(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
