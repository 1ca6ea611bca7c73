"""A quadratic bowl with randomly turned axes."""

from __future__ import annotations

import torch
from torch import Tensor

from lensnet.measure.steps.problem import Problem, problem


@problem("quadratic")
class Quadratic(Problem):
    """f(x) = x^T H x/2 with H = Q diag(lam) Q^T: the minimum is the origin, the axes Q are drawn uniformly."""

    def draw(self) -> None:
        size = self.objective.mode_count
        self.axes = self.frame("axes", size, size)
        self.h = (self.axes * self.spectrum("lam")) @ self.axes.T
        self.eigenvalues = torch.linalg.eigvalsh(self.h)
        self.root = self.spectrum("lam").sqrt()[:, None] * self.axes.T

    def start(self) -> Tensor:
        return self.axes @ (self.signs("side", self.objective.mode_count) * self.declared_start("e"))

    def loss(self, x: Tensor) -> Tensor:
        return x @ self.h @ x / 2

    def residual(self, x: Tensor) -> Tensor:
        return self.root @ x

    def hessian(self, x: Tensor) -> Tensor:
        return self.h

    def jacobian(self, x: Tensor) -> Tensor:
        return self.root

    def curvatures(self, x: Tensor) -> Tensor:
        """Eigenvalues of H: the same everywhere, so they are computed once."""
        return self.eigenvalues

    def error(self, x: Tensor) -> Tensor:
        return x

    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        return {"e": self.axes.T @ x}

    def remaining(self, x: Tensor) -> Tensor:
        return self.axes.T @ x / self.declared_start("e")
