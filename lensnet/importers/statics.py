"""What a walk knows about tensors that do not depend on the input: their values, and the laws of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import copysign, sqrt
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.nn import Parameter

from lensnet.importers.capture import Captured
from lensnet.importers.constants import Evaluator
from lensnet.importers.draft import Static, Value
from lensnet.importers.laws import TensorLaw, draw, law_of
from lensnet.importers.operations import arguments, felt, name_of, table

_NOISE = {
    "randn_like": TensorLaw("random", 0.0, 1.0, "normal"), "randn": TensorLaw("random", 0.0, 1.0, "normal"),
    "rand_like": TensorLaw("random", 0.5, 12**-0.5, "uniform"), "rand": TensorLaw("random", 0.5, 12**-0.5, "uniform"),
}  # fmt: skip
_DRAWS = 64  # of the weights that a factor is computed from


class Statics:
    """`values`: what each node was found to be; `tables`: the parameters that embeddings have read; `passed`: those of
    dense layers, and whether they were read turned. `fresh`: whether
    every draw has weights of its own."""

    def __init__(self, captured: Captured, laws: Mapping[str, TensorLaw], fresh: bool = True) -> None:
        self.captured = captured
        self.laws, self.fresh = laws, fresh
        self.values: dict[Node, Value] = {}
        self.tables: list[str] = []
        self.passed: set[tuple[str, bool]] = set()
        self.evaluator = Evaluator(captured)

    def static(self, node: Any) -> bool:
        return isinstance(node, Node) and isinstance(self.values.get(node), Static)

    def number(self, value: Any) -> float | None:
        """A plain number, or a static tensor that holds a single one."""
        if isinstance(value, bool | int | float):
            return float(value)
        if self.static(value) and value.meta["val"].numel() == 1 and (found := self.evaluator(value)) is not None:
            return float(found)
        return None

    def scale(self, value: Any) -> float | None:
        """A factor: a plain number, or the root mean square of a static tensor (one number for each head)."""
        number = self.number(value)
        if number is None and self.static(value) and (found := self.evaluator(value)) is not None:
            number = float(found.double().square().mean().sqrt())
        return number

    def over_draws(self, node: Any, number: float) -> float:
        """A factor that is computed from parameters: its root mean square over their draws, with the sign that it has
        here; `number` where there are none, or the weights are given."""
        names = {self.captured.owned[one.name] for one in made_of(node) if one.name in self.captured.owned}
        held = {name: self.captured.parameters[name] for name in names}
        random = [name for name, one in held.items() if isinstance(one, Parameter) and self.laws[name].kind == "random"]
        if not random or not self.fresh or self.captured.on_meta or self.owner(node) is not None:
            return number
        found = []
        for seed in range(_DRAWS):
            weights = {name: draw(self.laws[name], held[name], seed, name) for name in random}
            found.append(Evaluator(self.captured, weights)(node))
        squares = [float(value) ** 2 for value in found if value is not None]
        return copysign(sqrt(sum(squares) / len(squares)), number) if squares else number

    def law(self, node: Any) -> TensorLaw:
        """The law of a static tensor: of its parameter, or read off its value."""
        owner = self.owner(node)
        if owner is not None and owner in self.laws:
            law, drawn = self.laws[owner], isinstance(self.captured.parameters.get(owner), Parameter)
            value = None if drawn or law.kind == "constant" else self.evaluator(node)
            if value is not None:  # a buffer is not drawn again: its numbers are what they are
                return replace(law, mean=float(value.double().mean()), std=float(value.double().std(correction=0)))
            return law
        if isinstance(node, Node) and node.op != "placeholder" and (noise := _NOISE.get(name_of(node))) is not None:
            return noise
        value = self.evaluator(node)
        return TensorLaw("unknown") if value is None else law_of(value)

    def owner(self, node: Any) -> str | None:
        """The parameter or buffer whose entries a static tensor holds, in whatever order."""
        while isinstance(node, Node) and node.op != "placeholder":
            name = name_of(node)
            if name == "embedding":
                node = arguments(node)[0]
            elif name in table()["layout"] or name in ("slice", "select", "narrow"):
                node = arguments(node)[0]
            else:
                return None
        return self.captured.owned.get(node.name) if isinstance(node, Node) else None

    def drawn(self, node: Any) -> bool:
        """Whether a static tensor holds numbers that another draw of the weights has otherwise."""
        todo, seen = [node], set[Node]()
        while todo:
            here = todo.pop()
            if not isinstance(here, Node) or here in seen:
                continue
            seen.add(here)
            owner = self.captured.owned.get(here.name)
            if owner is not None and isinstance(self.captured.parameters.get(owner), Parameter):
                return self.laws[owner].kind != "constant"
            todo += felt(here) if here.op != "placeholder" else []
        return False

    def turned(self, node: Any) -> bool:
        """Whether a static matrix is that of its parameter with the axes exchanged."""
        out = False
        while isinstance(node, Node) and node.op != "placeholder":
            out ^= name_of(node) in ("t", "transpose", "permute", "numpy_T", "T", "mT", "adjoint")
            node = arguments(node)[0]
        return out

    def is_embedding(self, node: Any) -> bool:
        """Whether a weight is the table of an embedding that was drawn before."""
        owner = self.owner(node)
        held = self.captured.parameters
        return owner is not None and any(held[owner] is held[name] for name in self.tables)

    def constant(self, node: Any, default: float) -> float:
        """The value of a static tensor that is one number everywhere (a norm's gain); its rms where it is not."""
        if node is None:
            return default
        law = self.law(node)
        if law.kind == "unknown":
            return default
        return law.mean if law.kind == "constant" else law.second_moment**0.5

    def value_of(self, node: Any) -> Tensor | None:
        """A static tensor in numbers; None on the meta device."""
        return self.evaluator(node)


def made_of(*nodes: Node) -> set[Node]:
    """Nodes and all that they are made of."""
    seen, todo = set[Node](), list(nodes)
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += here.all_input_nodes
    return seen
