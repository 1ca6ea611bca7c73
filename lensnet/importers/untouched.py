"""The user's model stays as it is: what is read, and what is put back afterwards."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "AveragedModel")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, the data-parallel wrappers and averages of weights: the one whose operations
    are named."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and any(kind.__name__ in _WRAPPERS for kind in type(model).__mro__):
            inner = getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def sharded(model: nn.Module) -> bool:
    """Whether this process holds only parts of the weights (DTensor, nested FullyShardedDataParallel)."""
    inner = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    return inner or any(hasattr(tensor, "full_tensor") for tensor in model.parameters())


@contextlib.contextmanager
def untouched(model: nn.Module, training: bool | None = None) -> Iterator[nn.Module]:
    """Work on a model in eval mode (or as `training` says) and leave it as it was, bit for bit.

    Put back: the mode of every module, buffers, the tensors that `.grad` names, hooks set meanwhile by nobody, and the
    random states of torch, numpy and Python. Parameters are read only.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer.is_meta else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    states = random.getstate(), np.random.get_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            if training is not None:
                for module, _ in modes:
                    module.training = training
            yield model
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for module, name, buffer, before in buffers:
                    module._buffers[name] = buffer
                    if before is not None and not _same(buffer, before):
                        buffer.copy_(before)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            random.setstate(states[0])
            np.random.set_state(states[1])


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))) if a.is_floating_point() else torch.equal(a, b)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing on the terminal from the tracers: their warnings, logs, and the graphs that they print when they fail."""
    level = logging.root.manager.disable
    trace = logging.getLogger("torch.__trace")  # hands its records on without asking for a level
    off = trace.disabled
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        trace.disabled = True
        try:
            yield
        finally:
            logging.disable(level)
            trace.disabled = off
