"""What a model is called with: from a size, or from the user's own tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class InputRefused(ValueError):
    """The description of the input cannot be read; the message says what would."""


Size = Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Arguments:
    """One call of a model: positional and named arguments."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def call_of(
    model: nn.Module, input_size: Size | None, input_data: Any, seed: int = 0
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The ways in which the model may be called, the likeliest first: (positional arguments, named arguments).

    input_data: a tensor, a tuple or list of arguments, a mapping of named ones, or `Arguments` with both. input_size:
    one size (the examples first) or several; token ids are drawn where the model begins with an embedding, else
    standard normal numbers. Raises InputRefused.
    """
    if (input_size is None) == (input_data is None):
        raise InputRefused("give either input_size (the examples first, as 8x3x224x224) or input_data")
    if input_data is not None:
        if isinstance(input_data, Arguments):
            return [(input_data.args, dict(input_data.kwargs))]
        if isinstance(input_data, Mapping) or hasattr(input_data, "keys"):
            return [((), {key: input_data[key] for key in input_data.keys()})]
        return [(tuple(input_data) if isinstance(input_data, tuple | list) else (input_data,), {})]
    sizes = _sizes(input_size)
    device = device_of(model)
    source = torch.Generator().manual_seed(seed)
    floats = [torch.randn(size, generator=source).to(device) for size in sizes]
    vocabulary = vocabulary_of(model)
    if vocabulary is None or any(len(size) != 2 for size in sizes):
        return [(tuple(floats), {})]
    ids = [torch.randint(vocabulary, size, generator=source).to(device) for size in sizes]
    named = _named(model, ids)
    return [named, (tuple(floats), {})] if named is not None else [(tuple(ids), {}), (tuple(floats), {})]


def _sizes(given: Any) -> list[tuple[int, ...]]:
    given = list(given)
    many = bool(given) and all(isinstance(one, Sequence | torch.Size) for one in given)
    sizes = [tuple(int(n) for n in one) for one in (given if many else [given])]
    if not sizes or any(not size or min(size) < 1 for size in sizes):
        raise InputRefused(f"{given} is no size: give positive whole numbers, the examples first")
    return sizes


def device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def vocabulary_of(model: nn.Module) -> int | None:
    """How many token ids the model knows; None where it does not begin with an embedding."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            return None
        if isinstance(module, nn.Embedding):
            size = getattr(getattr(model, "config", None), "vocab_size", None)
            return int(size) if isinstance(size, int) else int(module.num_embeddings)
    return None


def _named(model: nn.Module, ids: list[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Names by which Hugging Face models take token ids."""
    known = inspect.signature(model.forward).parameters
    if "input_ids" not in known:
        return None
    named = {"input_ids": ids[0]}
    if "decoder_input_ids" in known and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        named["decoder_input_ids"] = ids[-1]
    return (), named
