"""Options that several verbs share, defined once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

FILES, HOW, SHOWN = "Files (- is standard output)", "What is run", "What is shown"


class LevelChoice(StrEnum):
    """Levels of the ladder, the cheapest that suffices, or all."""

    MOMENTS = "moments"
    KERNEL = "kernel"
    SPECTRUM = "spectrum"
    FLUCTUATION = "fluctuation"
    AUTO = "auto"
    ALL = "all"


class DeviceChoice(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class DtypeChoice(StrEnum):
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class ViewChoice(StrEnum):
    LOCAL = "local"
    THROUGH = "through"
    BOTH = "both"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A network file, or the name of a bundled one: alexnet.")]

Level = Annotated[
    LevelChoice,
    typer.Option("--level", help="Level of abstraction; auto: the cheapest that holds.", rich_help_panel=HOW),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Weight draws to measure.", rich_help_panel=HOW)]
MostSeeds = Annotated[
    int | None,
    typer.Option(
        "--most-seeds", min=1, help="Add seeds for undecided rows up to here. [4x seeds]", rich_help_panel=HOW
    ),
]
FirstSeed = Annotated[int, typer.Option("--first-seed", min=0, help="Number of the first draw.", rich_help_panel=HOW)]
Device = Annotated[DeviceChoice, typer.Option("--device", help="Where to measure.", rich_help_panel=HOW)]
Dtype = Annotated[
    DtypeChoice | None,
    typer.Option("--dtype", help="Number format of the measurement. [float32; steps: float64]", rich_help_panel=HOW),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the spec: constants.width=256, block.0.fc.gain=2. Repeatable.",
        rich_help_panel=HOW,
    ),
]
ForwardOnly = Annotated[bool, typer.Option("--forward-only", help="Leave the gradients out.", rich_help_panel=HOW)]
Rows = Annotated[
    int,
    typer.Option("--rows", min=2, help="Most samples whose Gram matrix the levels below look at.", rich_help_panel=HOW),
]
Tolerance = Annotated[
    float, typer.Option("--tolerance", min=0.0, help="Relative error of a component that agrees.", rich_help_panel=HOW)
]

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="A file of lensnet construct, not new draws.", rich_help_panel=HOW),
]

View = Annotated[
    ViewChoice,
    typer.Option(
        "--view",
        help="From each component's own measured input (local), from the network's input (through), or both.",
        rich_help_panel=SHOWN,
    ),
]
OnlyBad = Annotated[bool, typer.Option("--only-bad", help="Only rows that do not agree.", rich_help_panel=SHOWN)]
AllRows = Annotated[bool, typer.Option("--all-rows", help="Do not fold repeated blocks.", rich_help_panel=SHOWN)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing; the exit status tells.", rich_help_panel=SHOWN)
]

Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Every number as data.", rich_help_panel=FILES)
]
Markdown = Annotated[
    str | None, typer.Option("--markdown", metavar="FILE", help="Tables for a pull request.", rich_help_panel=FILES)
]
Html = Annotated[
    str | None, typer.Option("--html", metavar="FILE", help="One page, nothing loaded.", rich_help_panel=FILES)
]
Plot = Annotated[
    str | None, typer.Option("--plot", metavar="FILE", help="Figure: .png, .svg or .pdf.", rich_help_panel=FILES)
]
