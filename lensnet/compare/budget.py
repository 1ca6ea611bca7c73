"""The budget: what each component contributes, in columns that add up (the Seidel table of a network)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isfinite, log, sqrt
from typing import Any

import numpy as np

from lensnet.compare.ensemble import Ensemble, Key
from lensnet.compare.places import edge_after, main_chain
from lensnet.network.graph import INPUT, Network, Node
from lensnet.quantities.quantity import QUANTITIES

SUM, STRAIN = "sum", "strain"


@dataclass(frozen=True)
class Column:
    """One additive quantity of the budget (`additive=False`: shown beside, never summed)."""

    name: str
    title: str
    about: str
    additive: bool = True


COLUMNS = (
    Column("log_gain_forward", "Δln q", "log gain forward, ln(q_out/q_in); measured: its mean over seeds"),
    Column("log_gain_backward", "Δln p", "log gain backward, ln(p_in/p_out)"),
    Column("log_gain_loss", "Δln f", "log gain of the loss, ln(f_after/f_before)"),
    Column("log_gain_error", "Δln |e|", "log gain of the error norm"),
    Column("mean_leak", "Δm²/q", "mean leak: growth of the share of q that is a common mean"),
    Column("width_term", "1/width", "variance of ln q over weight draws that the component adds"),
    Column("invariant", "<x,g>", "invariant <x, dL/dx>: constant along homogeneous stretches", False),
)

OF_STEPS = {"log_gain_loss": "loss", "log_gain_error": "error_norm"}
"""Columns that only the steps of an algorithm have, and the quantity that each follows."""


@dataclass(frozen=True)
class Cell:
    """A contribution: predicted beside measured, None where there is none."""

    predicted: float | None = None
    measured: float | None = None
    standard_error: float | None = None


@dataclass(frozen=True)
class BudgetRow:
    """One component (or the `sum` and `strain` of all on the chain).

    `chain`: on the path along first ports from input to output, where contributions add up; a component on a branch
    is listed, but acts through the component where its branch meets the chain.
    """

    component: str
    kind: str
    chain: bool = True
    cells: Mapping[str, Cell] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"component": self.component, "kind": self.kind, "chain": self.chain}
        for name, cell in self.cells.items():
            out[name] = {
                "predicted": cell.predicted,
                "measured": cell.measured,
                "standard_error": cell.standard_error,
            }
        return out


@dataclass(frozen=True)
class Through:
    """Propagated predictions by key, with the scatter that each declares."""

    values: Mapping[Key, float]
    scatter: Mapping[Key, float] = field(default_factory=dict)


def budget(network: Network, ensemble: Ensemble, through: Through) -> list[BudgetRow]:
    """A row per component, then `sum` and `strain` (sum of absolute values) over the chain.

    A small sum over a large strain is a fragile balance: large contributions that happen to cancel.
    """
    chain = main_chain(network)
    follower = {first.path: second for first, second in zip(chain, chain[1:], strict=False)}
    on_chain = {node.path for node in chain}
    rows = [
        BudgetRow(node.path, node.kind, node.path in on_chain, _cells(network, node, follower, ensemble, through))
        for node in network
    ]
    return [*rows, *totals(rows)]


def totals(rows: Sequence[BudgetRow]) -> list[BudgetRow]:
    """The `sum` and `strain` rows; a column with a gap on one side has no total on that side."""
    kept = [row for row in rows if row.chain]
    names = [column.name for column in COLUMNS if column.additive and any(column.name in row.cells for row in kept)]
    out = []
    for title, size in ((SUM, float), (STRAIN, abs)):
        cells = {}
        for name in names:
            entries = [row.cells.get(name, Cell()) for row in kept]
            cells[name] = Cell(
                _total([cell.predicted for cell in entries], size), _total([cell.measured for cell in entries], size)
            )
        out.append(BudgetRow(title, "", True, cells))
    return out


def _total(values: Sequence[float | None], size: Any) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known or not all(map(isfinite, known)):
        return None
    return fsum(size(value) for value in known)


def _cells(
    network: Network, node: Node, follower: Mapping[str, Node], ensemble: Ensemble, through: Through
) -> dict[str, Cell]:
    out = Key(node.path, "second_moment", "forward", None)
    into = Key(node.inputs[0], "second_moment", "forward", None)
    cells = {"log_gain_forward": _gain(into, out, ensemble, through)}
    edge = edge_after(network, follower, node.path)
    after = Key(edge[0], "second_moment", "backward", edge[1]) if edge else None
    before = Key(node.path, "second_moment", "backward", node.ports[0])
    cells["log_gain_backward"] = _gain(after, before, ensemble, through)
    for name, quantity in OF_STEPS.items() if network.input.objective is not None else ():
        level = str(QUANTITIES[quantity].level)
        start, end = (Key(path, quantity, "forward", None, level) for path in (node.inputs[0], node.path))
        cells[name] = _gain(start, end, ensemble, through)
    cells["mean_leak"] = _mean_leak(node.inputs[0], node.path, ensemble, through)
    cells["width_term"] = _width_term(node, into, out, ensemble, through)
    invariant = list(ensemble.invariant.get(node.path, {}).values())
    cells["invariant"] = Cell(None, *_mean_and_error(invariant))
    return {name: cell for name, cell in cells.items() if (cell.predicted, cell.measured) != (None, None)}


def _gain(start: Key | None, end: Key, ensemble: Ensemble, through: Through) -> Cell:
    """ln(end/start); `start` None is the output's gradient, 1 by definition."""
    first = 1.0 if start is None else through.values.get(start)
    last = through.values.get(end)
    predicted = log(last / first) if first and last and 0 < first < np.inf and 0 < last < np.inf else None
    if not ensemble.seeds:
        return Cell(predicted)
    if start is None:
        pairs = [(1.0, value) for value in ensemble.values(end)]
    else:
        pairs = _paired(ensemble, start, end)
    logs = [log(b / a) for a, b in pairs if 0 < a < np.inf and 0 < b < np.inf]
    return Cell(predicted, *_mean_and_error(logs))


