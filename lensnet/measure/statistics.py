"""What one weight draw leaves behind: fields and numbers, no tensors of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Matrix = NDArray[np.float64]
ScalarKey = tuple[str, str, str, str | None]
"""(component, quantity, direction, port): `forward` at the output (port None), `backward` at an input port."""


@dataclass(frozen=True)
class OutputStatistics:
    """Forward statistics at the output of one component, averaged over its channels.

    `mean`, `second_moment`: fields of shape `(E, *positions)`, E the number of examples.
    """

    mean: Field
    second_moment: Field


@dataclass(frozen=True)
class StateStatistics:
    """The iterate of an algorithm in the coordinates of its objective's modes, each `(modes,)`.

    `memory[name][coordinate]`: what the steps remember, in the same coordinates.
    """

    coordinates: Mapping[str, Field]
    memory: Mapping[str, Mapping[str, Field]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shuffled:
    """The same pass with the entries of every weight tensor in random order and of random sign: what weights that have
    learned nothing make of it. Where given weights are measured, their scatter over weight draws can be seen only so.

    `alone[path, quantity]`: average of the output of one component, its own weights shuffled and no others.
    `whole`: a pass in which all are.
    """

    alone: Mapping[tuple[str, str], float]
    whole: SeedStatistics


@dataclass
class SeedStatistics:
    """Everything measured with one weight draw.

    `outputs[path]`: forward fields at the output of a component (the network's input is `"input"`).
    `gradients[path, port]`: second moment over channels of dL/dx at an input port of a component, same field shape as
    that port's signal, for L = <r, y> with r iid standard normal at the network's output.
    `side[path, port, quantity]`: side quantities that the component asked for at that port (arrays, shapes as the
    quantity defines them); `cross_moment` between two ports uses the port name `"a,b"`.
    `invariant[path]`: <x, dL/dx> summed over the batch at the output of a component.
    `grams[path]`: E_c z_a z_b over the sampled rows of a component's output, `(R, R)` (see `lensnet.quantities.rows`);
    `gradient_grams[path, port]`: the same of dL/dx at an input port, L = sum_e <r, y_e> with one r for all examples.
    Both are empty at the level of moments.
    `scalars[path, quantity, direction, port]`: numbers of one draw that lower levels, or a component's own effects,
    predict.
    `states[path]`: of a stack of steps, the state after a step; its quantities are among the scalars.
    `shuffled`: of given weights, the same pass with shuffled ones.
    `nonfinite`: paths whose output or gradient holds NaN or Inf, in order of execution.
    """

    seed: int
    outputs: dict[str, OutputStatistics] = field(default_factory=dict)
    gradients: dict[tuple[str, str], Field] = field(default_factory=dict)
    side: dict[tuple[str, str, str], Field] = field(default_factory=dict)
    invariant: dict[str, float] = field(default_factory=dict)
    grams: dict[str, Matrix] = field(default_factory=dict)
    gradient_grams: dict[tuple[str, str], Matrix] = field(default_factory=dict)
    scalars: dict[ScalarKey, float] = field(default_factory=dict)
    states: dict[str, StateStatistics] = field(default_factory=dict)
    shuffled: Shuffled | None = None
    nonfinite: list[str] = field(default_factory=list)


@dataclass
class Measurement:
    """An ensemble over weight draws."""

    seeds: list[SeedStatistics]
    device: str
    dtype: str
    batch: int
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)
