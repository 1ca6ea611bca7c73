"""The two-layer linear network: from an aligned start, from a random one, and near its balanced solution."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from lensnet.measure.steps.problem import Problem, problem


class _TwoLayer(Problem):
    """Loss |(W1 W2 - A) C|_F^2/2 with A = U diag(s) V^T and C = V diag(c) V^T + c_last (1 - V V^T).

    U `(outputs, modes)`, V `(inputs, modes)` and R `(hidden, modes)`, the directions of the layer between, are drawn
    uniformly. The iterate is W1 `(outputs, hidden)` and W2 `(hidden, inputs)`, one after the other.
    """

    def draw(self) -> None:
        given = self.parameters
        self.outputs, self.hidden, self.inputs = int(given["outputs"]), int(given["hidden"]), int(given["inputs"])
        modes = min(self.outputs, self.inputs)
        self.u, self.v = self.frame("outputs", self.outputs, modes), self.frame("inputs", self.inputs, modes)
        self.r = torch.zeros(self.hidden, modes, dtype=self.dtype, device=self.device)
        used = min(self.hidden, modes)
        self.r[:, :used] = self.frame("hidden", self.hidden, used)
        self.strengths = self.singular_values()
        self.target = (self.u * self.strengths) @ self.v.T
        self.colour = self.input_root()

    def singular_values(self) -> Tensor:
        """Of the target, `(modes,)`."""
        raise NotImplementedError

    def input_root(self) -> Tensor | None:
        """Root of the input covariance `(inputs, inputs)`; None where the inputs are white."""
        return None

    def layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """W1 and W2."""
        cut = self.outputs * self.hidden
        return x[:cut].view(self.outputs, self.hidden), x[cut:].view(self.hidden, self.inputs)

    def map_error(self, x: Tensor) -> Tensor:
        """W1 W2 - A."""
        first, second = self.layers(x)
        return first @ second - self.target

    def residual(self, x: Tensor) -> Tensor:
        miss = self.map_error(x)
        return (miss if self.colour is None else miss @ self.colour).reshape(-1)

    def error(self, x: Tensor) -> Tensor:
        return self.map_error(x).reshape(-1)

    def jacobian(self, x: Tensor) -> Tensor:
        """Of R = (W1 W2 - A) C, row by row: 1 (x) (W2 C)^T beside W1 (x) C^T."""
        first, second = self.layers(x)
        eye = torch.eye(self.outputs, dtype=x.dtype, device=x.device)
        colour = torch.eye(self.inputs, dtype=x.dtype, device=x.device) if self.colour is None else self.colour
        return torch.cat(
            [torch.kron(eye, (second @ colour).T.contiguous()), torch.kron(first.contiguous(), colour.T.contiguous())],
            dim=1,
        )

    def balanced(self) -> tuple[Tensor, Tensor]:
        """The solution in which both layers have the root of every singular value."""
        root = self.strengths.sqrt()
        return (self.u * root) @ self.r.T, (self.r * root) @ self.v.T


@problem("two_layer_linear")
class AlignedStart(_TwoLayer):
    """Started along the target's singular directions, strength a in W1 and b in W2; `misalignment` adds noise."""

    def singular_values(self) -> Tensor:
        return self.spectrum("s")

    def input_root(self) -> Tensor | None:
        c = self.spectrum("c")
        if bool((c == 1).all()):
            return None
        rest = torch.eye(self.inputs, dtype=self.dtype, device=self.device) - self.v @ self.v.T
        return (self.v * c) @ self.v.T + c[-1] * rest

    def start(self) -> Tensor:
        first = (self.u * self.declared_start("a")) @ self.r.T
        second = (self.r * self.declared_start("b")) @ self.v.T
        noise = float(self.parameters["misalignment"]) * float(self.parameters["start"]) / sqrt(self.hidden)
        if noise:
            first = first + noise * self.gauss("first", *first.shape)
            second = second + noise * self.gauss("second", *second.shape)
        return torch.cat([first.reshape(-1), second.reshape(-1)])

    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        first, second = self.layers(x)
        return {
            "a": torch.einsum("om,oh,hm->m", self.u, first, self.r),
            "b": torch.einsum("hm,hi,im->m", self.r, second, self.v),
        }

    def remaining(self, x: Tensor) -> Tensor:
        return torch.einsum("om,oi,im->m", self.u, self.map_error(x), self.v) / self.strengths


@problem("two_layer_random")
class RandomStart(_TwoLayer):
    """Every weight drawn from N(0, start^2). Coordinates: the weights in the frame of the target's directions."""

    def draw(self) -> None:
        super().draw()
        self.rows, self.columns = _completed(self.u), _completed(self.v)

    def singular_values(self) -> Tensor:
        return self.spectrum("s")[: min(self.outputs, self.inputs)]

    def start(self) -> Tensor:
        return float(self.parameters["start"]) * self.gauss("weights", self.hidden * (self.outputs + self.inputs))

    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        first, second = self.layers(x)
        return {"w": torch.cat([(self.rows.T @ first).reshape(-1), (second @ self.columns).reshape(-1)])}

    def remaining(self, x: Tensor) -> Tensor:
        return torch.einsum("om,oi,im->m", self.u, self.map_error(x), self.v) / self.strengths


@problem("two_layer_tail")
class NearSolution(_TwoLayer):
    """Started next to the balanced solution, an error +-start along every right singular direction of the Jacobian.

    A mode is a pair (i, j) of an output direction and an input direction, both completed to a full basis; the residual
    of a pair is sqrt(lam) times its error, lam = s_i + s_j.
    """

    def draw(self) -> None:
        super().draw()
        self.rows, self.columns = _completed(self.u), _completed(self.v)
        self.roots = self.spectrum("lam").sqrt().view(self.outputs, self.inputs)

    def singular_values(self) -> Tensor:
        return self.spectrum("s_j")[: min(self.outputs, self.inputs)]

    def start(self) -> Tensor:
        signs = self.signs("side", self.objective.mode_count)
        wanted = (signs * self.declared_start("e")).view(self.outputs, self.inputs)
        first, second = self.balanced()
        inner = self.rows @ (wanted / self.roots) @ self.columns.T  # J^T applied to wanted/sqrt(lam): unit directions
        return torch.cat([(first + inner @ second.T).reshape(-1), (second + first.T @ inner).reshape(-1)])

    def coordinates(self, x: Tensor) -> dict[str, Tensor]:
        return {"e": ((self.rows.T @ self.map_error(x) @ self.columns) / self.roots).reshape(-1)}

    def remaining(self, x: Tensor) -> Tensor:
        return self.coordinates(x)["e"] / self.declared_start("e")


def _completed(frame: Tensor) -> Tensor:
    """An orthonormal basis whose first columns are the given ones."""
    rows, columns = frame.shape
    q, r = torch.linalg.qr(frame, mode="complete")
    q[:, :columns] *= torch.sign(torch.diagonal(r))
    return q
