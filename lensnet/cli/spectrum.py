"""spectrum: the eigenvalues of the sample matrix at some outputs, predicted density beside measured draws."""

from __future__ import annotations

import json as text_of
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.options import HOW, Device, DeviceChoice, FirstSeed, Json, Overrides, Plot, Quiet, Rows, Spec
from lensnet.cli.output import Output, console, put

if TYPE_CHECKING:
    from lensnet.compare.eigenvalues import Eigenvalues
    from lensnet.network.graph import Network

_SHOWN = 4


def spectrum(
    spec: Spec,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at", metavar="COMPONENT", help="Where. Repeatable. [four along the network]", rich_help_panel=HOW
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=0, help="Weight draws to measure.", rich_help_panel=HOW)] = 8,
    rows: Rows = 128,
    jacobian: Annotated[
        bool,
        typer.Option(
            "--jacobian",
            help="Squared singular values of the Jacobian from the input instead.",
            rich_help_panel=HOW,
        ),
    ] = False,
    first_seed: FirstSeed = 0,
    device: Device = DeviceChoice.AUTO,
    overrides: Overrides = None,
    quiet: Quiet = False,
    json: Json = None,
    plot: Plot = None,
) -> int:
    """Show how the eigenvalues of the samples are distributed: predicted density, histogram of real weight draws."""
    Output(json=json, plot=plot).check()
    from lensnet.api import load
    from lensnet.report.progress import SeedBar

    network = load(spec, overrides or ()).network
    places = _places(network, at or [])
    from lensnet.report.eigenvalues import lines
    from lensnet.spectra import eigenvalues, jacobians

    with SeedBar(network.name, quiet or seeds == 0) as bar:
        if jacobian:
            try:
                found = jacobians(network, places, seeds, first_seed, device.value, bar)
            except ValueError as error:
                raise UsageError(f"--jacobian: {network.name}: {error}") from None
        else:
            found = eigenvalues(network, places, seeds, rows, first_seed, device.value, bar)
    if not quiet and json != "-":
        out = console()
        what = "singular values" if jacobian else "rows"
        for one in found:
            for line in lines(one, out.width, "s²" if jacobian else "eigenvalues", what):
                out.print(line)
            out.print()
        out.print("█ measured, mean over draws   │ predicted")
    if json is not None:
        put(json, text_of.dumps(_data(network.name, found), allow_nan=False) + "\n")
    if plot is not None:
        from lensnet.report.eigenvalue_plot import plot as drawn

        title = "Squared singular values of the Jacobian" if jacobian else "Eigenvalues"
        drawn(f"{title}, {network.name}", found, plot, "singular values" if jacobian else "rows")
    return 0


def _places(network: Network, asked: list[str]) -> list[str]:
    paths = [node.path for node in network]
    for path in asked:
        if path not in paths:
            from difflib import get_close_matches

            near = get_close_matches(path, paths, 1)
            raise UsageError(f"--at {path}: no such component" + (f"; did you mean {near[0]}?" if near else ""))
    if asked:
        return asked
    count = min(_SHOWN, len(paths))
    return [paths[((i + 1) * len(paths)) // count - 1] for i in range(count)]


def _data(name: str, found: list[Eigenvalues]) -> dict[str, Any]:
    return {
        "schema": 1,
        "network": name,
        "components": [
            {
                "component": one.component,
                "rows": one.rows,
                "channels": one.channels,
                "x": one.x.tolist(),
                "density_per_ln_x": one.density.tolist(),
                "infinite_width": one.infinite.tolist(),
                "measured": [draw.tolist() for draw in one.measured],
            }
            for one in found
        ],
    }
