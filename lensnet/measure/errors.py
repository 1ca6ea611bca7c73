"""What can go wrong while measuring, each with a message that names the place."""

from __future__ import annotations


class MeasureError(RuntimeError):
    """A network cannot be measured; the message names the component and the fix."""


class DeviceError(MeasureError):
    """The device that was asked for is not there."""


class ImplementationError(MeasureError):
    """No torch implementation has this name, or it cannot be built with these parameters."""
