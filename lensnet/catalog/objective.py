"""An objective's formulas as programs: its modes, their gradient and curvature, and its quantities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.derivative import derivative
from lensnet.algebra.linear_product import product_curvatures, product_error, product_slope
from lensnet.algebra.tape import Tape, compile_tape
from lensnet.catalog.effects import CompiledFormula, EffectModel
from lensnet.expressions.arithmetic import add
from lensnet.expressions.tree import NAN, Expr
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.objective_spec import ObjectiveSpec
from lensnet.language.symbols import ITERATE, NOISE, PROBLEM_SYMBOLS, mode_symbols

__all__ = ["ITERATE", "NOISE", "OPERATORS", "PROBLEM_SYMBOLS", "Modes", "ObjectiveModel"]

Modes = NDArray[np.float64]
"""One number for every mode, flat: pairs are counted row by row. Of a noisy state `(draws, modes)`."""

OPERATORS: Mapping[str, Callable[..., Any]] = {
    "sum_modes": lambda x: np.sum(np.atleast_1d(x), axis=-1, keepdims=True),
    "max_modes": lambda x: np.max(np.atleast_1d(x), axis=-1, keepdims=True),
    "min_modes": lambda x: np.min(np.atleast_1d(x), axis=-1, keepdims=True),
    "first_mode": lambda x: np.atleast_1d(x)[..., :1],
    "last_mode": lambda x: np.atleast_1d(x)[..., -1:],
    "entry": lambda x, n: np.atleast_1d(x)[..., int(np.ravel(n)[0]), None],
    "product_error": product_error,
    "product_slope": product_slope,
    "product_largest": lambda w, outputs, inputs: product_curvatures(w, outputs, inputs)[0],
    "product_smallest": lambda w, outputs, inputs: product_curvatures(w, outputs, inputs)[1],
}
"""Over the modes, the last axis; what is in front of it (draws of a noisy state) stays."""


class ObjectiveModel:
    """Values of an objective's formulas at given coordinates.

    Every method takes `env`: parameters and spectrum by name, and the coordinates, each a number or an array over the
    modes. Gradient, Hessian and curvature are derived from the loss and the residual of a mode.
    """

    def __init__(self, spec: ComponentSpec, objective: ObjectiveSpec) -> None:
        self.spec = objective
        self.coordinates = tuple(objective.coordinates)
        self._symbols = frozenset(mode_symbols(spec))
        self._let = tuple({**objective.per_mode, **spec.let}.items())

    @cached_property
    def quantities(self) -> dict[str, EffectModel]:
        """What is predicted at every step."""
        return {
            name: EffectModel(
                name,
                self._formula(quantity.formula),
                None if quantity.error in (None, "0") else self._formula(str(quantity.error)),
                tuple(quantity.cites),
                quantity.about,
                floor_formula=None if quantity.floor is None else self._formula(quantity.floor),
            )
            for name, quantity in self.spec.quantities.items()
        }

    def error(self, env: Mapping[str, Any]) -> Modes | None:
        """What the solution makes zero, in every mode."""
        return None if self._error is None else self._of_modes(self._error, env)

    def remaining(self, env: Mapping[str, Any]) -> Modes:
        """What is still missing in every mode, as a share of what has to be found there; NaN where that is nothing."""
        return self._of_modes(self._remaining, env)

    def gradient(self, env: Mapping[str, Any]) -> dict[str, Modes]:
        """Derivative of a mode's loss by each of its coordinates."""
        slopes = self._declared_slopes if self.spec.gradient else self._slopes
        return {name: self._of_modes(tape, env) for name, tape in slopes.items()}

    def hessian(self, env: Mapping[str, Any]) -> NDArray[np.float64]:
        """Second derivatives of a mode's loss, `(modes, coordinates, coordinates)`; NaN where modes mix."""
        if self.spec.gradient:
            return np.full((*self._shape(env), len(self.coordinates), len(self.coordinates)), np.nan)
        rows = [[self._of_modes(tape, env) for tape in row] for row in self._second_slopes]
        return np.moveaxis(np.array(rows), (0, 1), (-2, -1))

    def curvature(self, env: Mapping[str, Any]) -> Modes:
        """Of every mode: sum over its coordinates of (d residual/dz)**2, the eigenvalue of J J^T; NaN without one."""
        if self.spec.residual is None or self.spec.gradient:
            return np.full(self._shape(env), np.nan)
        total = np.zeros(self._shape(env))
        for tape in self._residual_slopes:
            total = total + self._of_modes(tape, env) ** 2
        return total

    def extremes(self, env: Mapping[str, Any]) -> dict[str, Any]:
        """lam_largest, lam_smallest, lam_peak (one for every draw) and hessian_smallest; `env` holds `lam` too."""
        out: dict[str, Any] = {}
        for name, formula in self._extremes.items():
            out[name] = _plain(formula.evaluate({**env, **out}, OPERATORS))
        solution = out.pop("solution")
        out["lam_peak"] = _plain(np.maximum(out["lam_largest"], solution))
        hessian = self.hessian(env)
        usable = bool(np.all(np.isfinite(hessian)))
        out["hessian_smallest"] = float(np.min(np.linalg.eigvalsh(hessian))) if usable else float("nan")
        return out

    @cached_property
    def slopes(self) -> dict[str, tuple[Expr, Expr]]:
        """For every coordinate the derivative of a mode's loss by it, and the curvature of the mode, as formulas.

        Empty where modes mix.
        """
        if self.spec.gradient:
            return {}
        loss = self._formula("loss").tree
        curvature: Expr = NAN
        if self.spec.residual is not None:
            residual = self._formula("residual").tree
            curvature = add(*(derivative(residual, name) ** 2 for name in self.coordinates))
        return {name: (derivative(loss, name), curvature) for name in self.coordinates}

    @cached_property
    def _error(self) -> Tape | None:
        return None if self.spec.error is None else self._formula("error").tape

    @cached_property
    def _remaining(self) -> Tape:
        return self._formula("abs(error/target)").tape

    @cached_property
    def _extremes(self) -> dict[str, CompiledFormula]:
        given = self.spec.curvature
        texts = {"lam_largest": given.largest, "lam_smallest": given.smallest, "solution": given.solution}
        return {name: self._formula(text) for name, text in texts.items()}

    @cached_property
    def _declared_slopes(self) -> dict[str, Tape]:
        return {name: self._formula(text).tape for name, text in self.spec.gradient.items()}

    @cached_property
    def _slopes(self) -> dict[str, Tape]:
        return {name: compile_tape(slope) for name, (slope, _) in self.slopes.items()}

    @cached_property
    def _second_slopes(self) -> list[list[Tape]]:
        return [[first.derivative(name) for name in self.coordinates] for first in self._slopes.values()]

    @cached_property
    def _residual_slopes(self) -> list[Tape]:
        residual = self._formula("residual").tree
        return [compile_tape(derivative(residual, name)) for name in self.coordinates]

    def _formula(self, text: str) -> CompiledFormula:
        return CompiledFormula(text, self._symbols, self._let)

    def _of_modes(self, tape: Tape, env: Mapping[str, Any]) -> Modes:
        values = tape({name: env.get(name, np.nan) for name in tape.symbols}, operators=OPERATORS)
        if self.spec.gradient:  # what is not of the iterate's own shape stays so
            return np.asarray(values, dtype=float)
        return np.broadcast_to(values, self._shape(env)).astype(float)

    def _shape(self, env: Mapping[str, Any]) -> tuple[int, ...]:
        coordinates = (np.shape(env[name]) for name in self.coordinates if name in env)
        return np.broadcast_shapes((int(env["modes"]),), *coordinates)


def _plain(value: Any) -> Any:
    """A number where there is only one."""
    return float(np.ravel(value)[0]) if np.size(value) == 1 else np.asarray(value, dtype=float)
