"""An objective's formulas as programs: its modes, their gradient and curvature, and its quantities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from lensnet.algebra.derivative import derivative
from lensnet.algebra.tape import Tape, compile_tape
from lensnet.catalog.effects import CompiledFormula, EffectModel
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.objective_spec import ObjectiveSpec
from lensnet.language.symbols import ITERATE, PROBLEM_SYMBOLS, mode_symbols

__all__ = ["ITERATE", "OPERATORS", "PROBLEM_SYMBOLS", "Modes", "ObjectiveModel"]

Modes = NDArray[np.float64]
"""One number for every mode, flat: pairs are counted row by row."""

OPERATORS: Mapping[str, Callable[[Any], Any]] = {
    "sum_modes": lambda x: np.sum(x),
    "max_modes": lambda x: np.max(x),
    "min_modes": lambda x: np.min(x),
    "first_mode": lambda x: np.ravel(x)[0],
    "last_mode": lambda x: np.ravel(x)[-1],
}


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

    def gradient(self, env: Mapping[str, Any]) -> dict[str, Modes]:
        """Derivative of a mode's loss by each of its coordinates."""
        return {name: self._of_modes(tape, env) for name, tape in self._slopes.items()}

    def hessian(self, env: Mapping[str, Any]) -> NDArray[np.float64]:
        """Second derivatives of a mode's loss, `(modes, coordinates, coordinates)`."""
        rows = [[self._of_modes(tape, env) for tape in row] for row in self._second_slopes]
        return np.moveaxis(np.array(rows), -1, 0)

    def curvature(self, env: Mapping[str, Any]) -> Modes:
        """Of every mode: sum over its coordinates of (d residual/dz)**2, the eigenvalue of J J^T; NaN without one."""
        if self.spec.residual is None:
            return np.full(_modes(env), np.nan)
        total = np.zeros(_modes(env))
        for tape in self._residual_slopes:
            total = total + self._of_modes(tape, env) ** 2
        return total

    def extremes(self, env: Mapping[str, Any]) -> dict[str, float]:
        """lam_largest, lam_smallest, lam_peak and hessian_smallest; `env` holds `lam` too."""
        out: dict[str, float] = {}
        for name, formula in self._extremes.items():
            out[name] = float(formula.evaluate({**env, **out}, OPERATORS))
        solution = out.pop("solution")
        out["lam_peak"] = max(out["lam_largest"], solution)
        hessian = self.hessian(env)
        usable = bool(np.all(np.isfinite(hessian)))
        out["hessian_smallest"] = float(np.min(np.linalg.eigvalsh(hessian))) if usable else float("nan")
        return out

    @cached_property
    def symbolic(self) -> dict[str, tuple[sp.Expr, sp.Expr]]:
        """For every coordinate the derivative of a mode's loss by it, and the curvature of the mode, as formulas."""
        loss, curvature = self._formula("loss").expression, sp.nan
        if self.spec.residual is not None:
            residual = self._formula("residual").expression
            curvature = sp.Add(*(derivative(residual, name) ** 2 for name in self.coordinates))
        return {name: (derivative(loss, name), curvature) for name in self.coordinates}

    @cached_property
    def _error(self) -> Tape | None:
        return None if self.spec.error is None else self._formula("error").tape

    @cached_property
    def _extremes(self) -> dict[str, CompiledFormula]:
        given = self.spec.curvature
        texts = {"lam_largest": given.largest, "lam_smallest": given.smallest, "solution": given.solution}
        return {name: self._formula(text) for name, text in texts.items()}

    @cached_property
    def _slopes(self) -> dict[str, Tape]:
        return {name: compile_tape(slope) for name, (slope, _) in self.symbolic.items()}

    @cached_property
    def _second_slopes(self) -> list[list[Tape]]:
        return [[first.derivative(name) for name in self.coordinates] for first in self._slopes.values()]

    @cached_property
    def _residual_slopes(self) -> list[Tape]:
        residual = self._formula("residual").expression
        return [compile_tape(derivative(residual, name)) for name in self.coordinates]

    def _formula(self, text: str) -> CompiledFormula:
        return CompiledFormula(text, self._symbols, self._let)

    @staticmethod
    def _of_modes(tape: Tape, env: Mapping[str, Any]) -> Modes:
        return np.broadcast_to(tape({name: env.get(name, np.nan) for name in tape.symbols}), _modes(env)).astype(float)


def _modes(env: Mapping[str, Any]) -> int:
    return int(env["modes"])
