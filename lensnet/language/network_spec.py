"""The pydantic models of a network file: constants, input, body, blocks, definitions, gates."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, WrapValidator, model_validator

from lensnet.language.body_spec import BlockSpec, Body
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.fields import (
    NUMBER_OR_FORMULA,
    Checked,
    Correlation,
    Count,
    ItemName,
    Natural,
    ParameterValue,
    Positive,
    Real,
    Share,
    Spec,
    SymbolName,
    Text,
    evaluated,
    refuse,
)
from lensnet.language.problems import TAGS
from lensnet.language.source import closest, did_you_mean, shorten


def _sizes(value: Any, info: Any) -> tuple[int, ...]:
    return tuple(evaluated(part, info, True, 1, 1e9) for part in (value if isinstance(value, list) else [value]))


Sizes = Annotated[
    tuple[int, ...],
    Checked(
        _sizes, {"anyOf": [*NUMBER_OR_FORMULA["anyOf"], {"type": "array", "items": NUMBER_OR_FORMULA}]}, with_info=True
    ),
]


class _Input(Spec):
    batch: Count | None = None

    def options(self) -> dict[str, Any]:
        """What the file gives, as plain data; a size of one number is that number."""
        return {key: _plain(getattr(self, key)) for key in type(self).model_fields if key in self.model_fields_set}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return value[0] if len(value) == 1 else list(value)
    return value


class _Labelled(_Input):
    """An input with classes. `corrupt`: share of labels that are redrawn uniformly over all classes, by `seed`."""

    corrupt: Share = 0.0
    seed: Natural = 0


class GaussianInput(_Input):
    """Random vectors: `channels` numbers at each of `positions`. `correlation`: between any two examples."""

    source: Literal["gaussian"]
    channels: Count
    positions: Sizes | None = None
    mean: Real = 0.0
    std: Positive = 1.0
    correlation: Correlation = 0.0
    position_correlation: Correlation = 0.0

    def options(self) -> dict[str, Any]:
        given = super().options()
        return given | ({"positions": list(self.positions)} if self.positions is not None else {})


class GaussiansInput(_Labelled):
    """A Gaussian cloud per class around a mean of length 1; any two means correlate by `class_correlation`."""

    source: Literal["gaussians"]
    channels: Count
    classes: Count
    std: Positive = 0.1
    class_correlation: Share = 0.0


class SubspacesInput(_Labelled):
    """A random subspace of `dimension` directions per class, with Gaussian points in it and `noise` around it."""

    source: Literal["subspaces"]
    channels: Count
    classes: Count
    dimension: Count
    noise: Positive = 0.0
    orthogonal: bool = False


class DigitsInput(_Labelled):
    """scikit-learn's handwritten digits, standardised; flat vectors of 64, or images of `size`.

    `skip`: leave out the first so many. `shift: true`: each image is moved round its edges by a random step.
    """

    source: Literal["digits"]
    size: Sizes | None = None
    channels: Count | None = None
    standardise: bool = True
    skip: Natural = 0
    shift: bool = False


class PhotosInput(_Input):
    """Crops of scikit-learn's two photographs, resized to `size` and standardised."""

    source: Literal["photos"]
    size: Sizes | None = None
    channels: Count | None = None
    standardise: bool = True


class TokensInput(_Input):
    """Random token ids: `length` of them, below `vocabulary`."""

    source: Literal["tokens"]
    length: Count
    vocabulary: Count
    distribution: Literal["zipf", "uniform"] = "zipf"
    exponent: Positive = 1.0


class FileInput(_Labelled):
    """An array in a .npz, .npy or .safetensors file, or a folder of images; `path` is relative to the spec.

    `labels`: the array of the same file that holds the class of each example, as integers from 0.
    """

    source: Literal["file"]
    path: Text
    key: Text | None = None
    labels: Text | None = None
    vocabulary: Count | None = None
    size: Sizes | None = None
    channels: Count | None = None
    standardise: bool | None = None


class ObjectiveInput(Spec):
    """The start of an algorithm on an objective. Every key but `source` is one of the objective's `parameters`."""

    source: ItemName
    parameters: dict[str, ParameterValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect_parameters(cls, data: Any) -> Any:
        return {"source": data["source"], "parameters": {key: data[key] for key in data if key != "source"}}

    def options(self) -> dict[str, Any]:
        """What the file gives, as plain data; formulas of the constants are still texts."""
        return {"source": self.source, **self.parameters}


def _of_objective(data: Any, batches: Any, info: ValidationInfo) -> Any:
    """An input whose source is the name of an objective (`info.context["objectives"]`), else a batch of data."""
    objectives = (info.context or {}).get("objectives", ())
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, str):
        return batches(data)
    if source in objectives:
        return ObjectiveInput.model_validate(data, context=info.context)
    if closest(source, objectives) and not closest(source, TAGS["source"]):
        raise refuse(f"unknown source '{shorten(source)}'", did_you_mean(source, objectives), at="source")
    return batches(data)


BatchInput = Annotated[
    GaussianInput | GaussiansInput | SubspacesInput | DigitsInput | PhotosInput | TokensInput | FileInput,
    Field(discriminator="source"),
]
InputSpec = Annotated[BatchInput, WrapValidator(_of_objective)]


class GateSpec(Spec):
    """Bounds on a measured quantity at a component, checked by `lensnet run`."""

    at: Text
    quantity: SymbolName
    direction: Literal["forward", "backward"] = "forward"
    between: list[Real] | None = Field(default=None, min_length=2, max_length=2)
    less_than: Real | None = None
    more_than: Real | None = None

    @property
    def low(self) -> float:
        return self.between[0] if self.between else -math.inf if self.more_than is None else self.more_than

    @property
    def high(self) -> float:
        return self.between[1] if self.between else math.inf if self.less_than is None else self.less_than

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        if self.between is None and self.less_than is None and self.more_than is None:
            raise refuse("a gate has bounds", "give `between: [low, high]`, `less_than:` or `more_than:`")
        if self.between is not None and (self.less_than is not None or self.more_than is not None):
            raise refuse("`between` stands alone", "write both bounds in it", at="between")
        if self.low >= self.high:
            raise refuse(f"no number lies between {self.low:g} and {self.high:g}", at="between" if self.between else "")
        return self


# Evaluated, and judged, by read_network_spec: each may be a formula of those before it; None for a wrong one.
Constant = Annotated[int | float | None, Checked(lambda value: value, NUMBER_OR_FORMULA)]


class NetworkSpec(Spec):
    """A network file, as load_network_spec makes it: the constants are numbers."""

    network: ItemName
    about: Text = ""
    constants: dict[SymbolName, Constant] = {}
    input: InputSpec
    body: Body
    blocks: dict[ItemName, BlockSpec] = {}
    define: dict[ItemName, ComponentSpec] = {}
    expect: list[GateSpec] = []
    references: dict[str, Text] = {}
