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
from lensnet.cli.options import Html, Json, Markdown, MostSeeds, Quiet, Seeds, Tolerance

if TYPE_CHECKING:
    from torch import nn

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
Input = Annotated[list[str], typer.Option("--input", "-i", help="Size of an input, the examples first: 8x3x224x224.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the network as a file for lensnet run.")]
Depth = Annotated[int, typer.Option("--depth", min=1, help="How deep the tree of modules is shown.")]
Mode = Annotated[ModeChoice, typer.Option("--mode", help="Batch norms and dropout as in evaluation or in training.")]
Given = Annotated[
    WeightsChoice, typer.Option("--weights", help="Fresh draws (designed), the given ones (built), or look.")
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights to load: .safetensors, or a state_dict (never unpickled).")
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
    meta: Meta = False,
    predict_only: PredictOnly = False,
    tolerance: Tolerance = 0.05,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
) -> int:
    """Show what every module of a torch model does to its signal, predicted beside measured."""
    sizes = [_size(text) for text in input]
    model = _made(factory, meta)
    from lensnet.cli.output import Output
    from lensnet.cli.progress import SeedBar
    from lensnet.compare.settings import Settings
    from lensnet.importers.summary import summary

    output = Output("both", False, False, True, json, markdown, html, None)
    output.check()
    if checkpoint is not None:
        from lensnet.importers.checkpoint import load_checkpoint

        load_checkpoint(model, checkpoint)
    with SeedBar(type(model).__name__, quiet) as bar:
        found = summary(
            model, sizes[0] if len(sizes) == 1 else sizes, seeds=seeds, most_seeds=most_seeds, depth=depth,
            mode=mode.value, weights=weights.value, measure=not predict_only,
            settings=Settings(tolerance=tolerance), progress=bar,
        )  # fmt: skip
    _show(found, quiet)
    if out is not None and found.imported is not None:
        _write(found, out, quiet)
    if found.report is None:
        return 2
    status = output.write(found.report)
    return 4 if found.reason and not status else status


def _show(found: Summary, quiet: bool) -> None:
    from rich.console import Console

    if not quiet:
        Console().print(found)


def _write(found: Summary, out: Path, quiet: bool) -> None:
    try:
        found.save(out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    if not quiet:
        print(f"{out}: lensnet lint {out}; lensnet run {out}")


def _size(text: str) -> tuple[int, ...]:
    parts = text.lower().replace(",", "x").split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--input {text}: give whole numbers, the examples first, as 8x3x224x224")
    return tuple(int(part) for part in parts)


def _made(factory: str, meta: bool) -> nn.Module:
    """The model that a factory of the user makes. The current folder is importable, as for `python -m`."""
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
    return model
