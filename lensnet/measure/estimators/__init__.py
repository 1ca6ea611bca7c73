"""Side quantities: what the moments do not carry, measured where a component asks for it (`needs:` in its YAML).

`@estimator("name")` registers one. Every file of this folder is imported here, so a new family needs no list to be
edited. E_c in the definitions is the average over channels.
"""

from importlib import import_module
from pkgutil import iter_modules

from lensnet.measure.estimators.registry import (
    Estimator,
    estimator,
    estimators,
    gradient_quantities,
    needed,
    output_quantities,
    signal_quantities,
)

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = [
    "Estimator",
    "estimator",
    "estimators",
    "gradient_quantities",
    "needed",
    "output_quantities",
    "signal_quantities",
]
