"""What every operation becomes, one file per family; importing the package registers the rules."""

from lensnet.importers.rules import (
    activations,
    attended,
    attention,
    cuts,
    experts,
    joins,
    layout,
    merges,
    modules,
    norms,
    pools,
    recurrent,
    scan,
    tables,
    unfolding,
    weights,
)

__all__ = [
    "activations", "attended", "attention", "cuts", "experts", "joins", "layout", "merges", "modules", "norms", "pools",
    "recurrent", "scan", "tables", "unfolding", "weights",
]  # fmt: skip
