"""phase: where a stack of one activation is ordered, where chaotic, and how deep a signal goes."""

from __future__ import annotations

import json as text_of
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.options import FILES, SHOWN, Plot
from lensnet.cli.output import Output, console, put

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensnet.predict.kernel.phase import Edge, PhaseDiagram

_ROWS = 16
_EDGE_POINTS = 6
_MOST_POINTS = 4000


def phase(
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION|COMPONENT", help="An activation, or a formula in x: 'x*sigmoid(2*x)'.")
    ],
    gain: Annotated[str, typer.Option("--gain", metavar="LOW:HIGH", help="Range of the weights' gain.")] = "0.5:3",
    bias_std: Annotated[str, typer.Option("--bias-std", metavar="LOW:HIGH", help="Range of bias noise.")] = "0:1",
    points: Annotated[
        int, typer.Option("--points", min=2, max=_MOST_POINTS, help="Points per axis in files and figures.")
    ] = 200,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the activation: slope=0.2. Repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only write files.", rich_help_panel=SHOWN)] = False,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Every field as data.", rich_help_panel=FILES)
    ] = None,
    plot: Plot = None,
) -> int:
    """Map the order and chaos of a deep stack over gain and bias noise: fixed points, depth, the edge of chaos."""
    Output(json=json, plot=plot).check()
    ranges = _range("--gain", gain), _range("--bias-std", bias_std)
    import numpy as np

    from lensnet.catalog.functions import function_called
    from lensnet.language.formula import FormulaError
    from lensnet.predict.kernel.phase import edge_of_chaos, phase_diagram

    try:
        activation = function_called(function, _parameters(overrides or []))
    except FormulaError as error:
        raise UsageError(
            f"{function}: {error.message}" + (f"\n  = help: {error.help}" if error.help else "")
        ) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    edge = edge_of_chaos(activation, np.linspace(*ranges[1], max(points, 2)))
    if not quiet and json != "-":
        out = console()
        from lensnet.report.phase import render

        columns = max(20, min(out.width - 18, 96))
        coarse = phase_diagram(activation, np.linspace(*ranges[0], columns), np.linspace(*ranges[1], _ROWS))
        told = edge_of_chaos(activation, np.linspace(*ranges[1], _EDGE_POINTS))
        out.print(render(coarse, told, out.width))
    if json is not None or plot is not None:
        fine = phase_diagram(activation, np.linspace(*ranges[0], points), np.linspace(*ranges[1], points))
        if json is not None:
            put(json, text_of.dumps(_data(fine, edge), allow_nan=False) + "\n")
        if plot is not None:
            from lensnet.report.phase_plot import plot as drawn

            drawn(fine, edge, plot)
    return 0


def _range(option: str, text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = (-1.0, -1.0)
    if not colon or not all(map(isfinite, ends)) or not 0 <= ends[0] < ends[1]:
        raise UsageError(f"{option} {text}: a range is written LOW:HIGH with 0 <= LOW < HIGH, as in 0.5:3")
    return ends


def _parameters(overrides: list[str]) -> dict[str, float]:
    from lensnet.language.formula import evaluate_number

    values = {}
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign:
            raise UsageError(f"--set {override}: it is written NAME=VALUE")
        values[name.strip()] = float(evaluate_number(value.strip(), {}))
    return values


def _data(diagram: PhaseDiagram, edge: Edge) -> dict[str, Any]:
    fields = ("second_moment", "chi", "correlation", "chi_correlation", "chi_variance", "depth")
    return {
        "schema": 1,
        "activation": diagram.name,
        "gain": _plain(diagram.gain),
        "bias_std": _plain(diagram.bias_std),
        **{name: _plain(getattr(diagram, name)) for name in fields},
        "edge": {name: _plain(getattr(edge, name)) for name in ("bias_std", "gain", "second_moment")},
        "relative_error": diagram.error,
    }


def _plain(values: NDArray[Any]) -> Any:
    """Nested lists; numbers that are not finite as text, so that the file is strict JSON."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [float(value) if isfinite(value) else str(float(value)) for value in values]
