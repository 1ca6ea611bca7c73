"""import: a torch model as a network, predicted beside measured, and written out as a file."""

from __future__ import annotations

import importlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.measuring import settings_of
from lensnet.cli.options import ForwardOnly, Html, Json, Markdown, MostSeeds, Plot, Quiet, Seeds, Tolerance
from lensnet.cli.output import Output, console
from lensnet.cli.saved import show_beside

if TYPE_CHECKING:
    from torch import nn

    from lensnet.compare.report import Report
    from lensnet.importers.summary import Summary


class ModeChoice(StrEnum):
    EVAL = "eval"
    TRAIN = "train"


class WeightsChoice(StrEnum):
    AUTO = "auto"
    DESIGNED = "designed"
    BUILT = "built"


Factory = Annotated[
    str, typer.Argument(metavar="PACKAGE.MODULE:FACTORY", help="What makes the model, called without arguments.")
]
Input = Annotated[
    list[str],
    typer.Option(
        "--input", "-i", metavar="[NAME=]WHAT",
        help="A size, the examples first: 8x3x224x224; tokens:8x128; digits:128; photos:16; FILE.npz:KEY. Repeatable.",
    ),
]  # fmt: skip
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the network as a file for lensnet run.")]
Depth = Annotated[int, typer.Option("--depth", min=1, help="How deep the tree of modules is shown.")]
Mode = Annotated[ModeChoice, typer.Option("--mode", help="Batch norms and dropout as in evaluation or in training.")]
Given = Annotated[
    WeightsChoice, typer.Option("--weights", help="Fresh draws (designed), the given ones (built), or look.")
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights to load: .safetensors, or a state_dict (never unpickled).")
]
Other = Annotated[
    str | None,
    typer.Option(
        "--beside", metavar="OTHER", help="Compare with another checkpoint, another FACTORY, or a report (.json)."
    ),
]
Components = Annotated[
    list[str] | None,
    typer.Option("--component", metavar="FILE", help="A component whose matches: names modules. Repeatable."),
]
Meta = Annotated[bool, typer.Option("--meta", help="Build the model without weights; predict alone.")]
PredictOnly = Annotated[bool, typer.Option("--predict-only", help="No forward pass.")]


def import_(
    factory: Factory,
    input: Input,
    out: Out = None,
    depth: Depth = 3,
    seeds: Seeds = 8,
    most_seeds: MostSeeds = None,
    mode: Mode = ModeChoice.EVAL,
    weights: Given = WeightsChoice.AUTO,
    checkpoint: Checkpoint = None,
    beside: Other = None,
    components: Components = None,
    meta: Meta = False,
    predict_only: PredictOnly = False,
    forward_only: ForwardOnly = False,
    tolerance: Tolerance = 0.05,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
    plot: Plot = None,
) -> int:
    """Show what every module of a torch model does to its signal, predicted beside measured."""
    output = Output("both", False, False, True, json, markdown, html, plot)
    output.check()
    model = made(factory, meta, checkpoint)
    from lensnet.cli.model_input import call_with
    from lensnet.importers.summary import summary

    options: dict[str, Any] = {
        "seeds": seeds, "most_seeds": most_seeds, "depth": depth, "mode": mode.value, "weights": weights.value,
        "measure": not predict_only, "backward": not forward_only, "settings": settings_of(tolerance),
        "components": components or (),
    }  # fmt: skip
    found = summary(model, **call_with(model, input), progress=not quiet, **options)
    if beside is None:
        _show(found, quiet)
    if out is not None and found.imported is not None:
        _write(found, out, quiet)
    if found.report is None:
        return 2
    if beside is not None:
        other, name = _other(beside, factory, meta, input, options, quiet)
        from lensnet.compare.beside import Beside

        return show_beside(Beside(found.report, other, (_name(factory, checkpoint), name)), quiet, json)
    status = output.write(found.report)
    return 4 if found.reason and not status else status


def _other(
    beside: str, factory: str, meta: bool, given: list[str], options: dict[str, Any], quiet: bool
) -> tuple[Report, str]:
    """(report, name) of what `--beside` names: a saved report, a checkpoint of the same model, or another model."""
    from lensnet.cli.model_input import call_with
    from lensnet.importers.summary import summary
    from lensnet.report.json import read_json

    path = Path(beside)
    if path.suffix == ".json":
        return read_json(path), path.stem
    model = made(factory, meta, path) if path.suffix and path.is_file() else made(beside, meta, None)
    found = summary(model, **call_with(model, given), progress=not quiet, **options)
    if found.report is None:
        raise UsageError(f"--beside {beside}: {found.reason}")
    return found.report, path.stem if path.is_file() else beside.rpartition(":")[2]


def _name(factory: str, checkpoint: Path | None) -> str:
    return checkpoint.stem if checkpoint is not None else factory.rpartition(":")[2]


def _show(found: Summary, quiet: bool) -> None:
    if not quiet:
        console().print(found)


def _write(found: Summary, out: Path, quiet: bool) -> None:
    try:
        found.save(out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    if not quiet:
        print(f"{out}: lensnet lint {out}; lensnet run {out}")


def made(factory: str, meta: bool, checkpoint: Path | None) -> nn.Module:
    """The model that a factory of the user makes, with the weights of a checkpoint. The current folder is importable,
    as for `python -m`."""
    place, _, name = factory.partition(":")
    if not place or not name:
        raise UsageError(f"{factory}: write PACKAGE.MODULE:FACTORY, as torchvision.models:resnet18")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(place)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise UsageError(f"cannot import {place}: {error}") from error
    except AttributeError:
        raise UsageError(f"{place} has no {name}") from None
    import torch
    from torch import nn

    try:
        with torch.device("meta" if meta else "cpu"):
            model = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # code of the user
        raise UsageError(f"{factory}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{factory} gives {type(model).__name__}, not a torch module")
    if checkpoint is not None:
        from lensnet.importers.checkpoint import load_checkpoint

        load_checkpoint(model, checkpoint)
    return model
