"""Activations written out: products of functions of one and the same tensor."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from lensnet.importers.operations import argument, arguments, name_of
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, between, grown, through

TEXTS = {
    "relu": "relu({0})", "sigmoid": "sigmoid({0})", "tanh": "tanh({0})", "exp": "exp({0})", "erf": "erf({0})",
    "sin": "sin({0})", "cos": "cos({0})", "abs": "abs({0})", "neg": "(-{0})", "square": "{0}**2", "sqrt": "sqrt({0})",
    "log": "log({0})", "reciprocal": "(1/{0})", "gelu": "({0}*Phi({0}))", "silu": "({0}*sigmoid({0}))",
    "softplus": "softplus({0})", "expm1": "(exp({0}) - 1)", "log1p": "log(1 + {0})",
    "relu6": "min(max({0}, 0), 6)", "hardsigmoid": "min(max({0}/6 + 1/2, 0), 1)",
}  # fmt: skip
_BINARY = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0}*{1})", "div": "({0}/{1})", "pow": "({0}**{1})",
    "minimum": "min({0}, {1})", "maximum": "max({0}, {1})", "min": "min({0}, {1})", "max": "max({0}, {1})",
}  # fmt: skip
_COMPARED = {"gt": "{0} > {1}", "ge": "{0} >= {1}", "lt": "{0} < {1}", "le": "{0} <= {1}"}
_SAME = ("to", "_to_copy", "type_as", "clone", "alias", "contiguous")
_CLAMPED = {"clamp": ("max", "min"), "clamp_min": ("max",), "clamp_max": ("min",)}
_CURVED = {
    "sigmoid", "tanh", "exp", "erf", "expm1", "relu", "sin", "cos", "softplus", "relu6", "where", "hardsigmoid", "gelu",
    "silu", *_CLAMPED,
}  # fmt: skip


def written_out(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """A product of functions of one and the same tensor: `x*sigmoid(1.7*x)`, GELU by tanh; or one function here and
    another there, by a comparison."""
    if name_of(root) not in ("mul", "div", "where") or not is_signal(root):
        return None
    if name_of(root) != "where" and sum(isinstance(one, Node) and is_signal(one) for one in arguments(root)[:2]) < 2:
        return None

    def inner(node: Node) -> bool:
        return is_signal(node) or (not look.static(node) and _compares(node, look))

    def belongs(node: Node, members: set[Node]) -> bool:
        inside = node is root or all(user in members for user in node.users)
        return inside and _pointwise(node, look)

    members, ends = grown(root, belongs, inner)
    if len(ends) != 1:
        ends = _retry(root, members, ends, is_signal)
    if len(ends) != 1:
        return None
    (source,) = ends
    members = between(root, source)
    curved = any(name_of(node) in _CURVED for node in members)
    if not curved and len(members) < 2 and not all(through(one) is source for one in arguments(root)[:2]):
        return None
    try:
        text = _text(root, source, look, {})
    except ValueError:
        return None
    return Cluster("cluster function", root, members, source, {"function": text})


def _retry(root: Node, members: set[Node], ends: set[Node], is_signal: IsSignal) -> set[Node]:
    """An end may be a member that was visited before its users were: take those out that lie inside after all."""
    return {
        end
        for end in ends
        if not (
            end in members
            or all(user in members for user in end.users)
            and any(one in ends for one in end.all_input_nodes)
        )
    }


def _pointwise(node: Node, look: Looker) -> bool:
    if node.op == "placeholder":
        return False
    name = name_of(node)
    if (
        name in TEXTS
        or name in _SAME
        or name in _CLAMPED
        or (name == "where" and len(arguments(node)) == 3)
        or _compares(node, look)
    ):
        return True
    if name not in _BINARY:
        return False
    return _of_numbers(node, look)


def _of_numbers(node: Node, look: Looker) -> bool:
    """Whether each of two arguments is a signal or one number."""
    return len(arguments(node)) >= 2 and all(
        isinstance(one, Node) and not look.static(one) or look.number(one) is not None for one in arguments(node)[:2]
    )


def _compares(node: Node, look: Looker) -> bool:
    return node.op != "placeholder" and name_of(node) in _COMPARED and _of_numbers(node, look)


def _text(node: Any, source: Node, look: Looker, known: dict[Node, str]) -> str:
    if node is source:
        return "x"
    number = look.number(node)
    if number is not None:
        return f"({number!r})" if number < 0 else repr(int(number)) if number == int(number) else repr(number)
    if node in known:
        return known[node]
    if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("rounding_mode"):
        raise ValueError("a scaled sum")
    name = name_of(node)
    if name in _SAME:
        text = _text(arguments(node)[0], source, look, known)
    elif name in _CLAMPED:
        text = _text(arguments(node)[0], source, look, known)
        for bound, place in zip(_CLAMPED[name], (1, 2), strict=False):
            limit = argument(node, place, {"max": "min", "min": "max"}[bound])
            if limit is not None:
                text = f"{bound}({text}, {_text(limit, source, look, known)})"
    elif name == "where":
        text = f"where({', '.join(_text(one, source, look, known) for one in arguments(node)[:3])})"
    elif name in _COMPARED:
        text = _COMPARED[name].format(*(_text(one, source, look, known) for one in arguments(node)[:2]))
    elif name in TEXTS:
        inner = _text(arguments(node)[0], source, look, known)
        if name == "gelu" and node.kwargs.get("approximate", "none") != "none":
            text = f"({inner}*(1 + tanh(sqrt(2/pi)*({inner} + 0.044715*{inner}**3)))/2)"
        else:
            text = TEXTS[name].format(inner)
    else:
        if name not in _BINARY:
            raise ValueError(f"{name} is no function of one number")
        text = _BINARY[name].format(*(_text(one, source, look, known) for one in arguments(node)[:2]))
    known[node] = text
    return text
