"""Windows written out as channels, and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS, Atom, Layout
from lensnet.importers.operations import argument, arguments
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.layout import as_grid
from lensnet.importers.rules.pools import pair_of, two_of

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("im2col")
def unfolded(mapper: Mapper, node: Node) -> Value:
    source, *_ = arguments(node)
    source, beam = as_grid(mapper, node, source, (2, 3))
    parameters = _window(node, 1)
    rows, columns = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, d, p, s in zip(beam.positions, *(two_of(argument(node, 1 + i, "")) for i in range(4)), strict=True)
    )
    layout = Layout((beam.layout.axes[0], (Atom(CHANNELS, sizes_of(node)[1]),), (Atom(0, rows), Atom(1, columns))))
    made = Beam("", layout, (rows, columns), sizes_of(node)[1])
    return mapper.one(node, "unfold", parameters, made, source)


@rule("col2im")
def folded(mapper: Mapper, node: Node) -> Value:
    source, out = arguments(node)[0], sizes_of(node)
    beam, parameters = mapper.beam(source), _window(node, 2)
    kernel, dilation, padding, stride = (two_of(argument(node, 2 + i, "")) for i in range(4))
    counts = [(n + 2 * p - d * (k - 1) - 1) // s + 1
              for n, k, d, p, s in zip(out[2:], kernel, dilation, padding, stride, strict=True)]  # fmt: skip
    rest = [n - ((c - 1) * s - 2 * p + d * (k - 1) + 1)
            for n, c, k, d, p, s in zip(out[2:], counts, kernel, dilation, padding, stride, strict=True)]  # fmt: skip
    parameters |= {"output_padding": pair_of(rest)} if any(rest) else {}
    wanted = beam.layout.reshaped((*sizes_of(source)[:2], *counts))
    if not wanted.roles(1) <= {CHANNELS} or sizes_of(source)[1] != beam.channels:
        raise Unmapped("windows whose second axis is not the channels")
    grid = mapper.before(node, torch.ops.aten.reshape.default, (source, list(wanted.sizes)))
    mapper.values[grid] = beam.laid(wanted)
    node.replace_input_with(source, grid)
    grid, beam = as_grid(mapper, node, grid, (2, 3))
    flat = mapper.before(node, torch.ops.aten.reshape.default, (grid, list(sizes_of(source))))
    seen = Layout((*beam.layout.axes[:2], (*beam.layout.axes[2], *beam.layout.axes[3])))
    mapper.values[flat] = beam.laid(seen)
    node.replace_input_with(grid, flat)
    layout = beam.layout.with_axis(1, CHANNELS, out[1]).with_axis(2, 0, out[2]).with_axis(3, 1, out[3])
    return mapper.one(node, "fold", parameters, Beam("", layout, tuple(out[2:]), out[1]), flat)


def _window(node: Node, first: int) -> dict[str, Any]:
    """Kernel, dilation, padding and stride, which stand in this order from argument `first` on."""
    defaults = {"kernel": None, "dilation": 1, "padding": 0, "stride": 1}
    found = {name: pair_of(argument(node, first + i, name)) for i, name in enumerate(defaults)}
    return {name: value for name, value in found.items() if value != defaults[name]}
