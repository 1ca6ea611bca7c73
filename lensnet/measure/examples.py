"""The labelled examples of a running pass. Labels belong to a batch: who runs a pass on it says so, nobody guesses.

Estimators look here for classes and layers, and a gate that goes by labels looks here for them. Outside such a pass
nothing is known of the examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class Examples:
    """What a running pass knows about its batch: the labels, and the torch layers by component path.

    `everywhere`: the rates of every component's output are wanted, not of constructed layers alone.
    """

    labels: Tensor | None
    layers: Mapping[str, nn.Module]
    everywhere: bool = False
    kept: dict[Any, Any] = field(default_factory=dict)

    def labels_of(self, features: Tensor) -> Tensor | None:
        """Classes (N,) of features (N, ...) of the pass, on their device; None where they are not known."""
        if self.labels is None or len(self.labels) < len(features):
            return None
        return self.labels[: len(features)].to(features.device)


_IN_FORCE: ContextVar[Examples | None] = ContextVar("examples", default=None)


def examples_now() -> Examples | None:
    return _IN_FORCE.get()


@contextmanager
def in_force(examples: Examples | None) -> Iterator[None]:
    token = _IN_FORCE.set(examples)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)
