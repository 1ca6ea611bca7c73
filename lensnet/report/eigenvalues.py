"""Eigenvalues in the terminal: a bar for what was measured in each interval, a tick where the prediction ends."""

from __future__ import annotations

from rich.text import Text

from lensnet.compare.eigenvalues import Eigenvalues
from lensnet.report.numbers import short
from lensnet.report.palette import PREDICTED

BINS = 14
_MEASURED = "#2f7d4f"


def lines(found: Eigenvalues, width: int) -> list[Text]:
    """One block: a line per interval of eigenvalues, from the largest down."""
    draws = len(found.measured)
    facts = [f"{found.rows:,} rows", f"{found.channels:,} neurons", f"{draws} draws" if draws != 1 else "1 draw"]
    head = Text.assemble((found.component, "bold"), f"  {' · '.join(facts)}")
    edges = found.edges(BINS)
    if not edges.size:
        return [head, Text("  nothing is known of its eigenvalues")]
    predicted, measured = found.predicted_counts(edges), found.measured_counts(edges)
    most = max(
        predicted.max() if predicted is not None else 0.0, measured[0].max() if measured is not None else 0.0, 1e-9
    )
    room = max(width - 45, 10)
    out = [head, Text(f"  {'eigenvalues':>19}  {'':{room}} predicted measured", style="dim")]
    for i in reversed(range(len(edges) - 1)):
        bar = [" "] * room
        if measured is not None:
            bar[: round(measured[0][i] / most * room)] = ["█"] * round(measured[0][i] / most * room)
        line = Text(f"  {short(edges[i], 2):>8} … {short(edges[i + 1], 2):<8}  ")
        tick = None if predicted is None else min(round(predicted[i] / most * room), room - 1)
        for j, cell in enumerate(bar):
            line.append("│" if j == tick else cell, style=f"bold {PREDICTED}" if j == tick else _MEASURED)
        line.append(f" {predicted[i]:9.2f}" if predicted is not None else f" {'·':>9}")
        line.append(f" {measured[0][i]:8.2f}" if measured is not None else f" {'·':>8}")
        out.append(line)
    return out
