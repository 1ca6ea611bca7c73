"""Which numbers of a component have a row at a level, and on which scale they are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lensnet.compare.contrast import Scale
from lensnet.compare.ensemble import Ensemble, Key
from lensnet.network.graph import Network, Node
from lensnet.quantities.quantity import QUANTITIES

_SCALES: dict[str, Scale] = {"linear": "signed", "bounded": "bounded"}


def scale_of(quantity: str) -> Scale:
    """How two values of a quantity are compared: linear ones may be negative, all others are sizes."""
    known = QUANTITIES.get(quantity)
    return _SCALES.get(known.scale, "positive") if known else "positive"


def keys_by_component(
    network: Network, effects: Iterable[Key], ensemble: Ensemble, level: str
) -> Mapping[str, list[Key]]:
    """For every component the keys of its rows at a level, in the order of the quantities' definitions.

    Those are what the level predicts, and what it defines and was measured although nobody predicted it. At the level
    of moments every component has its mean and second moments.
    """
    out: dict[str, dict[Key, None]] = {node.path: {} for node in network}
    if level == "moments":
        for node in network:
            out[node.path].update(dict.fromkeys(_moments(node)))
    for key in effects:
        if key.level == level and key.component in out:
            out[key.component][key] = None
    for key in ensemble.measured:
        known = QUANTITIES.get(key.quantity)
        if known is not None and known.level == level and key.component in out:
            out[key.component][key._replace(level=level)] = None
    order = {name: place for place, name in enumerate(QUANTITIES)}
    return {
        path: sorted(keys, key=lambda key: (key.direction == "backward", order.get(key.quantity, len(order))))
        for path, keys in out.items()
    }


def _moments(node: Node) -> list[Key]:
    return [
        Key(node.path, "mean", "forward", None),
        Key(node.path, "second_moment", "forward", None),
        *(Key(node.path, "second_moment", "backward", port) for port in node.ports),
    ]
