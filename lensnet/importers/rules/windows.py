"""What a window slides over: the axes of an image, beside frames or parts that stand among the examples.

A model that looks at every frame of a film as at an image lays the frames among the examples, (N T, C, H, W). The
network keeps their axis, and the window has one place along it: a convolution over images is one over the film.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped
from lensnet.importers.layout import Layout, Role
from lensnet.importers.rules.layout import as_grid

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@dataclass(frozen=True)
class Ground:
    """The signal at `source`; `roles`: the position axis of the network that lies along each axis of the window."""

    source: Node
    beam: Beam
    axes: tuple[int, ...]
    roles: tuple[int, ...]

    @property
    def rank(self) -> int:
        """How many axes the window has in the network."""
        return len(self.beam.positions)

    def each(self, value: Any, still: int) -> Any:
        """A number per axis of the window as one per axis of the network, `still` along the others."""
        values = list(value) if isinstance(value, list | tuple) else [value]
        values = values * len(self.roles) if len(values) == 1 else values
        out = [int(values[self.roles.index(role)]) if role in self.roles else still for role in range(self.rank)]
        return out[0] if len(set(out)) == 1 else out

    def made(self, sizes: tuple[int, ...]) -> tuple[Layout, tuple[int, ...]]:
        """Layout and positions of an output whose axes under the window have `sizes`."""
        layout, positions = self.beam.layout, list(self.beam.positions)
        for axis, role, size in zip(self.axes, self.roles, sizes, strict=True):
            layout, positions[role] = layout.with_axis(axis, role, size), size
        return layout, tuple(positions)


def ground(mapper: Mapper, node: Node, source: Node, axes: tuple[int, ...]) -> Ground:
    """The signal at `source` where a window slides along `axes` of its tensor. Raises Unmapped."""
    beam = mapper.beam(source)
    roles = [_whole(beam, axis) for axis in axes]
    found = [role for role in roles if role is not None]
    others = set(range(len(beam.positions))) - set(found)
    among = {atom.role for atom in beam.layout.axes[0]} | {r for r, size in enumerate(beam.positions) if size == 1}
    if len(found) == len(axes) and others and others <= among and len(beam.positions) < 4:
        return Ground(source, beam, axes, tuple(found))
    source, beam = as_grid(mapper, node, source, axes)
    return Ground(source, beam, axes, tuple(range(len(axes))))


def _whole(beam: Beam, axis: int) -> int | None:
    """The position axis that lies along an axis of a tensor, and nothing else does."""
    roles: set[Role] = beam.layout.roles(axis)
    role = next(iter(roles)) if len(roles) == 1 else None
    whole = isinstance(role, int) and beam.layout.sizes[axis] == beam.positions[role]
    return role if whole and isinstance(role, int) else None


def framed(rank: int) -> str:
    """The component that moves, cuts or pads so many axes of positions. Raises Unmapped."""
    if not 1 <= rank <= 3:
        raise Unmapped("more than three axes of positions moved, turned, cut or padded")
    return ("take", "frame", "frame3d")[rank - 1]
