"""Which axis of a tensor is what: examples, positions and channels, followed through views and transpositions.

A model may hold the same signal as (N, C, H, W), as (N, H*W, C), cut into windows or split into heads. Each axis is a
list of *atoms*, the pieces that reshapes cut out of the axes of the grid. An atom knows its role (`examples`,
`channels`, or the number of a position axis), its size and its stride inside that axis, so that a tensor in any layout
can be put back in order: examples, positions, channels. What only rearranges is an edge of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

EXAMPLES = "examples"
CHANNELS = "channels"
COPIES = "copies"
Role = str | int


class LayoutError(ValueError):
    """A tensor that cannot be read as examples x positions x channels; the message says why."""


@dataclass(frozen=True)
class Atom:
    """A piece of one axis of the grid: its index runs over `size` places, `stride` apart. `copies`: an expansion."""

    role: Role
    size: int
    stride: int = 1


Axis = tuple[Atom, ...]


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor, each the product of its atoms (most significant first; none for an axis of length 1)."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, roles: Sequence[Role | None], sizes: Sequence[int]) -> Layout:
        """A tensor whose axes have one role each (None: an axis of length 1 without meaning)."""
        pairs = zip(roles, sizes, strict=True)
        return cls(tuple(() if size == 1 or role is None else (Atom(role, size),) for role, size in pairs))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(prod(atom.size for atom in axis) for axis in self.axes)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return tuple(atom for axis in self.axes for atom in axis)

    def size_of(self, role: Role) -> int:
        return prod(atom.size for atom in self.atoms if atom.role == role)

    @property
    def channels(self) -> int:
        return self.size_of(CHANNELS)

    @property
    def copies(self) -> int:
        return self.size_of(COPIES)

    def axes_of(self, role: Role) -> list[int]:
        """The tensor axes that hold a piece of a role."""
        return [place for place, axis in enumerate(self.axes) if any(atom.role == role for atom in axis)]

    def roles(self, axis: int) -> set[Role]:
        return {atom.role for atom in self.axes[axis]}

    # --- what rearranges ---------------------------------------------------------------------------------------------

    def permuted(self, order: Sequence[int]) -> Layout:
        return Layout(tuple(self.axes[place % len(self.axes)] for place in order))

    def reshaped(self, sizes: Sequence[int]) -> Layout:
        """The layout after `reshape(sizes)`. Raises LayoutError where an axis would cut an atom unevenly."""
        rest = list(self.atoms)
        axes: list[Axis] = []
        for size in sizes:
            axis: list[Atom] = []
            need = size
            while need > 1:
                if not rest:
                    raise LayoutError(f"{self.sizes} cannot become {tuple(sizes)}")
                atom = rest.pop(0)
                if atom.size == 1:
                    continue
                if need % atom.size == 0:
                    axis.append(atom)
                    need //= atom.size
                elif atom.size % need == 0:
                    inner = atom.size // need
                    axis.append(Atom(atom.role, need, atom.stride * inner))
                    rest.insert(0, Atom(atom.role, inner, atom.stride))
                    need = 1
                else:
                    raise LayoutError(f"a reshape from {self.sizes} to {tuple(sizes)} cuts across the axes")
            axes.append(_joined(axis))
        return Layout(tuple(axes))

    def unsqueezed(self, axis: int) -> Layout:
        axis %= len(self.axes) + 1
        return Layout((*self.axes[:axis], (), *self.axes[axis:]))

    def squeezed(self, axes: Iterable[int]) -> Layout:
        gone = {axis % len(self.axes) for axis in axes}
        return Layout(tuple(axis for place, axis in enumerate(self.axes) if place not in gone or axis))

    def expanded(self, sizes: Sequence[int]) -> Layout:
        """The layout after `expand(sizes)`: new or one-long axes that grow hold copies."""
        missing = len(sizes) - len(self.axes)
        axes = ((),) * missing + self.axes
        return Layout(
            tuple(
                axis if axis or size in (1, -1) else (Atom(COPIES, size),)
                for axis, size in zip(axes, sizes, strict=True)
            )
        )

    def with_axis(self, place: int, role: Role | None, size: int) -> Layout:
        """The same with one axis replaced by a fresh one of a single role."""
        place %= len(self.axes)
        axis: Axis = () if role is None or size == 1 else (Atom(role, size),)
        return Layout((*self.axes[:place], axis, *self.axes[place + 1 :]))

    def without(self, places: Iterable[int], keep: bool) -> Layout:
        """The same after a reduction over some axes."""
        gone = {place % len(self.axes) for place in places}
        if keep:
            return Layout(tuple(() if place in gone else axis for place, axis in enumerate(self.axes)))
        return Layout(tuple(axis for place, axis in enumerate(self.axes) if place not in gone))

    # --- reading a tensor --------------------------------------------------------------------------------------------

    def order(self, positions: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """How to put a tensor in order: (sizes of its atoms, order of the atoms, sizes of the result).

        The result has the axes examples, positions, copies, channels. Raises LayoutError where atoms are missing or
        not those of a whole axis.
        """
        atoms = self.atoms
        roles: list[Role] = [EXAMPLES, *range(len(positions)), COPIES, CHANNELS]
        chosen: list[int] = []
        sizes: list[int] = []
        for role in roles:
            mine = [place for place, atom in enumerate(atoms) if atom.role == role]
            if role != COPIES:
                mine.sort(key=lambda place: -atoms[place].stride)
                stride = 1
                for place in reversed(mine):
                    if atoms[place].stride != stride:
                        raise LayoutError(f"{role}: only a part of the axis is there")
                    stride *= atoms[place].size
            chosen += mine
            sizes.append(prod(atoms[place].size for place in mine))
        if len(chosen) < len(atoms):
            raise LayoutError("the tensor has more position axes than its signal")
        return tuple(atom.size for atom in atoms), tuple(chosen), tuple(sizes)

    def like(self, other: Layout) -> bool:
        """Whether two tensors of one shape hold the same places of the grid along every axis."""
        return len(self.axes) == len(other.axes) and all(
            _joined(a) == _joined(b) for a, b in zip(self.axes, other.axes, strict=True)
        )


def _joined(axis: Sequence[Atom]) -> Axis:
    """Neighbouring atoms that are pieces of one run become one atom."""
    out: list[Atom] = []
    for atom in axis:
        last = out[-1] if out else None
        if last and atom.role == last.role != COPIES and last.stride == atom.stride * atom.size:
            out[-1] = Atom(atom.role, last.size * atom.size, atom.stride)
        else:
            out.append(atom)
    return tuple(out)
