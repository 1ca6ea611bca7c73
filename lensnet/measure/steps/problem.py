"""What the steps of an algorithm work on: one draw of an objective, as functions of the iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian, jvp

from lensnet.measure.draw import generator
from lensnet.measure.errors import ImplementationError
from lensnet.network.graph import INPUT
from lensnet.network.objective import Objective

_PROBLEMS: dict[str, type[Problem]] = {}


class Problem(ABC):
    """One draw of an objective. The iterate is a flat tensor of `objective.component.objective.size` numbers.

    A subclass says where the algorithm starts, what the loss (or the residual) is, and how the iterate looks in the
    coordinates of the modes; gradient, Hessian and Jacobian follow by automatic differentiation.
    """

    def __init__(self, objective: Objective, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        self.objective, self.seed = objective, seed
        self.device, self.dtype = device, dtype
        self.parameters = objective.parameters
        self.draw()

    @abstractmethod
    def draw(self) -> None:
        """Draw what the seed decides: the frame of the modes, signs."""

    @abstractmethod
    def start(self) -> Tensor:
        """The iterate before the first step."""

    def residual(self, x: Tensor) -> Tensor:
        """What a least-squares loss is half the square of, flat. Raises ImplementationError where there is none."""
        raise ImplementationError(f"{self.objective.component.name} is not a sum of squares: it has no residual")

    def loss(self, x: Tensor) -> Tensor:
        """The objective, a number."""
        return self.residual(x).square().sum() / 2

    @abstractmethod
    def error(self, x: Tensor) -> Tensor:
        """What vanishes at the solution, flat."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        """The iterate in the coordinates of the modes, flat, under the names that the objective's file gives them."""

    @abstractmethod
    def remaining(self, x: Tensor) -> Tensor:
        """The error of every mode relative to the size of what has to be found there, flat."""

    def gradient(self, x: Tensor) -> Tensor:
        """dLoss/dx, by automatic differentiation."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(self.loss(leaf), leaf)[0]

    def hessian(self, x: Tensor) -> Tensor:
        """Second derivatives of the loss, `(size, size)`."""
        with torch.enable_grad():
            return hessian(self.loss, x, vectorize=True)

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivatives of the residual, `(residuals, size)`."""
        with torch.enable_grad():
            return jacobian(self.residual, x, vectorize=True)

    def curvatures(self, x: Tensor) -> Tensor:
        """Eigenvalues of J J^T in increasing order: the curvatures along which the residual moves."""
        return torch.linalg.svdvals(self.jacobian(x)).flip(0).square()

    def tangent(self, x: Tensor, move: Tensor) -> dict[str, Tensor]:
        """A change of the iterate in the coordinates of the modes."""
        names = list(self.coordinates(x))

        def stacked(y: Tensor) -> Tensor:
            return torch.stack([self.coordinates(y)[name] for name in names])

        with torch.enable_grad():
            return dict(zip(names, jvp(stacked, x, move)[1], strict=True))

    def spectrum(self, name: str) -> Tensor:
        """A constant of the modes as the objective declares it, flat."""
        return torch.tensor(self.objective.spectrum[name], dtype=self.dtype, device=self.device)

    def declared_start(self, name: str) -> Tensor:
        """A coordinate at the start as the objective declares it, flat."""
        return torch.tensor(self.objective.start[name], dtype=self.dtype, device=self.device)

    def frame(self, name: str, rows: int, columns: int) -> Tensor:
        """Orthonormal columns `(rows, columns)`, uniformly distributed (Haar), drawn for (seed, name)."""
        gauss = torch.randn((rows, columns), generator=generator(self.seed, INPUT, name), dtype=torch.float64)
        q, r = torch.linalg.qr(gauss)
        return self.here(q * torch.sign(torch.diagonal(r)))

    def signs(self, name: str, count: int) -> Tensor:
        """+1 or -1 with equal chance, drawn for (seed, name)."""
        coin = torch.rand(count, generator=generator(self.seed, INPUT, name), dtype=torch.float64) < 0.5
        return self.here(torch.where(coin, 1.0, -1.0))

    def gauss(self, name: str, *shape: int) -> Tensor:
        """iid N(0, 1), drawn for (seed, name)."""
        return self.here(torch.randn(shape, generator=generator(self.seed, INPUT, name), dtype=torch.float64))

    def here(self, value: Tensor) -> Tensor:
        return value.to(device=self.device, dtype=self.dtype)


def problem(name: str) -> Callable[[type[Problem]], type[Problem]]:
    """Register the torch side of an objective under the name of its `implementation`."""

    def register(made: type[Problem]) -> type[Problem]:
        if name in _PROBLEMS:
            raise ValueError(f"two problems are named {name!r}")
        _PROBLEMS[name] = made
        return made

    return register


def problems() -> dict[str, type[Problem]]:
    """All registered problems by name."""
    import lensnet.measure.steps.objectives  # noqa: F401  registers them

    return dict(_PROBLEMS)


def draw_problem(
    objective: Objective, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
) -> Problem:
    """One draw of an objective. Raises ImplementationError when nothing is registered for it."""
    name = objective.component.implementation
    known = problems()
    if name not in known:
        raise ImplementationError(f"{objective.component.name}: no objective is named {name!r}")
    return known[name](objective, seed, torch.device(device), dtype)
