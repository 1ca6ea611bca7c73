"""Norms written out: x, or x less its mean, divided by the root of its mean square over one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from lensnet.importers.operations import argument, arguments, axes_of, name_of
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, between, computes, through


def norm(node: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """From the product or quotient that ends a norm. `info`: `axis`, `eps`, `centred`, `gain` and `shift` (static
    tensors or None), `length`: whether x is divided by its length, not by its root mean square."""
    if not computes(node, "mul", "div") or not is_signal(node):
        return None
    for top, below in (arguments(node)[:2], arguments(node)[1::-1]):
        if not (isinstance(top, Node) and isinstance(below, Node)) or (node.args[0] is below and computes(node, "div")):
            continue
        size = _size(below, computes(node, "div"), look)
        if size is None:
            continue
        top, before = _without_gain(top, look)
        source, centred = _centre(through(top), size.axis)
        source = source if centred else top
        if size.of is not through(source) or not is_signal(size.of) or (size.centred and not centred):
            continue
        source = source if size.direct is source else size.of
        end, gain, shift = _affine(node, look, before)
        info = {"axis": size.axis, "eps": size.eps, "centred": centred, "gain": gain, "shift": shift,
                "length": size.length}  # fmt: skip
        return Cluster("cluster norm", end, between(end, source), source, info)
    return None


def response(node: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """x*length/(average length of all channels + eps), the length over axes. `info`: `axes`, `channels`, `eps`."""
    if not computes(node, "mul") or not is_signal(node):
        return None
    for x, share in (arguments(node)[:2], arguments(node)[1::-1]):
        if not computes(share, "div"):
            continue
        length, below = arguments(share)[:2]
        eps = 0.0
        if computes(below, "add") and (number := look.number(arguments(below)[1])) is not None:
            eps, below = number, arguments(below)[0]
        if not computes(length, "linalg_vector_norm", "norm") or not computes(below, "mean"):
            continue
        over, around = axes_of(length, 2), axes_of(below, 1)
        if arguments(below)[0] is length and through(arguments(length)[0]) is through(x) and len(around) == 1:
            source = arguments(length)[0]
            info = {"axes": [_axis(one, length) for one in over], "channels": _axis(around[0], below), "eps": eps}
            return Cluster("cluster response", node, between(node, source), source, info)
    return None


@dataclass
class _Size:
    """What a norm divides by: the root mean square (or length) of `of` over `axis`; `direct`: as it goes in."""

    of: Any
    direct: Any
    axis: int
    eps: float = 0.0
    centred: bool = False
    length: bool = False


def _size(node: Any, divides: bool, look: Looker) -> _Size | None:
    while computes(node, "expand", "expand_as", "to", "_to_copy", "clamp_min", "clamp"):
        node = arguments(node)[0]  # an expansion, or a floor under a length
    if divides and computes(node, "linalg_vector_norm", "norm"):
        axes = axes_of(node, 2)
        if len(axes) != 1 or argument(node, 1, "ord", 2) != 2:
            return None
        source = arguments(node)[0]
        return _Size(through(source), source, _axis(axes[0], node), length=True)
    if divides and computes(node, "add") and computes(arguments(node)[0], "std") and look.number(arguments(node)[1]):
        return _variance(arguments(node)[0])
    root = computes(node, "sqrt") if divides else computes(node, "rsqrt") or (
        computes(node, "pow") and look.number(argument(node, 1, "exponent")) == -0.5
    )  # fmt: skip
    return _mean_square(arguments(node)[0], look) if root else None


def _mean_square(inside: Any, look: Looker) -> _Size | None:
    inside, eps = through(inside), 0.0
    if computes(inside, "add"):
        number = look.number(arguments(inside)[1])
        if number is None:
            return None
        eps, inside = number, through(arguments(inside)[0])
    if computes(inside, "var"):
        found = _variance(inside)
        return None if found is None else _Size(found.of, found.direct, found.axis, eps, True)
    if not computes(inside, "mean"):
        return None
    axes = axes_of(inside, 1)
    if len(axes) != 1 or not argument(inside, 2, "keepdim", False):
        return None
    direct = _squared(through(arguments(inside)[0]), look)
    if direct is None:
        return None
    axis = _axis(axes[0], inside)
    source, centred = _centre(through(direct), axis)
    return _Size(through(source), source if centred else direct, axis, eps, centred)


def _variance(node: Node) -> _Size | None:
    axes = axes_of(node, 1)
    if len(axes) != 1:
        return None
    source = arguments(node)[0]
    return _Size(through(source), source, _axis(axes[0], node), 0.0, True)


def _centre(node: Any, axis: int) -> tuple[Any, bool]:
    """x - mean(x) over an axis: x and True."""
    if computes(node, "sub") and computes(through(arguments(node)[1]), "mean"):
        x, mean = arguments(node)[0], through(arguments(node)[1])
        axes = axes_of(mean, 1)
        if through(arguments(mean)[0]) is through(x) and [_axis(one, node) for one in axes] == [axis]:
            return x, True
    return node, False


def _axis(axis: int, node: Node) -> int:
    """Counted from the front."""
    source = arguments(node)[0]
    return int(axis) % source.meta["val"].dim()


def _squared(node: Any, look: Looker) -> Any:
    if computes(node, "pow") and look.number(arguments(node)[1]) == 2:
        return arguments(node)[0]
    if computes(node, "square") or (
        computes(node, "mul") and through(arguments(node)[0]) is through(arguments(node)[1])
    ):
        return arguments(node)[0]
    return None


def _without_gain(top: Node, look: Looker) -> tuple[Node, Any]:
    """What stands under a gain that is applied before the division: x and the gain, or None."""
    if computes(top, "mul"):
        for gain, rest in (arguments(top)[:2], arguments(top)[1::-1]):
            if look.static(gain) and computes(rest, "sub") and sum(n > 1 for n in gain.meta["val"].shape) <= 1:
                return rest, gain
    return top, None


def _affine(root: Node, look: Looker, gain: Any = None) -> tuple[Node, Any, Any]:
    """The end of a norm with its gain and shift: static tensors of one number per channel that follow."""
    here = end = root
    while len(here.users) == 1:
        (user,) = here.users
        if computes(user, "to", "_to_copy", "type_as"):
            here = user
            continue
        if not computes(user, "mul", "add") or user.kwargs.get("alpha", 1) != 1:
            break
        others = [one for one in arguments(user)[:2] if one is not here]
        if len(others) != 1 or not look.static(others[0]):
            break
        size = others[0].meta["val"].shape
        if sum(n > 1 for n in size) > 1 or (name_of(user) == "mul" and gain is not None):
            break
        if name_of(user) == "add":
            return user, gain, others[0]
        gain, here, end = others[0], user, user
    return end, gain, None
