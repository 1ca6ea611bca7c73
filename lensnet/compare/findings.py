"""What a reader must know besides the rows: each finding is one sentence with a place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from lensnet.compare.ensemble import Ensemble, Key
from lensnet.compare.row import Row
from lensnet.compare.verdict import coverage_factor
from lensnet.network.graph import Gate, Network

Severity = Literal["failure", "doubt", "note"]

SIGNAL_RANGE = (1e-3, 1e3)
"""Second moments of a neuron, and mean squared singular values of the way to the output, outside of this are called
vanishing or exploding."""

FLOAT16_RANGE = (6.1e-5, 65504.0)
"""Normal numbers of float16; bfloat16 has the range of float32."""


@dataclass(frozen=True)
class Finding:
    """`failure` fails the run (exit status 1), `doubt` leaves it undecided (4), a `note` informs.

    `kind`: nonfinite, interrupted, gate, range, float16, dead, invariant, ladder, structure, note. `numbers`: what the
    text rests on, by name.
    """

    kind: str
    severity: Severity
    text: str
    component: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        out = {"kind": self.kind, "severity": self.severity, "component": self.component, "text": self.text}
        return out | ({"numbers": dict(self.numbers)} if self.numbers else {})


def nonfinite_findings(ensemble: Ensemble) -> list[Finding]:
    """The first component with NaN or Inf in each seed (what follows it is only its consequence)."""
    first: dict[str, int] = {}
    for paths in ensemble.nonfinite.values():
        first[paths[0]] = first.get(paths[0], 0) + 1
    total = len(ensemble.seeds)
    return [
        Finding("nonfinite", "failure", f"{path}: NaN or Inf arises here first, in {count} of {total} seeds", path)
        for path, count in first.items()
    ]


def dead_findings(ensemble: Ensemble) -> list[Finding]:
    """The first component whose output is exactly zero in some seeds: a signal that has died."""
    for key in ensemble.measured:
        if key.quantity != "second_moment" or key.direction != "forward":
            continue
        values = ensemble.values(key)
        dead = sum(value == 0 for value in values)
        if dead:
            text = f"{key.component}: the output is zero in {dead} of {len(values)} seeds"
            return [Finding("dead", "note", text, key.component)]
    return []


def range_findings(network: Network, ensemble: Ensemble, predicted: dict[Key, float]) -> list[Finding]:
    """The first component, forward and backward, where the signal leaves `SIGNAL_RANGE`, and the range of float16.

    Forward this is the second moment per neuron. Backward it is |J^T r|^2/|r|^2, the squared length of the gradient
    of the whole signal relative to that at the output: the mean squared singular value of the Jacobian from there to
    the output (Pennington, Schoenholz and Ganguli 2017). A gradient that a pool spreads over its positions is small in
    every one of them and has not vanished.
    """
    forward = [(node.path, Key(node.path, "second_moment", "forward", None), 1.0) for node in network]
    backward = [
        (
            node.path,
            Key(node.path, "second_moment", "backward", port),
            shape.features / network.nodes[-1].shape.features,
        )
        for node in reversed(network.nodes)
        for port, shape in zip(node.ports, node.shapes_in, strict=True)
    ]
    out = []
    for name, keys in (("signal", forward), ("gradient", backward)):
        told: set[str] = set()
        for path, key, share in keys:
            value = ensemble.typical(key)
            source = "measured, median" if value is not None else "predicted"
            value = predicted.get(key) if value is None else value
            if value is None or not isfinite(value):
                continue
            low, high = SIGNAL_RANGE
            if not low <= share * value <= high and "range" not in told:
                way = "vanishes" if share * value < low else "explodes"
                whole = f"the whole of it {share * value:.2g} of the output's power, " if name == "gradient" else ""
                text = f"{path}: the {name} {way}: {whole}second moment {value:.2g} ({source})"
                out.append(Finding("range", "note", text, path))
                told.add("range")
            rms = value**0.5
            if 0 < rms and not FLOAT16_RANGE[0] <= rms <= FLOAT16_RANGE[1] and "float16" not in told:
                text = f"{path}: rms {rms:.2g} of the {name} leaves the normal range of float16 ({source})"
                out.append(Finding("float16", "note", text, path))
                told.add("float16")
    return out


def invariant_findings(network: Network, ensemble: Ensemble, batch: int) -> list[Finding]:
    """Euler's theorem as a self-check: <x, dL/dx> must not jump across a bias-free component of degree 1.

    Only where one edge goes in and comes from a component that has no other user, so that both ends are measured.
    """
    out: list[Finding] = []
    for node in network if ensemble.invariant else ():
        biased = any(law.has_bias for law in node.weights.values())
        single = len(node.inputs) == 1 and len(network.consumers(node.inputs[0])) == 1
        if not node.component.homogeneous or biased or not single:
            continue
        before, after = ensemble.invariant.get(node.inputs[0], {}), ensemble.invariant.get(node.path, {})
        q = ensemble.typical(Key(node.inputs[0], "second_moment", "forward", None))
        p = ensemble.typical(Key(node.path, "second_moment", "backward", node.ports[0]))
        if q is None or p is None:
            continue
        # Rounding scales with the terms of the sum, not with the sum itself: Cauchy-Schwarz bounds it.
        bound = node.shapes_in[0].features * batch * (q * p) ** 0.5
        jumps = [
            (abs(after[s] - before[s]), seed_scale)
            for s in before
            if s in after and isfinite(seed_scale := 1e-3 * max(abs(before[s]), abs(after[s])) + 1e-5 * bound)
        ]
        bad = [jump for jump, allowed in jumps if jump > allowed]
        if bad:
            text = (
                f"{node.path}: <x, dL/dx> jumps by {max(bad):.2g} across it in {len(bad)} of {len(jumps)} seeds, "
                "but it is declared homogeneous and has no bias"
            )
            out.append(Finding("invariant", "doubt", text, node.path))
    return out


def gate_findings(gates: Iterable[Gate], ensemble: Ensemble, predicted: dict[Key, float]) -> list[Finding]:
    """The `expect:` entries: measured mean +- 2 se inside the bounds passes, outside fails, across is undecided."""
    out = []
    for gate in gates:
        keys = [
            key
            for key in (ensemble.measured or predicted)
            if (key.component, key.quantity, key.direction) == (gate.at, gate.quantity, gate.direction)
        ]
        label = f"{gate.at}: expected {gate.quantity.replace('_', ' ')} {_bounds(gate)}"
        if gate.direction == "backward":
            label += " (backward)"
        if not keys:
            out.append(Finding("gate", "doubt", f"{label}, but nothing was measured there", gate.at))
        for key in keys:
            out += _judge_gate(gate, label, ensemble.values(key), predicted.get(key))
    return out


def _judge_gate(gate: Gate, label: str, values: Sequence[float], predicted: float | None) -> list[Finding]:
    low = -float("inf") if gate.low is None else gate.low
    high = float("inf") if gate.high is None else gate.high
    if not values:
        if predicted is None or low <= predicted <= high:
            return []
        return [Finding("gate", "failure", f"{label}, predicted {predicted:.3g}", gate.at)]
    mean = sum(values) / len(values)
    if not isfinite(mean):
        return [Finding("gate", "failure", f"{label}, measured {mean}", gate.at)]
    spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / len(values)) ** 0.5
    bar = coverage_factor(len(values)) * spread if len(values) > 1 else 0.0
    if low <= mean - bar and mean + bar <= high:
        return []
    text = f"{label}, measured {mean:.3g}" + (f" +- {bar:.2g}" if len(values) > 1 else "")
    if mean + bar < low or mean - bar > high:
        return [Finding("gate", "failure", text, gate.at)]
    return [Finding("gate", "doubt", f"{text}: too few seeds to tell", gate.at)]


def _bounds(gate: Gate) -> str:
    low, high = (None if bound is None or not isfinite(bound) else bound for bound in (gate.low, gate.high))
    if low is None:
        return "anything" if high is None else f"<= {high:g}"
    return f">= {low:g}" if high is None else f"in [{low:g}, {high:g}]"


def worst_row(rows: Sequence[Row]) -> Row | None:
    """The row that violates its tolerance the most, see `severity`; None when nothing was judged."""
    return max((row for row in rows if row.verdict != "not-modelled"), key=severity, default=None)


def severity(row: Row) -> tuple[int, bool, float]:
    """Deviations before doubts, causes (local) before consequences (through), then distance over tolerance."""
    order = {"deviates": 2, "out-of-regime": 1, "undecided": 1}
    return order.get(row.verdict, 0), row.view == "local", excess(row)


def excess(row: Row) -> float:
    """|measured - predicted| over the tolerance; infinite where the measurement is not finite."""
    if row.tolerance is None or row.slack is None:
        broken = row.measured is not None and not isfinite(row.measured)
        return float("inf") if broken else abs(row.error or 0.0)
    distance = row.tolerance - row.slack
    return distance / row.tolerance if row.tolerance > 0 else (float("inf") if distance > 0 else 0.0)
