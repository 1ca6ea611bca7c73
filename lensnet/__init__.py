"""lensnet: what does this layer do to my signal, and how do you know?

    net = lensnet.load("alexnet")        # a spec by name or file
    report = net.run(seeds=8)            # predicted beside measured, with verdicts
    report                               # shows itself in a terminal and in a notebook
    lensnet.summary(model, input_size=(8, 3, 224, 224))   # the same for a torch model that you have
    lensnet.derive("relu")               # where its effects come from, step by step
    lensnet.rate_reduction(z, labels)    # nats, differentiable: for a training loop or a look at features

Importing lensnet imports neither torch nor sympy: torch comes with the first measurement (or a batch of data to predict
from), sympy with the first derivation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensnet.api import Net, load
    from lensnet.derivation.api import derive
    from lensnet.importers.summary import summary
    from lensnet.measure.rate_probe import probe_rates
    from lensnet.quantities.coding_rate import coding_rate, rate_reduction

__version__ = "0.1.0"
__all__ = ["Net", "__version__", "coding_rate", "derive", "load", "probe_rates", "rate_reduction", "summary"]


def __getattr__(name: str) -> Any:
    if name in ("Net", "load"):
        from lensnet import api

        return getattr(api, name)
    if name == "summary":
        from lensnet.importers.summary import summary

        return summary
    if name == "derive":
        from lensnet.derivation.api import derive

        return derive
    if name in ("coding_rate", "rate_reduction"):
        from importlib import import_module

        return getattr(import_module("lensnet.quantities.coding_rate"), name)
    if name == "probe_rates":
        from lensnet.measure.rate_probe import probe_rates

        return probe_rates
    raise AttributeError(f"module 'lensnet' has no attribute {name!r}")
