"""run, predict, measure: the verbs that answer what a network does to its signal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lensnet.cli.options import (
    AllRows,
    Device,
    DeviceChoice,
    Dtype,
    FirstSeed,
    ForwardOnly,
    Html,
    Json,
    Level,
    LevelChoice,
    Markdown,
    MostSeeds,
    OnlyBad,
    Overrides,
    Plot,
    Quiet,
    Rows,
    Seeds,
    Spec,
    Tolerance,
    View,
    ViewChoice,
    Weights,
)
from lensnet.cli.output import Output

if TYPE_CHECKING:
    from torch import Tensor

    from lensnet.compare.settings import Settings


def run(
    spec: Spec,
    level: Level = LevelChoice.AUTO,
    seeds: Seeds = 8,
    most_seeds: MostSeeds = None,
    first_seed: FirstSeed = 0,
    device: Device = DeviceChoice.AUTO,
    dtype: Dtype = None,
    overrides: Overrides = None,
    forward_only: ForwardOnly = False,
    rows: Rows = 128,
    weights: Weights = None,
    tolerance: Tolerance = 0.05,
    view: View = ViewChoice.BOTH,
    only_bad: OnlyBad = False,
    all_rows: AllRows = False,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
    plot: Plot = None,
) -> int:
    """Predict every component, measure it, and show one beside the other with verdicts."""
    output = Output(_view(view), only_bad, all_rows, quiet, json, markdown, html, plot)
    output.check()
    settings = settings_of(tolerance)
    from lensnet.api import load

    net = load(spec, overrides or ())
    report = net.run(
        seeds,
        level=level.value,
        rows=rows,
        weights=_weights(weights),
        settings=settings,
        device=device.value,
        **({} if dtype is None else {"dtype": dtype.value}),
        backward=not forward_only,
        first_seed=first_seed,
        most_seeds=most_seeds,
        progress=not quiet,
    )
    return output.write(report)


def predict(
    spec: Spec,
    level: Level = LevelChoice.AUTO,
    overrides: Overrides = None,
    forward_only: ForwardOnly = False,
    rows: Rows = 128,
    all_rows: AllRows = False,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
    plot: Plot = None,
) -> int:
    """Show what the effect models say, without a single forward pass."""
    output = Output("both", False, all_rows, quiet, json, markdown, html, plot)
    output.check()
    settings = settings_of(0.05)
    from lensnet.api import load

    net = load(spec, overrides or ())
    return output.write(net.predict(settings, gradients=not forward_only, level=level.value, rows=rows))


def measure(
    spec: Spec,
    level: Level = LevelChoice.MOMENTS,
    seeds: Seeds = 8,
    first_seed: FirstSeed = 0,
    device: Device = DeviceChoice.AUTO,
    dtype: Dtype = None,
    overrides: Overrides = None,
    forward_only: ForwardOnly = False,
    rows: Rows = 128,
    all_rows: AllRows = False,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
    plot: Plot = None,
) -> int:
    """Show what forward and backward passes over weight draws give, without any formula."""
    output = Output("through", False, all_rows, quiet, json, markdown, html, plot)
    output.check()
    from lensnet.api import load

    net = load(spec, overrides or ())
    report = net.measure(
        seeds,
        level=level.value,
        rows=rows,
        first_seed=first_seed,
        device=device.value,
        **({} if dtype is None else {"dtype": dtype.value}),
        backward=not forward_only,
        progress=not quiet,
    )
    return output.write(report)


def _weights(file: str | None) -> Mapping[str, Tensor] | None:
    if file is None:
        return None
    from lensnet.construct.file import read

    return read(Path(file)).tensors


def _view(view: ViewChoice) -> Literal["local", "through", "both"]:
    return {ViewChoice.LOCAL: "local", ViewChoice.THROUGH: "through"}.get(view, "both")  # type: ignore[return-value]


def settings_of(tolerance: float) -> Settings:
    from lensnet.compare.settings import Settings

    return Settings(tolerance=tolerance)
