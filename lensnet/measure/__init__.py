"""The measured side: torch modules of the components, statistics of their outputs and gradients, weight ensembles.

`measure(network, batch, seeds)` is the entrance. `layers/` holds the torch implementations by family, `module` turns a
network into an fx graph, `passes` runs one forward and backward pass, `fields` and `estimators/` say what is measured.
torch is imported on first use, so that the types of `statistics` cost nothing.
"""

from importlib import import_module
from typing import Any

from lensnet.measure.errors import DeviceError, ImplementationError, MeasureError
from lensnet.measure.statistics import Measurement, OutputStatistics, SeedStatistics

_HOMES = {
    "Progress": "ensemble",
    "measure": "ensemble",
    "implementation": "layers",
    "implementations": "layers",
    "to_module": "module",
    "measure_pass": "passes",
}

__all__ = ["DeviceError", "ImplementationError", "MeasureError", "Measurement", "OutputStatistics", "SeedStatistics"]
__all__ += list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
