"""Eigenvalues in the terminal: a bar for what was measured in each interval, a tick where the prediction ends."""

from __future__ import annotations

from rich.text import Text

from lensnet.compare.eigenvalues import Eigenvalues
from lensnet.report.numbers import short
from lensnet.report.palette import PREDICTED

BINS = 14
_MEASURED = "#2f7d4f"


def lines(found: Eigenvalues, width: int, unit: str = "eigenvalues", of: str = "rows") -> list[Text]:
    """One block: a line per interval of eigenvalues, from the largest down.

    `unit`: what they are; `of`: what there are as many of.
    """
    draws = len(found.measured)
    facts = [f"{found.rows:,} {of}", f"{found.channels:,} neurons", f"{draws} draws" if draws != 1 else "1 draw"]
    head = Text.assemble((found.component, "bold"), f"  {' · '.join(facts)}")
    edges = found.edges(BINS)
    if not edges.size:
        return [head, Text(f"  nothing is known of its {unit}")]
    predicted, measured = found.predicted_counts(edges), found.measured_counts(edges)
    most = max(
        predicted.max() if predicted is not None else 0.0, measured[0].max() if measured is not None else 0.0, 1e-9
    )
    room = max(width - 45, 10)
    out = [head, Text(f"  {unit:>19}  {'':{room}} predicted measured", style="dim")]
    digits = 2 if edges[1] > 1.3 * edges[0] else 3
    for i in reversed(range(len(edges) - 1)):
        bar = [" "] * room
        if measured is not None:
            bar[: round(measured[0][i] / most * room)] = ["█"] * round(measured[0][i] / most * room)
        line = Text(f"  {short(edges[i], digits):>8} … {short(edges[i + 1], digits):<8}  ")
        tick = None if predicted is None else min(round(predicted[i] / most * room), room - 1)
        for j, cell in enumerate(bar):
            line.append("│" if j == tick else cell, style=f"bold {PREDICTED}" if j == tick else _MEASURED)
        line.append(f" {predicted[i]:9.2f}" if predicted is not None else f" {'·':>9}")
        line.append(f" {measured[0][i]:8.2f}" if measured is not None else f" {'·':>8}")
        out.append(line)
    return out
