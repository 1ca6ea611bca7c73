"""What the scripts of this folder share: labelled examples, a figure of lines and dots, a file of finished results.

Predictions are lines, measurements dots, as everywhere in lensnet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensnet.compare.report import Report
from lensnet.measure.labelled import load_labels
from lensnet.measure.sources import load_batch
from lensnet.network.graph import InputSource
from lensnet.report.palette import FAINT, INK, PREDICTED
from lensnet.report.plot import STYLE

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280")
Numbers = Sequence[float]


def labelled(source: InputSource) -> tuple[Tensor, Tensor]:
    """The examples of a source in float64, and their classes."""
    labels = load_labels(source)
    assert labels is not None, f"{source.source} has no labels"
    return load_batch(source, dtype=torch.float64), labels


def rows_of(report: Report, quantity: str, view: str = "through") -> tuple[list[float], list[float]]:
    """(predicted, measured) of a quantity, layer by layer."""
    rows = [row for row in report.rows if row.quantity == quantity and row.view == view]
    nan = float("nan")
    return [nan if r.predicted is None else r.predicted for r in rows], [
        nan if r.measured is None else r.measured for r in rows
    ]


def figure(file: str, title: str, panels: Sequence[Callable[[Any], None]]) -> None:
    """One column of panels; each draws on the axes that it is given."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(7.5, 0.6 + 2.6 * len(panels)), layout="constrained")
        made.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
        for ax, panel in zip(made.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            panel(ax)
            ax.grid(True, axis="y")
            if ax.get_yscale() == "log":
                low, high = ax.get_ylim()
                ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
                ax.yaxis.set_minor_formatter(lambda value, _, few=high < 10 * low: f"{value:.3g}" if few else "")
        made.savefig(file, dpi=150, facecolor="white")
    print(f"figure: {file}")


def line_and_dots(
    ax: Any, x: Numbers, predicted: Numbers, measured: Numbers, name: str, colour: str = PREDICTED
) -> None:
    """A predicted line with measured dots, not more than about forty of them."""
    ax.plot(x, predicted, color=colour, lw=1.4, label=f"{name}, predicted")
    step = max(1, len(x) // 40)
    ax.plot(x[::step], measured[::step], "o", ms=3.2, color=INK, mfc=colour, mew=0.5, label=f"{name}, measured")


def level(ax: Any, value: float, text: str) -> None:
    """A horizontal line with its meaning."""
    ax.axhline(value, color=FAINT, lw=1.0, ls="--")
    halo = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    where = ax.get_yaxis_transform()
    ax.text(0.99, value, text, transform=where, ha="right", va="center", fontsize=8, bbox=halo)


class Results:
    """Finished parts of a long run, in a JSON file: the same command goes on where it was stopped."""

    def __init__(self, file: str) -> None:
        self.path = Path(file)
        self.found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The result of `key`, made (and kept) when it is not there yet."""
        if key not in self.found:
            self.found[key] = make()
            beside = self.path.with_suffix(".part")
            beside.write_text(json.dumps(self.found))
            os.replace(beside, self.path)
        return self.found[key]
