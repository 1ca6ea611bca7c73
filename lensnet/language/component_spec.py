"""The pydantic models of a component file: ports, parameters, weights, effects, assumptions, trials."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PlainValidator, Tag, model_validator

from lensnet.language.body_spec import Body
from lensnet.language.effect_spec import AXES, Assumption, DerivesFrom, Effect, LevelName, limit_axis, limits
from lensnet.language.fields import (
    Checked,
    Condition,
    FormulaText,
    ItemName,
    Number,
    ParameterValue,
    Spec,
    SymbolName,
    Text,
    describe,
    refuse,
)
from lensnet.language.formula import is_name
from lensnet.language.objective_spec import ObjectiveSpec
from lensnet.language.shape_spec import FitsSpec, ShapeSpec, listed

GeometryName = Literal[
    "pointwise", "window", "window_transpose", "adaptive", "collapse", "flatten", "patches", "merge",
    "strided", "pick", "regrid", "resample", "unflatten", "stack",
]  # fmt: skip


class _Parameter(Spec):
    about: Text = ""
    symbol: SymbolName | None = None


class IntegerParameter(_Parameter):
    type: Literal["integer"]
    min: Number | None = None
    max: Number | None = None
    default: FormulaText | None = None


class RealParameter(_Parameter):
    type: Literal["real"]
    min: Number | None = None
    max: Number | None = None
    default: FormulaText | None = None


class BooleanParameter(_Parameter):
    type: Literal["boolean"]
    default: bool | None = None


class ChoiceParameter(_Parameter):
    """One of several names. `labelled`: those that need an input which knows the class of every example."""

    type: Literal["choice"]
    choices: list[SymbolName] = Field(min_length=1)
    labelled: list[SymbolName] = []
    default: Text | None = None

    @model_validator(mode="after")
    def _names_are_choices(self) -> Self:
        if self.default is not None and self.default not in self.choices:
            raise refuse(f"the default '{self.default}' is not among the choices", at="default")
        for index, name in enumerate(self.labelled):
            if name not in self.choices:
                raise refuse(f"'{name}' is not among the choices", at=f"labelled.{index}")
        return self


class PairParameter(_Parameter):
    """One number for every axis, or a list with one for each: `3` or `[3, 5]`, of a `triple` `[3, 5, 5]`; of `axes` as
    many as the input has."""

    type: Literal["pair", "triple", "axes"]
    min: Number | None = None
    max: Number | None = None
    default: ParameterValue | None = None

    @property
    def axes(self) -> int:
        """How many numbers there are at most."""
        return 2 if self.type == "pair" else 3


ParameterSpec = Annotated[
    IntegerParameter | RealParameter | BooleanParameter | ChoiceParameter | PairParameter, Field(discriminator="type")
]


class WeightSpec(Spec):
    """One random weight tensor. `fan_in`, `fan_out`: formulas of parameters and shape symbols."""

    fan_in: FormulaText
    fan_out: FormulaText
    about: Text = ""
    bias: bool = True


class Ports(Spec):
    """Input and output ports. A name ending in `...` stands for two or more inputs."""

    inputs: list[Text] = Field(default=["x"], alias="in", min_length=1)
    outputs: list[Text] = Field(default=["y"], alias="out", min_length=1, max_length=1)

    @property
    def variadic(self) -> bool:
        return self.inputs[0].endswith("...")

    @property
    def names(self) -> list[str]:
        return [name.removesuffix("...") for name in self.inputs]

    @model_validator(mode="after")
    def _ports_are_names(self) -> Self:
        for key, names in (("in", self.names), ("out", self.outputs)):
            for index, name in enumerate(names):
                if not is_name(name):
                    raise refuse(f"'{name}' cannot name a port", "use letters, digits and _", at=f"{key}.{index}")
        if len(set(self.names)) < len(self.names):
            raise refuse("two ports have the same name", at="in")
        if len(self.inputs) > 1 and any(name.endswith("...") for name in self.inputs):
            raise refuse("a port of any number (...) stands alone", at="in")
        return self


class Need(Spec):
    """A side quantity of an input port that the level does not carry. `otherwise` is used when nobody supplies it."""

    symbol: SymbolName | None = None
    otherwise: Number | None = None
    when: Condition | None = None  # not needed where this comparison of parameters and shapes fails
    port: Text | None = None
    also: SymbolName | None = None  # another name under which `given:` may declare it
    about: Text = ""


def _effect_kind(data: Any) -> str:
    """Ports for a mapping from ports to effects: nothing in it is a key of an effect."""
    if isinstance(data, dict) and data and not set(data) & set(Effect.model_fields):
        return "<ports>"
    return "<effect>"


EffectEntry = Annotated[
    Annotated[Effect, Tag("<effect>")] | Annotated[dict[str, Effect], Tag("<ports>")], Discriminator(_effect_kind)
]


class LinearCoherence(Spec):
    """The output is the input times a factor (for several ports: a factor each)."""

    linear: Annotated[
        Annotated[FormulaText, Tag("<factor>")] | Annotated[dict[str, FormulaText], Tag("<ports>")],
        Discriminator(lambda data: "<ports>" if isinstance(data, dict) else "<factor>"),
    ]


class NamedCoherence(Spec):
    """fresh: no correlation with what came in; pointwise: by Gaussian expectation; part: some of the channels
    (parameters start, width, period), which say nothing about the others; unknown."""

    kind: Literal["fresh", "pointwise", "linear", "part", "unknown"] = "unknown"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data


Coherence = Annotated[
    Annotated[LinearCoherence, Tag("<linear>")] | Annotated[NamedCoherence, Tag("<name>")],
    Discriminator(lambda data: "<linear>" if isinstance(data, dict | LinearCoherence) else "<name>"),
]


class Matches(Spec):
    """Which modules of an imported model are this component, their whole subtree with them.

    module: `package.Class`, exactly: the package that the class comes from (or one above it) and the class's own name.
    parameters: from the module's numeric attributes, as `alpha/size`. weights: the module's parameter of every tensor.
    """

    module: Annotated[list[Text], PlainValidator(listed)] = []
    parameters: dict[SymbolName, FormulaText] = {}
    weights: dict[SymbolName, Text] = {}

    @model_validator(mode="after")
    def _names_classes(self) -> Self:
        for index, name in enumerate(self.module):
            if not isinstance(name, str) or "." not in name:
                raise refuse(
                    f"'{name}' names no class", "write package.Class, as torch.nn.Linear", at=f"module.{index}"
                )
        return self


def _trial(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refuse(f"a trial is a mapping of parameters and input statistics, not {describe(value)}")
    return value


Trial = Annotated[dict[str, Any], Checked(_trial, {"type": "object"})]


_STEPS = {"moments": ("kernel", "fluctuation"), "kernel": ("spectrum", "fluctuation"), "spectrum": ("fluctuation",)}
"""For every level, those below that say something it can be held against."""


def _check_derivation(level: LevelName, spec: DerivesFrom, counts: Sequence[str]) -> None:
    """`counts`: integer parameters of the component, which may grow in a limit."""
    if level not in _STEPS:
        raise refuse("nothing lies below the fluctuation level: it follows from no other", at=f"derives_from.{level}")
    if spec.level is not None and spec.level not in _STEPS[level]:
        help = f"{level} follows from {' or '.join(_STEPS[level])}"
        raise refuse(f"{level} does not follow from {spec.level}", help, at=f"derives_from.{level}.level")
    alone = level != "moments" or spec.level == "fluctuation"
    if spec.limit is not None and limit_axis(spec.limit) is None and alone:
        help = "only the kernel speaks of two samples; write channels -> oo"
        raise refuse("there are no two samples to coincide", help, at=f"derives_from.{level}.limit")
    axis = limit_axis(spec.limit or "same sample")
    if axis is not None and axis not in (*AXES, *counts):
        raise refuse(f"'{spec.limit}' is no limit that can be taken", limits(counts), at=f"derives_from.{level}.limit")


class ComponentSpec(Spec):
    """A component file. One of function, forward, body, implementation or effects says what it does.

    ties: the other component whose table `weights_of` may name: rows of the same length, one for every unit.
    derives_from: level -> the lower level that its formulas follow from, the limit and the order, where they are not
    those of every component.
    let: abbreviations that every effect, check and coherence factor may use; each may use those before it.
    not_modelled: level -> why nothing is claimed at it.
    observes: quantities of its own that are measured at its output though no effect predicts them.
    keeps_scatter: why the scatter of one weight draw does not fall with the width, for a component of which that is so.
    objective: makes it a problem that `input: {source: ...}` may name. acts_on: `state` for a step of an algorithm,
    whose signal is the iterate on such a problem. memory: what the step carries along besides the iterate, zero at the
    start. uses: names that the objective must have (coordinates, constants, parameters), for a step made for it.
    """

    component: ItemName = ""
    title: Text = ""
    optics: Text = ""
    intuition: Text = ""
    ports: Ports = Ports.model_construct()  # this way nothing is compiled at import time
    parameters: dict[SymbolName, ParameterSpec] = {}
    weights: dict[SymbolName, WeightSpec] = {}
    ties: ItemName | None = None
    geometry: GeometryName = "pointwise"
    shape: ShapeSpec = ShapeSpec.model_construct()
    fits: FitsSpec = FitsSpec.model_construct()
    implementation: ItemName | None = None
    function: FormulaText | None = None
    kinks: list[FormulaText] | None = None
    forward: FormulaText | None = None
    body: Body | None = None
    homogeneous: bool = False
    scale_invariant: bool = False
    law: Literal["kept", "broken", "scaled", "normalised"] | None = None
    objective: ObjectiveSpec | None = None
    acts_on: Literal["tensor", "state"] = "tensor"
    memory: list[SymbolName] = []
    uses: dict[SymbolName, Text] = {}
    not_modelled: dict[LevelName, Text] = {}
    observes: list[SymbolName] = []
    keeps_scatter: Text = ""
    derives_from: dict[LevelName, DerivesFrom] = {}
    needs: dict[SymbolName, Need] = {}
    let: dict[SymbolName, FormulaText] = {}
    coherence: Coherence = NamedCoherence.model_construct()
    effects: dict[LevelName, dict[SymbolName, EffectEntry]] = {}
    assumes: list[Assumption] = []
    trials: list[Trial] = []
    matches: Matches = Matches.model_construct()
    references: dict[str, Text] = {}

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        for level, spec in self.derives_from.items():
            _check_derivation(level, spec, [key for key, of in self.parameters.items() if of.type == "integer"])
        given = [key for key in ("function", "forward", "body") if getattr(self, key) is not None]
        if len(given) > 1:
            raise refuse(f"`{given[0]}` and `{given[1]}` both say what the component computes", "keep one", at=given[1])
        if not given and self.implementation is None and not self.effects:
            raise refuse(
                "nothing says what this component computes",
                "give one of function: (pointwise), forward: (of tensors), body: (of components) or implementation:",
            )
        return self
