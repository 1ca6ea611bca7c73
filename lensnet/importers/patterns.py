"""Groups of operations that are one component: activations written out, norms written out, rotary positions, attention.

A group is found by what it computes, not by the name of a class, so that it is found in any library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch.fx import Graph, Node

from lensnet.importers.operations import argument, arguments, name_of, table

_MOST = 48  # operations in one group
_CUTS = ("slice", "split", "chunk", "getitem", "select", "unbind", "split_with_sizes", "narrow", "tensor_split")
_RETYPED = ("to", "_to_copy", "float", "type_as", "contiguous", "clone", "alias")
_LINEAR = {"neg", "cat", "concat", "stack", "add", "sub", *_CUTS}


class Looker(Protocol):
    """What a pattern may ask about a node."""

    def static(self, node: Any) -> bool: ...
    def number(self, value: Any) -> float | None: ...


@dataclass
class Cluster:
    """`kind`: the rule that draws it; `root`: whose value is its output; `source`: what goes in; `info`: parameters."""

    kind: str
    root: Node
    members: set[Node]
    source: Node
    info: dict[str, Any] = field(default_factory=dict)


def clusters(
    graph: Graph, is_signal: Callable[[Node], bool], look: Looker, taken: set[Node] | None = None
) -> Iterator[Cluster]:
    """The groups of a graph, none of which overlap one another or `taken`."""
    taken = set(taken or ())
    for find in (_attention, _rmsnorm, _rotary, _written_out):
        for node in reversed(list(graph.nodes)):
            if node.op not in ("call_function", "call_method") or node in taken:
                continue
            found = find(node, is_signal, look)
            if found is not None and not (found.members & taken) and _closed(found, is_signal):
                taken |= found.members
                yield found


def _closed(cluster: Cluster, is_signal: Callable[[Node], bool]) -> bool:
    """Whether nothing outside looks into the group."""
    inner = cluster.members - {cluster.root}
    return all(user in cluster.members or not is_signal(user) for node in inner for user in node.users)


def _through(node: Any) -> Any:
    """What a tensor was before it was only rearranged."""
    while isinstance(node, Node) and node.op != "placeholder" and name_of(node) in _RETYPED:
        node = arguments(node)[0]
    return node


def _between(root: Node, source: Node) -> set[Node]:
    """Every operation on a way from `source` to `root`, the root included."""
    reach: dict[Node, bool] = {source: True}

    def leads(node: Node, depth: int = 0) -> bool:
        if node not in reach:
            reach[node] = False
            reach[node] = depth < 400 and any([leads(one, depth + 1) for one in node.all_input_nodes])
        return reach[node]

    leads(root)
    return {node for node, yes in reach.items() if yes and node is not source}


# --- root-mean-square norms ------------------------------------------------------------------------------------------


def _rmsnorm(node: Node, is_signal: Callable[[Node], bool], look: Looker) -> Cluster | None:
    if name_of(node) == "rsqrt" or (name_of(node) == "pow" and look.number(argument(node, 1, "exponent")) == -0.5):
        return _norm_from(node, "mul", is_signal, look)
    if name_of(node) == "sqrt":
        return _norm_from(node, "div", is_signal, look)
    return None


def _norm_from(node: Node, used: str, is_signal: Callable[[Node], bool], look: Looker) -> Cluster | None:
    inside, eps = _through(arguments(node)[0]), 0.0
    if isinstance(inside, Node) and name_of(inside) == "add":
        number = look.number(arguments(inside)[1])
        if number is None:
            return None
        eps, inside = number, _through(arguments(inside)[0])
    if not (isinstance(inside, Node) and inside.op != "placeholder" and name_of(inside) == "mean"):
        return None
    if list(argument(inside, 1, "dim") or []) != [-1] or not argument(inside, 2, "keepdim", False):
        return None
    squared = _through(arguments(inside)[0])
    source = _through(_squared(squared, look))
    if source is None or not is_signal(source):
        return None
    uses = [user for user in node.users if name_of(user) == used]
    if len(uses) != 1 or source not in [_through(one) for one in uses[0].all_input_nodes]:
        return None
    direct = next(one for one in uses[0].all_input_nodes if _through(one) is source)
    if _squared(squared, look) is direct:
        source = direct  # a change of type before the norm that others may look at is an edge
    root, gain = _with_gain(uses[0], look)
    return Cluster("cluster rmsnorm", root, _between(root, source), source, {"eps": eps, "gain": gain})


def _squared(node: Any, look: Looker) -> Any:
    if not isinstance(node, Node) or node.op == "placeholder":
        return None
    name = name_of(node)
    if name == "pow" and look.number(arguments(node)[1]) == 2:
        return arguments(node)[0]
    if name == "square":
        return arguments(node)[0]
    if name == "mul" and _through(arguments(node)[0]) is _through(arguments(node)[1]):
        return arguments(node)[0]
    return None


def _with_gain(root: Node, look: Looker) -> tuple[Node, Any]:
    """The end of a norm: a static gain (one number per channel) that follows belongs to it."""
    here = root
    while len(here.users) == 1:
        (user,) = here.users
        name = name_of(user) if user.op == "call_function" else ""
        if name in ("to", "_to_copy", "type_as"):
            here = user
            continue
        if name == "mul":
            others = [one for one in arguments(user) if one is not here]
            if len(others) == 1 and look.static(others[0]) and others[0].meta["val"].dim() <= 1:
                return user, others[0]
        break
    return root, None


# --- activations written out -----------------------------------------------------------------------------------------

TEXTS = {
    "relu": "relu({0})", "sigmoid": "sigmoid({0})", "tanh": "tanh({0})", "exp": "exp({0})", "erf": "erf({0})",
    "sin": "sin({0})", "cos": "cos({0})", "abs": "abs({0})", "neg": "(-{0})", "square": "{0}**2", "sqrt": "sqrt({0})",
    "log": "log({0})", "reciprocal": "(1/{0})", "gelu": "({0}*Phi({0}))", "silu": "({0}*sigmoid({0}))",
    "softplus": "softplus({0})", "relu6": "min(max({0}, 0), 6)", "hardsigmoid": "min(max({0}/6 + 1/2, 0), 1)",
}  # fmt: skip
_BINARY = {"add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0}*{1})", "div": "({0}/{1})", "pow": "({0}**{1})"}
_CURVED = {"sigmoid", "tanh", "exp", "erf", "relu", "sin", "cos", "softplus", "relu6", "hardsigmoid", "gelu", "silu"}


def _written_out(root: Node, is_signal: Callable[[Node], bool], look: Looker) -> Cluster | None:
    """A product of functions of one and the same tensor: `x*sigmoid(1.7*x)`, GELU by tanh."""
    if name_of(root) not in ("mul", "div") or not is_signal(root):
        return None
    if sum(isinstance(one, Node) and is_signal(one) for one in arguments(root)[:2]) < 2:
        return None
    members: set[Node] = set()
    ends: set[Node] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node in members or node in ends:
            continue
        inner = node is root or all(user in members for user in node.users)
        if not inner or not _pointwise(node, look) or len(members) > _MOST:
            ends.add(node)
            continue
        members.add(node)
        todo += [one for one in node.all_input_nodes if is_signal(one)]
    if len(ends) != 1:
        ends = _retry(root, members, ends, is_signal)
    if len(ends) != 1:
        return None
    (source,) = ends
    members = _between(root, source)
    curved = any(name_of(node) in _CURVED for node in members)
    if not curved and len(members) < 2 and not all(_through(one) is source for one in arguments(root)[:2]):
        return None
    try:
        text = _text(root, source, look, {})
    except ValueError:
        return None
    return Cluster("cluster function", root, members, source, {"function": text})


def _retry(root: Node, members: set[Node], ends: set[Node], is_signal: Callable[[Node], bool]) -> set[Node]:
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
    if name in TEXTS or name in ("to", "_to_copy", "type_as", "clone", "alias", "contiguous"):
        return True
    if name not in _BINARY:
        return False
    return all(
        isinstance(one, Node) and not look.static(one) or look.number(one) is not None for one in arguments(node)[:2]
    )


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
    if name in ("to", "_to_copy", "type_as", "clone", "alias", "contiguous"):
        text = _text(arguments(node)[0], source, look, known)
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


# --- rotary positions ------------------------------------------------------------------------------------------------


def _rotary(root: Node, is_signal: Callable[[Node], bool], look: Looker) -> Cluster | None:
    """Products of parts of one tensor with static tensors, put together again: a rotation of pairs of channels."""
    if name_of(root) not in ("add", "cat", "stack", "view", "flatten", "reshape") or not is_signal(root):
        return None
    if name_of(root) in ("view", "flatten", "reshape"):
        under = arguments(root)[0]
        if not (isinstance(under, Node) and name_of(under) in ("stack", "cat")):
            return None
    layout = table()["layout"]
    members: set[Node] = set()
    ends: set[Node] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node in members or node in ends:
            continue
        name = name_of(node) if node.op != "placeholder" else "placeholder"
        by_table = name == "mul" and any(look.static(one) and one.meta["val"].dim() >= 2 for one in arguments(node))
        cut = (
            name == "slice" and int(argument(node, 1, "dim", 0)) % node.meta["val"].dim() != node.meta["val"].dim() - 1
        )
        if cut or not (name in _LINEAR or name in layout or by_table) or len(members) > _MOST:
            ends.add(node)
            continue
        members.add(node)
        todo += [one for one in node.all_input_nodes if not look.static(one)]
    tables = [n for n in members if name_of(n) == "mul"]
    if len(ends) != 1 or len(tables) < 2 or not any(name_of(n) in ("neg", "sub") for n in members):
        return None
    (source,) = ends
    # the narrowest node that everything passes: views in front of the rotation are edges
    source = _narrowest(source, members, tables)
    if root.meta["val"].shape != source.meta["val"].shape:
        return None
    return Cluster("cluster rotary", root, _between(root, source), source, {"tables": tables})


def _narrowest(source: Node, members: set[Node], tables: list[Node]) -> Node:
    layout = table()["layout"]
    while True:
        users = [user for user in source.users if user in members]
        if len(users) != 1 or name_of(users[0]) not in layout:
            return source
        source = users[0]


# --- attention written out -------------------------------------------------------------------------------------------


def _attention(root: Node, is_signal: Callable[[Node], bool], look: Looker) -> Cluster | None:
    """matmul(softmax(matmul(q, k^T)*scale + mask), v)"""
    if name_of(root) not in ("matmul", "bmm") or not all(
        isinstance(one, Node) and is_signal(one) for one in arguments(root)[:2]
    ):
        return None
    layout = table()["layout"]
    here, inside = arguments(root)[0], {root}
    while (
        isinstance(here, Node) and here.op != "placeholder" and (name_of(here) in layout or name_of(here) == "dropout")
    ):
        inside.add(here)
        here = arguments(here)[0]
    if not (isinstance(here, Node) and here.op != "placeholder" and name_of(here) in ("softmax", "_softmax")):
        return None
    if argument(here, 1, "dim") not in (-1, here.meta["val"].dim() - 1):
        return None
    inside.add(here)
    softmax, here, factor, masks = here, arguments(here)[0], 1.0, []
    for _ in range(16):
        if not isinstance(here, Node) or here.op == "placeholder":
            return None
        name = name_of(here)
        inside.add(here)
        if name in ("matmul", "bmm"):
            break
        if name in ("mul", "div") and (number := look.number(arguments(here)[1])):
            factor *= number if name == "mul" else 1 / number
        elif name == "add" and not is_signal_arg(arguments(here)[1], is_signal):
            masks.append(arguments(here)[1])
        elif name == "add" and not is_signal_arg(arguments(here)[0], is_signal):
            masks.append(arguments(here)[0])
            here = arguments(here)[1]
            continue
        elif name == "masked_fill":
            masks.append(("filled", arguments(here)[1]))
        elif name not in layout:
            return None
        here = arguments(here)[0]
    else:
        return None
    if not all(isinstance(one, Node) and is_signal(one) for one in arguments(here)[:2]):
        return None
    info = {
        "query": arguments(here)[0],
        "key": arguments(here)[1],
        "value": arguments(root)[1],
        "factor": factor,
        "masks": masks,
    }
    inside.add(softmax)
    return Cluster("cluster attention", root, inside, arguments(here)[0], info)


def is_signal_arg(value: Any, is_signal: Callable[[Node], bool]) -> bool:
    return isinstance(value, Node) and is_signal(value)
