"""Where signals meet, and where constants are added or multiplied."""

from __future__ import annotations

from math import isfinite, prod, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Unmapped, Value, sizes_of
from lensnet.importers.inputs import lit, named
from lensnet.importers.laws import TensorLaw
from lensnet.importers.layout import CHANNELS, EXAMPLES, Atom, Layout
from lensnet.importers.operations import argument, arguments, name_of
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.activations import defined
from lensnet.importers.rules.layout import as_grid, turned
from lensnet.importers.rules.spreading import broadcast, spread_like, wider

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("add", "sub", "rsub")
def add(mapper: Mapper, node: Node) -> Value:
    name = name_of(node)
    left, right = arguments(node)[:2]
    alpha = float(argument(node, 2, "alpha", 1) or 1) * (-1 if name == "sub" else 1)
    if name == "rsub":
        left, right, alpha = right, left, -1.0
    signals = [isinstance(mapper.values.get(one), Beam) if isinstance(one, Node) else False for one in (left, right)]
    if all(signals):
        return _sum(mapper, node, left, right, alpha)
    source, other = (left, right) if signals[0] else (right, left)
    if not isinstance(source, Node) or not any(signals):
        raise Unmapped("a sum without a signal")
    sign = 1.0 if signals[0] else alpha
    number = mapper.number(other)
    if number is not None:
        shift = number * (alpha if signals[0] else 1.0)
        if shift == 0 and sign == 1:
            return mapper.beam(source)
        text = (
            f"{'x' if sign == 1 else '-x'} + {shift!r}" if shift >= 0 else f"{'x' if sign == 1 else '-x'} - {-shift!r}"
        )
        return defined(mapper, node, source, "shift", text)
    if mapper.static(other) and sizes_of(node) != mapper.beam(source).layout.sizes:
        other = wider(mapper, node, other, mapper.beam(source))
        return _sum(mapper, node, *((source, other) if signals[0] else (other, source)), alpha)
    if sign != 1:
        beam = mapper.beam(source)
        here = mapper.before(node, torch.ops.aten.mul.Tensor, (source, sign))
        mapper.values[here] = mapper.one(here, "scale", {"factor": sign}, beam, source)
        node.target, node.args, node.kwargs, source = torch.ops.aten.add.Tensor, (other, here), {}, here
    return _table(mapper, node, source, other)


def _sum(mapper: Mapper, node: Node, left: Node, right: Node, alpha: float) -> Value:
    left, a, right, b = _met(mapper, node, left, right)
    if alpha == 1 and _above(mapper, b.path, a.path):
        left, right, a, b = right, left, b, a  # the skip is the one that the branch comes from
    if alpha == 1 and not _above(mapper, a.path, b.path):
        return mapper.add(node, "sum", {}, [(left, a), (right, b)], a)
    parameters = {} if alpha == 1 else {"branch_scale": alpha}
    return mapper.add(node, "residual", parameters, [(left, a), (right, b)], a)


Met = tuple[Node, Beam, Node, Beam]


def _met(mapper: Mapper, node: Node, left: Node, right: Node) -> Met:
    """Two signals of one shape in one layout, each with the node where it has it. Raises Unmapped."""
    a, b = mapper.beam(left), mapper.beam(right)
    if a.layout.like(b.layout) and a.positions == b.positions and a.channels == b.channels:
        return left, a, right, b
    if a.layout.sizes != b.layout.sizes or a.layout.copies > 1 or b.layout.copies > 1:
        return broadcast(mapper, node, left, right)
    if a.positions == (b.channels,) and b.positions == (a.channels,):
        if _above(mapper, b.path, a.path):
            return (*turned(mapper, node, left), right, b)
        return (left, a, *turned(mapper, node, right))
    if a.channels == b.channels and prod(a.positions) == prod(b.positions):
        if len(a.positions) < len(b.positions):
            return (*_like_picture(mapper, node, left, b), right, b)
        if len(b.positions) < len(a.positions):
            return (left, a, *_like_picture(mapper, node, right, a))
    raise Unmapped(f"{name_of(node)} across layouts")


def _like_picture(mapper: Mapper, node: Node, source: Node, other: Beam) -> tuple[Node, Beam]:
    """A sequence read as the picture that it meets."""
    places = [other.layout.axes_of(role) for role in range(len(other.positions))]
    beam, seen = mapper.beam(source), [Atom(role, size) for role, size in enumerate(other.positions)]
    for place in other.layout.axes_of(0):
        if list(other.layout.axes[place]) == seen and beam.layout.axes[place] == (Atom(0, prod(beam.positions)),):
            axes = (*beam.layout.axes[:place], tuple(seen), *beam.layout.axes[place + 1 :])
            made, here = Beam("", Layout(axes), other.positions, beam.channels), mapper.between(node, source)
            return here, mapper.one(here, "grid", dict(named(other.positions)), made, source)
    if any(len(axes) != 1 for axes in places):
        raise Unmapped(f"{name_of(node)} across layouts")
    return as_grid(mapper, node, source, tuple(axes[0] for axes in places))


