"""construct: a network written down from its labelled data."""

from __future__ import annotations

from math import degrees, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensnet.cli.ending import UNDECIDED, UsageError
from lensnet.cli.options import FILES, HOW, Device, DeviceChoice, Overrides, Quiet, Spec
from lensnet.cli.output import console

if TYPE_CHECKING:
    from rich.table import Table

    from lensnet.construct.network import Constructed

SUFFIX = ".safetensors"
SHOWN = 16
"""Rows of the table of layers; of a deeper network the first, the last, and some between."""

Out = Annotated[str, typer.Option("--out", metavar="FILE", help=f"Where it goes: NAME{SUFFIX}.", rich_help_panel=FILES)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of random layers (lifting).", rich_help_panel=HOW)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Begin anew, whatever the file holds.", rich_help_panel=FILES)
]
Tune = Annotated[
    int, typer.Option("--tune", min=0, metavar="EPOCHS", help="Then train all operators together.", rich_help_panel=HOW)
]


def construct(
    spec: Spec,
    out: Out,
    seed: Seed = 0,
    device: Device = DeviceChoice.AUTO,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    tune: Tune = 0,
    quiet: Quiet = False,
) -> int:
    """Make a ReduNet from its labelled data, layer by layer. Ctrl-C keeps what is done; the same command goes on."""
    path = Path(out)
    if path.suffix != SUFFIX:
        raise UsageError(f"--out {out}: the name must end in {SUFFIX}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {path.absolute().parent}")
    from lensnet.api import load

    net = load(spec, overrides or ())
    made = net.construct(path, device=device.value, seed=seed, overwrite=overwrite, progress=not quiet)
    if not quiet:
        _show(made, path)
    if tune and not made.interrupted:
        _tune(made, path.with_name(f"{path.stem}_tuned{SUFFIX}"), tune, quiet)
    return UNDECIDED if made.interrupted else 0


def _tune(made: Constructed, path: Path, epochs: int, quiet: bool) -> None:
    from rich.table import Table

    from lensnet.construct.network import write
    from lensnet.construct.tuning import fine_tune
    from lensnet.report.progress import SeedBar

    with SeedBar(made.network.name, quiet, counted="epochs of tuning") as bar:
        changes = fine_tune(made, epochs, bar)
    write(made, path, {node.path: f"tuned for {epochs} epochs" for node in made.network})
    if quiet:
        return
    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("layer")
    for name in ("R - Rc made", "tuned", "change", "E moved by", "C moved by"):
        table.add_column(name, justify="right")
    places = sorted({round(i * (len(changes) - 1) / max(SHOWN - 1, 1)) for i in range(SHOWN)})
    for change in (changes[place] for place in places):
        moved = [] if change.expansion == 0 else [f"{change.expansion:.1%}", f"{change.compression:.1%}"]
        before, after = change.reduction_before, change.reduction_after
        table.add_row(change.path, f"{before:.6f}", f"{after:.6f}", f"{after - before:+.3g}", *moved)
    out = console()
    out.print("\nwhat backpropagation changed", table, f"{path}: the tuned network", sep="\n")


def _show(made: Constructed, path: Path) -> None:
    out = console()
    if made.rates:
        out.print(_table(made))
        out.print(
            "nats, of the features that enter a layer (output: that leave the last one), with the labels of the input; "
            "angles: the smallest and the largest principal angle between the subspaces of two classes"
        )
    done, wanted = len(made.done), len(made.wanted)
    if made.interrupted:
        out.print(f"interrupted: {done} of {wanted} layers are in {path}; the same command goes on from there")
    else:
        out.print(f"{path}: {wanted} layers, made in {made.seconds:.1f} s")
        out.print(f"next: lensnet run SPEC --weights {path}")


def _table(made: Constructed) -> Table:
    from rich.table import Table

    from lensnet.construct.angles import angles_by_layer

    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("layer")
    for name in ("R", "Rc", "R - Rc", "gain", "gate entropy", "angles"):
        table.add_column(name, justify="right")
    paths = list(made.rates)
    shown = sorted({round(i * (len(paths) - 1) / max(SHOWN - 1, 1)) for i in range(SHOWN)})
    angles = {} if made.interrupted else angles_by_layer(made, [paths[place] for place in shown])
    before = None
    for place in shown:
        total, classes = made.rates[paths[place]]
        gain = "" if before is None else f"{total - classes - before:+.3g}"
        entropy = f"{made.entropies[paths[place]]:.3f}" if paths[place] in made.entropies else ""
        low, high = (degrees(angle) for angle in angles.get(paths[place], (nan, nan)))
        between = "" if isnan(low) else f"{low:.0f}° {high:.0f}°"
        rates = (f"{rate:.6f}" for rate in (total, classes, total - classes))
        table.add_row(paths[place], *rates, gain, entropy, between)
        before = total - classes
    return table
