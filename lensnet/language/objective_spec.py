"""The pydantic model of an objective: what the steps of an algorithm work on, told mode by mode."""

from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from lensnet.language.effect_spec import Effect
from lensnet.language.fields import FormulaText, Spec, SymbolName, refuse

Axes = Annotated[list[FormulaText], Field(min_length=1, max_length=2)]


def _axes_kind(data: Any) -> str:
    return "<axes>" if isinstance(data, list) else "<one>"


class CurvatureSpec(Spec):
    """Extreme curvatures of the whole problem where the modes alone do not tell them: formulas over all modes.

    largest, smallest: at the iterate; solution: the largest at the solution.
    """

    largest: FormulaText = "max_modes(lam)"
    smallest: FormulaText = "min_modes(lam)"
    solution: FormulaText = "lam_largest"


class ObjectiveSpec(Spec):
    """A problem that falls apart into independent modes, in coordinates that its frame (drawn for every seed) defines.

    modes: how many, or two numbers for pairs; in what follows `i` (and `j`) count from 0.
    spectrum: constants of a mode, each may use those before it. coordinates: the iterate in a mode, with its start.
    loss: of one mode; where `residual` is given it is residual**2/2. error: of one mode, zero at the solution; target:
    the size of what has to be found there. quantities: what is predicted at every step, formulas over all modes.
    size: how many numbers the iterate has. curvature: see CurvatureSpec.
    gradient: derivative of the loss by each coordinate, where modes mix and the loss of one does not tell it.
    drawn: the seed draws the start; the prediction of a run is given it, as that of a network is given its batch.
    """

    size: FormulaText
    modes: Annotated[Annotated[FormulaText, Tag("<one>")] | Annotated[Axes, Tag("<axes>")], Discriminator(_axes_kind)]
    spectrum: dict[SymbolName, FormulaText] = {}
    coordinates: dict[SymbolName, FormulaText]
    gradient: dict[SymbolName, FormulaText] = {}
    drawn: bool = False
    residual: FormulaText | None = None
    loss: FormulaText | None = None
    error: FormulaText | None = None
    target: FormulaText = "1"
    curvature: CurvatureSpec = CurvatureSpec.model_construct()
    quantities: dict[SymbolName, Effect]

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        for key in ("coordinates", "quantities"):
            if not getattr(self, key):
                raise refuse(f"an objective has at least one entry under `{key}`", at=key)
        if self.gradient and self.gradient.keys() != self.coordinates.keys():
            raise refuse("`gradient` has one entry for every coordinate, or none at all", at="gradient")
        if self.loss is None and self.residual is None:
            raise refuse("nothing says what is minimised", "give `loss:` of one mode, or its `residual:`")
        return self

    @property
    def axes(self) -> list[str]:
        """The number of modes along each axis, as formulas."""
        return self.modes if isinstance(self.modes, list) else [self.modes]

    @property
    def per_mode(self) -> dict[str, str]:
        """The formulas of one mode as abbreviations, in the order in which they may use each other."""
        given = {"target": self.target, "residual": self.residual, "loss": self.loss, "error": self.error}
        if self.residual is not None and self.loss is None:
            given["loss"] = "residual**2/2"
        return {name: text for name, text in given.items() if text is not None}
