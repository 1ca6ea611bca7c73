"""How positions of an output relate to positions of an input: what a window, a flatten or a patch does to the grid.

Only integers live here; the numerical operators on fields (gather, scatter) are in `lensnet.predict.operators`. What
kind a geometry is, its class says: two kinds may hold the same numbers.
"""

from __future__ import annotations

from math import prod
from typing import Literal, NamedTuple

PaddingMode = Literal["zero", "circular", "ignore"]
Edge = Literal["dark", "wrap", "mirror", "copy"]
Filter = Literal["nearest", "nearest_exact", "linear", "cubic", "area"]


class GeometryError(ValueError):
    """The geometry does not fit the input positions; the message says why and what would fit."""


class _Numberless:
    """A geometry of which there is one kind only."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Pointwise(_Numberless):
    """Every output position sees its own input position."""

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        return positions


class Window(NamedTuple):
    """A sliding window (convolution, pooling); one entry of each tuple per position axis.

    `mode`: what lies outside: zeros that count (`zero`), the other edge (`circular`), or nothing at all (`ignore`:
    a pool that takes the average or maximum over the real positions only). `ceil`: the last window may reach beyond the
    padding, as long as it begins before it.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    mode: PaddingMode = "zero"
    ceil: bool = False

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != len(self.kernel):
            raise GeometryError(
                f"a window over {len(self.kernel)} position axes was given an input with {len(positions)}"
            )
        if self.ceil and self.mode != "ignore":
            raise GeometryError("windows that reach beyond the padding need `padding_mode: ignore`")
        out = []
        for size, k, s, p, d in zip(positions, self.kernel, self.stride, self.padding, self.dilation, strict=True):
            reach = d * (k - 1) + 1
            if size + 2 * p < reach:
                raise GeometryError(f"a window reaching over {reach} does not fit into {size} + 2*{p} positions")
            count = (size + 2 * p - reach) // s + 1
            more = self.ceil and (size + 2 * p - reach) % s > 0 and count * s < size + p
            out.append(count + more)
        return tuple(out)


class WindowTranspose(NamedTuple):
    """The adjoint of a window: every input position paints `kernel` output positions (transposed convolution)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != len(self.kernel):
            raise GeometryError(
                f"a window over {len(self.kernel)} position axes was given an input with {len(positions)}"
            )
        out = tuple(
            (size - 1) * s - 2 * p + d * (k - 1) + 1 + o
            for size, k, s, p, d, o in zip(
                positions, self.kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True
            )
        )
        if min(out) < 1:
            raise GeometryError(f"the padding {self.padding} leaves no output positions")
        return out


class Adaptive(NamedTuple):
    """Windows chosen so that the output has `output` positions: output i covers floor(i*n/o) .. ceil((i+1)*n/o)."""

    output: tuple[int, ...]

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != len(self.output):
            raise GeometryError(f"asked for {len(self.output)} output axes, the input has {len(positions)}")
        return self.output


class Collapse(_Numberless):
    """All positions become one: global pooling, token mean."""

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class Flatten(_Numberless):
    """Positions become channels."""

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class Patches(NamedTuple):
    """An image is cut into square patches, which become a sequence of tokens (row by row)."""

    patch: tuple[int, int]

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != 2:
            raise GeometryError(f"patches need an image (two position axes), the input has {len(positions)}")
        (h, w), (a, b) = positions, self.patch
        if h % a or w % b:
            raise GeometryError(f"patches of {a}x{b} do not tile an image of {h}x{w}")
        return ((h // a) * (w // b),)


class Strided(NamedTuple):
    """Along each axis, output i is input start + i*step: a slice, a crop, a padding, a turn, or room for tokens in
    front of a sequence. `edge`: what lies outside, nothing (`dark`), the other edge (`wrap`), the picture mirrored at
    its last row (`mirror`), or that row again (`copy`)."""

    start: tuple[int, ...]
    step: tuple[int, ...]
    size: tuple[int, ...]
    edge: Edge = "dark"

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != len(self.size):
            raise GeometryError(f"a slice of {len(self.size)} position axes was given an input with {len(positions)}")
        return self.size

    def places(self, axis: int, size: int) -> list[int]:
        """The input position of every output position along one axis of `size`, -1 for none."""
        return [self._inside(self.start[axis] + index * self.step[axis], size) for index in range(self.size[axis])]

    def _inside(self, place: int, size: int) -> int:
        if 0 <= place < size:
            return place
        if self.edge == "wrap":
            return place % size
        if self.edge == "copy":
            return min(max(place, 0), size - 1)
        if self.edge == "mirror" and size > 1:
            place %= 2 * (size - 1)
            return min(place, 2 * (size - 1) - place)
        return -1


class Pick(NamedTuple):
    """One position of a sequence is kept; the others are dropped."""

    place: int

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != 1 or not 0 <= self.place < positions[0]:
            raise GeometryError(f"position {self.place} is not one of {'x'.join(map(str, positions)) or 'none'}")
        return ()


class Regrid(NamedTuple):
    """The same positions, row by row, on another grid: an image as a sequence, or a sequence as an image."""

    size: tuple[int, ...]

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        size = self.size or (prod(positions),)
        if prod(size) != prod(positions):
            raise GeometryError(f"{prod(positions)} positions do not fill a grid of {'x'.join(map(str, size))}")
        return size


class Resample(NamedTuple):
    """Every output position is a weighted sum of input positions near its own place: an interpolation to `output`
    positions by a `filter` (see `lensnet.network.resampling`). `corners`: the outermost places coincide."""

    output: tuple[int, ...]
    filter: Filter
    corners: bool = False

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) != len(self.output):
            raise GeometryError(f"asked for {len(self.output)} output axes, the input has {len(positions)}")
        return self.output


class Unflatten(NamedTuple):
    """Channels become positions, of which there were none."""

    size: tuple[int, ...]

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if positions:
            raise GeometryError(f"the input has {len(positions)} position axes already")
        return self.size


class Stack(NamedTuple):
    """One axis of the positions becomes channels, `places` of them for each."""

    axis: int
    places: int

    def out_positions(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if len(positions) <= self.axis or positions[self.axis] != self.places:
            raise GeometryError(f"{'x'.join(map(str, positions))} positions have no axis {self.axis} of {self.places}")
        return (*positions[: self.axis], *positions[self.axis + 1 :])


Geometry = (
    Pointwise
    | Window
    | WindowTranspose
    | Adaptive
    | Collapse
    | Flatten
    | Patches
    | Strided
    | Pick
    | Stack
    | Regrid
    | Resample
    | Unflatten
)
