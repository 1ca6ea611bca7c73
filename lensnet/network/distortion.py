"""The distortion squared at which coding rates of labelled examples are stated: predicted and measured alike."""

from __future__ import annotations

from lensnet.network.graph import Network


def label_distortion(network: Network, otherwise: float) -> float:
    """eps2 of its ReduNet layers where all have the same, so that rates before and behind them compare."""
    found = {float(node.parameters["eps2"]) for node in network if node.kind == "redunet_layer"}
    return found.pop() if len(found) == 1 else otherwise
