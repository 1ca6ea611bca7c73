"""The torch side of the objectives, by name."""

from lensnet.measure.steps.objectives import quadratic, two_layer

__all__ = ["quadratic", "two_layer"]
