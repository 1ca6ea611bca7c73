"""How a constructed network turns the classes apart: principal angles between their subspaces, layer by layer."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from lensnet.construct.features import by_layer, labelled_batch
from lensnet.construct.network import Constructed
from lensnet.quantities.subspaces import class_geometry


def angles_by_layer(made: Constructed, paths: Collection[str]) -> dict[str, tuple[float, float]]:
    """The smallest and the largest principal angle between two classes, in radians, by layer.

    Of the features that enter the ReduNet layers among `paths`, and under "output" of those that leave the last one;
    by one pass of the labelled input. NaN where there are no two classes.
    """
    given = labelled_batch(made)
    if given is None:
        return {}
    batch, labels = given

    def angles(_: nn.Module, features: Tensor) -> tuple[float, float]:
        geometry = class_geometry(features.flatten(1), labels)
        return float(geometry.smallest), float(geometry.largest)

    return by_layer(made, batch, angles, paths)
