"""Where a distribution is known that is no `Law`: behind a normalisation, and where a skip meets a fresh branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from lensnet.levels.signal import Field, Law, Signal
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Node
from lensnet.predict.environment import linear_factor, static_symbols
from lensnet.predict.moments.distributions import Distribution, OnSphere, WithGaussian


class Moments(Protocol):
    @property
    def mean(self) -> Field: ...
    @property
    def second_moment(self) -> Field: ...


class Independence(Protocol):
    """`lensnet.predict.moments.cross.ForwardCross`."""

    def independent(self, gaussian: str, other: str, origin: str) -> bool: ...


def behind_norm(node: Node, side: Mapping[str, Any], mean: Field, second_moment: Field, law: Law | None) -> Any:
    """The distribution at the output of a normalisation of a Gaussian: on a sphere. None elsewhere."""
    if node.component.law != "normalised" or law is None or law.chain:
        return None
    for name in node.component.active_needs(static_symbols(node)):
        if name.endswith("_dispersion") and not name.startswith("gradient_"):
            dispersion = node.given.get(name, side.get(name))
            if dispersion is not None:
                return OnSphere.of(mean, np.maximum(second_moment - mean**2, 0.0), dispersion, law.terms)
    return None


def behind_sum(node: Node, signals: Sequence[Signal], cross: Independence) -> WithGaussian | None:
    """The distribution of a*f(z) + b*r where r is Gaussian and independent of z; None where that is not known."""
    if node.component.coherence.kind != "linear" or len(node.ports) != 2 or not isinstance(node.geometry, Pointwise):
        return None
    laws = [signal.law for signal in signals]
    for here, there in ((0, 1), (1, 0)):
        law, other = laws[here], laws[there]
        if law is None or other is None or not law.chain or other.chain:
            continue
        source = node.inputs[there]
        if not cross.independent(source, node.inputs[here], law.origin):
            continue
        a, b = (float(np.mean(linear_factor(node, node.ports[port], signals))) for port in (here, there))
        rest = signals[there]
        terms = min(law.terms, other.terms)
        return WithGaussian(terms, law, a, b * rest.mean, b**2 * rest.variance, source, b)
    return None


def as_observed(
    known: Distribution | None, measured: Callable[[Law | None], Law | None], outputs: Mapping[str, Moments]
) -> Distribution | None:
    """The same sum with what was measured of its two parts; `measured`: a law with the statistics of its origin."""
    if not isinstance(known, WithGaussian) or known.source not in outputs:
        return None
    rest, law = outputs[known.source], measured(known.law)
    assert law is not None
    variance = np.maximum(rest.second_moment - rest.mean**2, 0.0)
    return replace(known, law=law, mean=known.factor * rest.mean, variance=known.factor**2 * variance, known={})
