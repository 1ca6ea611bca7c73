"""How the law of a signal (a Gaussian pushed through known functions) passes a component."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lensnet.algebra.pointwise import X, compose, exact, pointwise
from lensnet.levels.signal import Field, Law, Signal
from lensnet.network.graph import Node
from lensnet.predict.environment import linear_factor
from lensnet.predict.moments.pointwise import chained, function_of


def law_after(node: Node, signals: Sequence[Signal], mean: Field, second_moment: Field) -> Law | None:
    """The law at a component's output, None where it is not known to come from a Gaussian.

    Fresh weights make a Gaussian of anything wide, and one of all positions together, which a linear map keeps; a
    pushforward it keeps only when it is the identity up to nothing; a pointwise function joins the chain.
    """
    component = node.component
    with np.errstate(invalid="ignore"):  # of an infinite mean
        variance = np.maximum(second_moment - mean**2, 0.0)
    if component.law == "broken":
        return None
    if component.coherence.kind == "fresh":
        return Law(mean, variance, terms=_terms(node), origin=node.path)
    laws = [signal.law for signal in signals]
    if any(law is None for law in laws):
        return None
    known = [law for law in laws if law is not None]
    if component.is_fork:
        return known[0]
    if component.coherence.kind == "part" and not known[0].chain:
        return Law(known[0].mean, known[0].variance, known[0].terms, node.path)
    if component.coherence.kind == "pointwise":
        law = known[0]
        return Law(law.mean, law.variance, law.terms, law.origin, (chained(law, function_of(node)),))
    if component.coherence.kind != "linear":
        return None
    if any(law.chain for law in known):
        return _scaled(node, signals, known[0]) if component.law in ("kept", "scaled") and len(known) == 1 else None
    return Law(mean, variance, terms=min(law.terms for law in known), origin=node.path)


def _scaled(node: Node, signals: Sequence[Signal], law: Law) -> Law | None:
    """A pushforward unchanged (`kept`), or times a factor nearly the same everywhere (`scaled`: its average)."""
    if node.component.law == "kept":
        return law
    factor = float(np.mean(linear_factor(node, node.ports[0], signals)))
    if not np.isfinite(factor):
        return None
    scale = pointwise(exact(float(f"{factor:.12g}")) * X, name="scale")
    return Law(law.mean, law.variance, law.terms, law.origin, (compose(scale, law.chain[0]),))


def _terms(node: Node) -> float:
    """Independent terms in the sum that a weight layer takes: the fan-in of its last weight tensor."""
    if not node.weights:
        return float("inf")
    last = list(node.weights.values())[-1]
    return float("inf") if node.shapes_in[0].kind == "ids" else float(last.fan_in)
