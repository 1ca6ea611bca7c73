"""Where and how a measurement runs: the device, the number format, and torch's global state left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lensnet.measure.errors import DeviceError, MeasureError

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one. Raises `DeviceError` for one that is asked for and absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"no device is called {name!r}; use auto, cpu or cuda") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device {name!r} is not supported; use auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise DeviceError("a GPU was asked for (device cuda), but torch sees none; use --device cpu")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was asked for, but torch sees {torch.cuda.device_count()} GPU(s)")
    return device


def choose_dtype(name: str = "float32") -> torch.dtype:
    """The torch dtype of a name. Raises `MeasureError` for an unknown one."""
    if name not in DTYPES:
        raise MeasureError(f"unknown dtype {name!r}; use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def unit_roundoff(name: str) -> float:
    """Largest relative error of rounding to a number format: half the distance from 1 to the next number."""
    return torch.finfo(choose_dtype(name)).eps / 2


@contextmanager
def quiet_state(device: torch.device) -> Iterator[None]:
    """Run with torch's random state, cuDNN and TF32 settings of our own; the caller's are restored afterwards.

    float32 means float32: TF32 would round every product to ten bits, a systematic 1e-3.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    matmul = torch.backends.cuda.matmul.allow_tf32
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = matmul


_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device (or the host) ran out of memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def release(device: torch.device) -> None:
    """Hand the GPU memory that torch keeps for reuse back to the driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
