"""What every operation becomes, one file per family; importing the package registers the rules."""

from lensnet.importers.rules import (
    activations,
    attention,
    cuts,
    layout,
    merges,
    modules,
    norms,
    pools,
    recurrent,
    weights,
)

__all__ = ["activations", "attention", "cuts", "layout", "merges", "modules", "norms", "pools", "recurrent", "weights"]