def _mean_leak(start: str, end: str, ensemble: Ensemble, through: Through) -> Cell:
    """Change of the share m**2/q from one output to the next: what a norm takes out again, and a sum adds up."""
    before, after = _predicted_share(start, through), _predicted_share(end, through)
    predicted = None if before is None or after is None else after - before
    if not ensemble.seeds:
        return Cell(predicted)
    first, last = _measured_shares(start, ensemble), _measured_shares(end, ensemble)
    changes = [last[seed] - first[seed] for seed in ensemble.seeds if seed in first and seed in last]
    return Cell(predicted, *_mean_and_error(changes))


def _predicted_share(path: str, through: Through) -> float | None:
    mean = through.values.get(Key(path, "mean", "forward", None))
    second = through.values.get(Key(path, "second_moment", "forward", None))
    return mean**2 / second if mean is not None and second and isfinite(second) else None


def _measured_shares(path: str, ensemble: Ensemble) -> dict[int, float]:
    means = ensemble.measured.get(Key(path, "mean", "forward", None), {})
    seconds = ensemble.measured.get(Key(path, "second_moment", "forward", None), {})
    return {seed: means[seed] ** 2 / q for seed, q in seconds.items() if seed in means and 0 < q < np.inf}


def _width_term(node: Node, into: Key, out: Key, ensemble: Ensemble, through: Through) -> Cell:
    """Predicted from the declared scatter; measured as the variance over seeds of ln(measured / local prediction)."""
    predicted = None
    if out in through.scatter and (node.inputs[0] == INPUT or into in through.scatter):
        predicted = max(through.scatter[out] - through.scatter.get(into, 0.0), 0.0)
    if not ensemble.seeds:
        return Cell(predicted)
    logs = [log(m / p) for m, p in zip(*ensemble.pairs(out), strict=True) if 0 < m < np.inf and 0 < p < np.inf]
    return Cell(predicted, float(np.var(logs, ddof=1)) if len(logs) > 2 else None)


def _paired(ensemble: Ensemble, first: Key, second: Key) -> list[tuple[float, float]]:
    a, b = ensemble.measured.get(first.measured, {}), ensemble.measured.get(second.measured, {})
    return [(a[seed], b[seed]) for seed in ensemble.seeds if seed in a and seed in b]


def _mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    error = float(np.std(values, ddof=1)) / sqrt(len(values)) if len(values) > 1 else None
    return float(np.mean(values)), error
