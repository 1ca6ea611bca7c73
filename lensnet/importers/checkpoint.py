"""Weights from a file: safetensors, or a state_dict read by torch without running anything that it contains."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lensnet.measure.errors import MeasureError

_WRAPPED = ("state_dict", "model", "model_state_dict")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor. Raises MeasureError for a file that is missing, damaged, or holds other things than tensors."""
    path = Path(path)
    if not path.is_file():
        raise MeasureError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise MeasureError("reading .safetensors needs the package safetensors") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MeasureError(
            f"{path.name} is no plain file of tensors, and nothing in it was run: {first[:160]}"
        ) from None
    except Exception as error:  # safetensors has an error of its own
        raise MeasureError(f"{path.name} cannot be read: {error}") from None
    for key in _WRAPPED:
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not all(torch.is_tensor(value) for value in data.values()):
        raise MeasureError(f"{path.name} holds no state_dict (names and tensors)")
    return dict(data)


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a file into a model of the same shapes. Raises MeasureError naming what does not fit."""
    tensors = read_checkpoint(path)
    try:
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise MeasureError(f"{Path(path).name} does not fit the model: {' '.join(str(error).split())[:300]}") from None
    if len(missing) == len(model.state_dict()):
        names = ", ".join(list(unknown)[:3])
        raise MeasureError(f"{Path(path).name} has none of the model's weights (it has {names}, ...)")