def _above(mapper: Mapper, first: str, later: str) -> bool:
    """Whether `later` is made of `first`."""
    if first == "input":
        return True
    order = {item.path: place for place, item in enumerate(mapper.items)}
    seen, todo = set(), [later]
    while todo:
        path = todo.pop()
        if path == first:
            return True
        if path in seen or path not in mapper.by_path or order[path] < order[first]:
            continue
        seen.add(path)
        todo += mapper.by_path[path].sources
    return False


def _table(mapper: Mapper, node: Node, source: Node, table: Any) -> Value:
    """A static tensor is added: positions, or a bias."""
    beam = mapper.beam(source)
    if sizes_of(node) != beam.layout.sizes:
        raise Unmapped("a table that is larger than the signal")
    if isinstance(mapper.values.get(table), Index):
        raise Unmapped("whole numbers are added")
    law = mapper.law(table)
    if law.kind == "constant" and law.mean == 0:
        return beam
    if not isfinite(law.mean) or not isfinite(law.std):
        raise Unmapped("a mask that hides something")
    parameters: dict[str, Any] = {"encoding": "learned"}
    if law.kind == "unknown":
        parameters["std"] = 0.02
    elif law.kind == "constant":
        parameters |= {"std": 0, "bias": law.mean}
    elif law.kind == "random":
        parameters["std"] = float(f"{law.std:.7g}")
        if law.mean:
            parameters["bias"] = float(f"{law.mean:.7g}")
    else:
        parameters |= {"std": float(f"{law.std:.7g}"), "bias": float(f"{law.mean:.7g}")}
    return mapper.one(node, "positional_encoding", parameters, beam, source, owns=[table])


@rule("mul", "div")
def mul(mapper: Mapper, node: Node) -> Value:
    left, right = arguments(node)[:2]
    if argument(node, 2, "rounding_mode") is not None:
        raise Unmapped("a rounded quotient")
    signals = [isinstance(mapper.values.get(one), Beam) if isinstance(one, Node) else False for one in (left, right)]
    divided = name_of(node) == "div"
    if divided and isinstance(mapper.values.get(right), Beam):
        return _quotient(mapper, node, left, right)
    if all(signals):
        return _product(mapper, node, left, right)
    source, other = (left, right) if signals[0] else (right, left)
    if not isinstance(source, Node) or not any(signals) or (divided and not signals[0]):
        raise Unmapped("a product without a signal")
    number = mapper.number(other)
    beam = mapper.beam(source)
    if number is None and not divided and _ones(mapper, other) and sizes_of(node) == beam.layout.sizes:
        return beam
    if number is not None and isinstance(other, Node) and not divided:
        number = mapper.over_draws(other, number)
    if number is None:
        if isinstance(mapper.values.get(other), Index):
            raise Unmapped("a product with a mask")
        if sizes_of(node) != beam.layout.sizes and not divided and all(n == 1 for n in beam.positions):
            return _product(mapper, node, source, wider(mapper, node, other, beam))
        if sizes_of(node) != beam.layout.sizes:
            return _larger_table(mapper, node, source, beam, other, divided)
        law = mapper.law(other)
        if law.kind in ("random", "structured") and not divided:
            return _gain(mapper, node, source, beam, other, law)
        number = law.mean if law.kind == "constant" else 1.0 if law.kind == "unknown" else sqrt(law.second_moment)
    if divided:
        number = 1.0 / number if number else float("inf")
    if number == 1:
        return beam
    owns = [other] if isinstance(other, Node) else []
    return mapper.one(node, "scale", {"factor": float(f"{number:.9g}")}, beam, source, owns=owns)


def _ones(mapper: Mapper, mask: Any) -> bool:
    """Whether a mask that was made of whole numbers hides nothing."""
    found = mapper.value_of(mask) if isinstance(mapper.values.get(mask), Index) else None
    return found is not None and bool((found == 1).all())


def _quotient(mapper: Mapper, node: Node, left: Any, right: Node) -> Value:
    """A signal, or a constant, times the reciprocal of a signal."""
    here = mapper.before(node, torch.ops.aten.reciprocal.default, (right,))
    mapper.one(here, "reciprocal", {}, mapper.beam(right), right, name=mapper.name_for(node, "reciprocal"))
    node.target, node.args, node.kwargs = torch.ops.aten.mul.Tensor, (left, here), {}
    return mul(mapper, node)


@rule("reciprocal")
def reciprocal(mapper: Mapper, node: Node) -> Value:
    source = arguments(node)[0]
    return mapper.one(node, "reciprocal", {}, mapper.beam(source), source)


def _gain(mapper: Mapper, node: Node, source: Node, beam: Beam, table: Node, law: TensorLaw) -> Value:
    """A product with a table of different numbers."""
    sizes = sizes_of(table)
    axes = beam.layout.axes[len(beam.layout.axes) - len(sizes) :]
    along = {atom.role for axis, size in zip(axes, sizes, strict=True) if size > 1 for atom in axis}
    if along - {CHANNELS} and not mapper.drawn(table):
        return _known_gain(mapper, node, source, beam, table)
    parameters: dict[str, Any] = {"along": "channels"} if along == {CHANNELS} else {}
    parameters |= {"std": float(f"{law.std:.7g}")} | ({"bias": float(f"{law.mean:.7g}")} if law.mean else {})
    return mapper.one(node, "elementwise_gain", parameters, beam, source, owns=[table])


