"""The steps themselves: one tensor operation each.

An operation gets the problem, the state (tensors by name: `iterate`, and what the component's `memory:` lists), a
generator for what is drawn at this step, and the component's parameters by name; it returns the tensors that it
changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lensnet.measure.errors import ImplementationError
from lensnet.measure.steps.problem import Problem

ITERATE = "iterate"
Tensors = Mapping[str, Tensor]
Operation = Callable[..., dict[str, Tensor]]

_OPERATIONS: dict[str, Operation] = {}
_MOST_ITERATIONS = 60


def operation(name: str) -> Callable[[Operation], Operation]:
    """Register a step under the name of its `implementation`."""

    def register(step: Operation) -> Operation:
        if name in _OPERATIONS:
            raise ValueError(f"two steps are named {name!r}")
        _OPERATIONS[name] = step
        return step

    return register


def find_operation(name: str, path: str) -> Operation:
    """The registered step. Raises ImplementationError naming the component at `path`."""
    if name not in _OPERATIONS:
        raise ImplementationError(f"{path}: no step is named {name!r}; known: {', '.join(sorted(_OPERATIONS))}")
    return _OPERATIONS[name]


@operation("gradient_descent")
def gradient_descent(problem: Problem, state: Tensors, rate: float, **_: Any) -> dict[str, Tensor]:
    """x - rate*gradient."""
    return {ITERATE: state[ITERATE] - rate * problem.gradient(state[ITERATE])}


@operation("heavy_ball")
def heavy_ball(problem: Problem, state: Tensors, rate: float, momentum: float, **_: Any) -> dict[str, Tensor]:
    """velocity' = momentum*velocity - rate*gradient; x + velocity'."""
    velocity = momentum * state["velocity"] - rate * problem.gradient(state[ITERATE])
    return {ITERATE: state[ITERATE] + velocity, "velocity": velocity}


@operation("levenberg_marquardt")
def levenberg_marquardt(problem: Problem, state: Tensors, damping: float, **_: Any) -> dict[str, Tensor]:
    """x - J^T (J J^T + damping)^-1 residual, which equals x - (J^T J + damping)^-1 gradient."""
    x = state[ITERATE]
    jacobian, residual = problem.jacobian(x), problem.residual(x)
    gram = jacobian @ jacobian.T
    gram.diagonal().add_(damping)
    return {ITERATE: x - jacobian.T @ torch.linalg.solve(gram, residual)}


@operation("proximal")
def proximal(problem: Problem, state: Tensors, rate: float, **_: Any) -> dict[str, Tensor]:
    """The minimum of loss(y) + |y - x|^2/(2 rate) near x, by Newton's method on y - x + rate*gradient(y) = 0."""
    x = y = state[ITERATE]
    identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    before = float("inf")
    for _iteration in range(_MOST_ITERATIONS):
        miss = y - x + rate * problem.gradient(y)
        change = torch.linalg.solve(identity + rate * problem.hessian(y), miss)
        y = y - change
        size = float(change.norm())
        if size <= 4 * torch.finfo(x.dtype).eps * float(y.norm()) or size >= before:
            break  # settled, or at the noise of rounding
        before = size if size < 1e-3 * float(y.norm()) else before
    return {ITERATE: y}
