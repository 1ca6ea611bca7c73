"""LSTM, GRU and plain recurrences: one layer, one direction, from a state of zero."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import argument, name_of
from lensnet.importers.rulebook import rule

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(mapper: Mapper, node: Node) -> Value:
    source, weights = argument(node, 0, "input"), list(argument(node, 2, "params"))
    biased, layers = bool(argument(node, 3, "has_biases")), int(argument(node, 4, "num_layers"))
    both, first = bool(argument(node, 7, "bidirectional")), bool(argument(node, 8, "batch_first"))
    if layers != 1 or both:
        raise Unmapped(f"{name_of(node)} of {layers} layers{' in two directions' * both}")
    beam = mapper.beam(source)
    axis = 1 if first else 0
    if len(beam.positions) != 1 or not beam.layout.roles(axis) <= {0} or not beam.layout.roles(-1) <= {CHANNELS}:
        raise Unmapped(f"{name_of(node)} over something else than a sequence of examples")
    units = sizes_of(weights[1])[1]
    parameters: dict[str, Any] = {"units": units}
    for place, slot in enumerate(("input", "hidden")):
        parameters |= _initial(mapper, slot, weights[place], weights[2 + place] if biased else None, units)
    made = Beam("", beam.layout.with_axis(-1, CHANNELS, units), beam.positions, units)
    kind, _, activation = name_of(node).partition("_")
    parameters |= {"activation": activation} if activation else {}
    return mapper.one(node, kind, parameters, made, source, owns=weights)


def _initial(mapper: Mapper, slot: str, weight: Any, bias: Any, units: int) -> dict[str, Any]:
    """torch draws everything uniformly up to 1/sqrt(units)."""
    law = mapper.law(weight)
    default = sqrt(1 / (3 * units))
    std = default if law.kind == "unknown" or abs(law.std / default - 1) < 0.02 else sqrt(law.second_moment)
    out: dict[str, Any] = {f"{slot}_std": float(f"{std:.7g}")}
    if law.distribution == "uniform" or law.kind == "unknown":
        out[f"{slot}_init"] = "uniform"
    if bias is not None:
        held = mapper.law(bias)
        spread = default if held.kind == "unknown" or abs(held.std / default - 1) < 0.1 else held.std
        if spread > 0:
            out[f"{slot}_bias_std"] = float(f"{spread:.7g}")
        if held.kind != "unknown" and abs(held.mean) > 0:
            out[f"{slot}_bias"] = float(f"{held.mean:.7g}")
    return out