def _larger_table(mapper: Mapper, node: Node, source: Node, beam: Beam, table: Any, divided: bool) -> Value:
    """A product with a constant that has positions where the signal has none: the signal is copied there."""
    sizes, places = sizes_of(node), 0
    mine = [()] * (len(sizes) - len(beam.layout.axes)) + list(beam.layout.axes)
    axes: list[Any] = []
    for axis, size in zip(mine, sizes, strict=True):
        fixed = axis and {atom.role for atom in axis} <= {CHANNELS, EXAMPLES}
        axes.append(axis if fixed else (Atom(places, size),) if size > 1 else ())
        places += not fixed and size > 1
    positions = tuple(axis[0].size for axis in axes if axis and isinstance(axis[0].role, int))
    if divided or not 0 < places < 4:
        raise Unmapped("a product with a larger table")
    wide = mapper.before(node, torch.ops.aten.expand.default, (table, list(sizes)))
    node.replace_input_with(table, wide)
    here = lit(mapper, node, wide, Layout(tuple(axes)), positions)
    return _product(mapper, node, *((source, here) if arguments(node)[0] is source else (here, source)))


def _known_gain(mapper: Mapper, node: Node, source: Node, beam: Beam, table: Node) -> Value:
    """A product with a table that is the same in every draw and differs from place to place: a light of its own."""
    wide = mapper.before(node, torch.ops.aten.expand.default, (table, list(beam.layout.sizes)))
    node.replace_input_with(table, wide)
    here = lit(mapper, node, wide, beam.layout, beam.positions)
    taps = [(source, beam), (here, mapper.beam(here))]
    return mapper.add(node, "multiply", {}, taps if arguments(node)[0] is source else taps[::-1], beam)


@rule("maximum", "fmax")
def larger(mapper: Mapper, node: Node) -> Value:
    left, a, right, b = _met(mapper, node, *arguments(node)[:2])
    return mapper.add(node, "maximum", {}, [(left, a), (right, b)], a)


def _product(mapper: Mapper, node: Node, left: Node, right: Node) -> Value:
    a, b = mapper.beam(left), mapper.beam(right)
    if a.layout.sizes == b.layout.sizes:
        left, a, right, b = _met(mapper, node, left, right)
        return mapper.add(node, "multiply", {}, [(left, a), (right, b)], a)
    for x, gate, signal, control in ((left, right, a, b), (right, left, b, a)):
        if sizes_of(node) == signal.layout.sizes and not prod(control.positions or (1,)) > 1:
            if control.channels == signal.channels and signal.positions and not control.layout.copies > 1:
                return mapper.add(node, "gate", {}, [(x, signal), (gate, control)], signal)
        one = control.channels == 1 and control.positions == signal.positions and not control.layout.copies > 1
        if sizes_of(node) == signal.layout.sizes and one:
            return mapper.add(node, "position_gate", {}, [(x, signal), (gate, control)], signal)
    for x, gate, signal, control in ((left, right, a, b), (right, left, b, a)):
        if control.channels == 1 < signal.channels and control.positions != signal.positions:
            x, signal = spread_like(mapper, node, x, signal, control)
            return mapper.add(node, "position_gate", {}, [(x, signal), (gate, control)], signal)
    left, a, right, b = broadcast(mapper, node, left, right)
    return mapper.add(node, "multiply", {}, [(left, a), (right, b)], a)


@rule("masked_fill")
def masked_fill(mapper: Mapper, node: Node) -> Value:
    """A mask that hides nothing is none."""
    source, mask = arguments(node)[:2]
    found = mapper.value_of(mask)
    if found is None or bool(found.any()) or sizes_of(node) != mapper.beam(source).layout.sizes:
        raise Unmapped("a mask that hides something")
    return mapper.beam(source)


@rule("addcmul")
def addcmul(mapper: Mapper, node: Node) -> Value:
    """a + b*x with constant a and b."""
    shift, *factors = arguments(node)[:3]
    signals = [one for one in factors if isinstance(mapper.values.get(one), Beam)]
    if len(signals) != 1 or not mapper.static(shift) or node.kwargs.get("value", 1) != 1:
        raise Unmapped("a sum of products")
    (other,) = (one for one in factors if one is not signals[0])
    beam = mapper.beam(signals[0])
    if sizes_of(node) != beam.layout.sizes or not mapper.static(other):
        raise Unmapped("a sum of products")
    factor, offset = mapper.constant(other, 1.0), mapper.constant(shift, 0.0)
    if offset:
        return defined(mapper, node, signals[0], "affine", f"{factor!r}*x + ({offset!r})")
    return beam if factor == 1 else mapper.one(node, "scale", {"factor": factor}, beam, signals[0], owns=[other])
