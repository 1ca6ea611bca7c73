"""From a graph of operations to a network of named components: one walk, with a rule for every operation.

What only rearranges becomes an edge, what depends on no input (masks, positions, tables) is left out, and what no rule
describes becomes an `opaque` component that is measured and claimed nothing about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.fx import Node

from lensnet.catalog.component import Component
from lensnet.importers.capture import Captured, output_nodes
from lensnet.importers.counted import Counted
from lensnet.importers.draft import Beam, Draft, Index, Item, Lost, Static, Unmapped, Value
from lensnet.importers.drawing import Drawing
from lensnet.importers.inputs import placeholder
from lensnet.importers.laws import TensorLaw
from lensnet.importers.layout import LayoutError
from lensnet.importers.opaque import opaque
from lensnet.importers.operations import felt, name_of, table
from lensnet.importers.patterns import Cluster, clusters
from lensnet.importers.patterns.attended import attended
from lensnet.importers.rulebook import RULES
from lensnet.importers.statics import made_of


class Ungrouped(Unmapped):
    """Nothing that was left undescribed could be told by its answers."""


class Mapper(Drawing):
    """One walk through a captured graph. `laws`: the law of every parameter and buffer by name. `batch_axis`: where the
    examples lie, None for a single one without an axis. `components`: those whose `matches:` come first. `failed`:
    operations that an earlier walk left undescribed."""

    def __init__(
        self, captured: Captured, laws: Mapping[str, TensorLaw], batch_axis: int | None = 0,
        components: Mapping[str, Component] | None = None, fresh: bool = True, failed: Collection[Node] = (),
    ) -> None:  # fmt: skip
        super().__init__(captured, laws, fresh)
        self.failed = set(failed)
        self.batch_axis = batch_axis
        self.components = dict(components or {})
        self.define: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.vocabulary = 0
        self.input: Node | None = None
        self.clusters: dict[Node, Cluster] = {}
        self.inside: set[Node] = set()
        self.counted = Counted(self)

    def run(self) -> Draft:
        """Raises Unmapped where the model has no float output, or none that the input reaches; Ungrouped before
        anything is drawn."""
        self._classify()
        from lensnet.importers.rules.experts import mixtures
        from lensnet.importers.rules.modules import module_clusters

        found = [*module_clusters(self.graph, self), *mixtures(self)]
        inside = {node for cluster in found for node in cluster.members}
        for cluster in [*found, *clusters(self.graph, self.is_signal, self, inside)]:
            self._known(cluster)
        if self.failed:
            self._in_groups()
        live = self.live()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                if node not in self.values:
                    self.values[node] = placeholder(self, node)
            elif node in live and node not in self.values and node not in self.inside:
                self.values[node] = self._node(node)
        output = self._output()
        beam = self.values[output]
        assert isinstance(beam, Beam) and self.input is not None
        source = self.values[self.input]
        return Draft(
            self._used(beam.path),
            self.define,
            self.input,
            source if isinstance(source, Beam) else None,
            self.vocabulary,
            output,
            sum(item.component not in ("tokens", "grid", "flatten", "opaque", "opaque_merge") for item in self.items),
            self.notes,
        )

    def _known(self, cluster: Cluster) -> None:
        self.clusters[cluster.root] = cluster
        self.inside |= cluster.members - {cluster.root}

    def _in_groups(self) -> None:
        """Groups that are known by their answers, instead of attention that was found in parts of them."""
        groups = list(attended(self, self.failed, list(self.clusters.values())))
        if not groups:
            raise Ungrouped
        for group in groups:
            for root in [root for root in self.clusters if root in group.members]:
                self.inside -= self.clusters.pop(root).members
            self._known(group)

    def _classify(self) -> None:
        """What does not depend on a float input or on token ids is static; whole numbers are indices."""
        ids: set[Node] = set()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                value = node.meta.get("val")
                if node.name in self.captured.owned or node.name in self.captured.constants:
                    self.values[node] = Static(node)
                    self.counted.owned(node)
                elif not torch.is_tensor(value):
                    self.values[node] = None
                elif not value.is_floating_point():
                    ids.add(node)
            elif node.op in ("call_function", "call_method"):
                inputs = felt(node)
                held = [one for one in inputs if one not in ids]
                if not all(isinstance(self.values.get(one), Static) or self.values.get(one, 0) is None for one in held):
                    continue
                self.counted.owned(node)
                value = node.meta.get("val")
                if any(one in ids or one in self.counted.known for one in inputs):
                    if torch.is_tensor(value) and not value.is_floating_point():
                        ids.add(node)
                    elif self.counted.static(node, inputs, ids):
                        self.values[node] = Static(node)
                else:
                    tensors = torch.is_tensor(value) or isinstance(value, tuple | list)
                    self.values[node] = Static(node) if tensors else None

    def is_signal(self, node: Node) -> bool:
        """Whether a node's value is a float tensor that depends on the input."""
        value = node.meta.get("val")
        return torch.is_tensor(value) and value.is_floating_point() and not isinstance(self.values.get(node), Static)

    def live(self) -> set[Node]:
        """Everything that the outputs are made of."""
        return made_of(*(node for node in self.graph.nodes if node.op == "output"))

    def _node(self, node: Node) -> Value:
        if node.op not in ("call_function", "call_method"):
            return None
        value = node.meta.get("val")
        name = name_of(node)
        if name in table()["ignored"] or value is None or isinstance(value, bool | int | float):
            return None
        if torch.is_tensor(value) and not value.is_floating_point():
            return self._index(node, name)
        try:
            self.counted.lit(node)
            felt = any(isinstance(self.values.get(one), Beam | Lost | Index) for one in node.all_input_nodes)
            return self._mapped(node, name) if felt or node in self.clusters else Static(node)
        except (Unmapped, LayoutError) as reason:
            return opaque(self, node, str(reason))
        except Exception as error:  # a form that a rule has not thought of costs this operation, not the model
            return opaque(self, node, f"an unexpected form of {name} ({type(error).__name__})")

    def _mapped(self, node: Node, name: str) -> Value:
        lost = [one for one in node.all_input_nodes if isinstance(self.values.get(one), Lost)]
        if lost:
            raise Unmapped(getattr(self.values[lost[0]], "reason", ""))
        if node in self.clusters:
            cluster = self.clusters[node]
            return RULES[cluster.kind](self, node)
        if name in table()["layout"]:
            from lensnet.importers.rules.layout import rearranged

            return rearranged(self, node, name)
        if name in RULES:
            return RULES[name](self, node)
        raise Unmapped(f"no rule for {name}")

    def _index(self, node: Node, name: str) -> Value:
        source = next((self.values.get(one) for one in node.all_input_nodes), None)
        if name in table()["layout"] and isinstance(source, Index) and source.ids and source.layout is not None:
            from lensnet.importers.rules.layout import relaid

            try:
                return Index(relaid(source.layout, node, name), ids=True)
            except (LayoutError, Unmapped):
                return Index()
        return Index()

    def _output(self) -> Node:
        """The float output that most of the model leads to."""
        beams = {node: value for node in output_nodes(self.graph) if isinstance(value := self.values.get(node), Beam)}
        beams = {node: beam for node, beam in beams.items() if beam.path != "input"}
        if not beams:
            raise Unmapped("no output of the model is a float tensor that depends on its input")
        order = {item.path: place for place, item in enumerate(self.items)}
        last = max(beams, key=lambda node: order[beams[node].path])
        others = {beam.path for beam in beams.values()} - {beams[last].path}
        if others:
            text = f"of {len(others) + 1} outputs the report follows {beams[last].path}; the others have no loss"
            self.notes.append(text)
        return last

    def _used(self, last: str) -> list[Item]:
        """The items that the output is made of."""
        wanted, todo = set(), [last]
        while todo:
            path = todo.pop()
            if path not in wanted and path in self.by_path:
                wanted.add(path)
                todo += self.by_path[path].sources
        return [item for item in self.items if item.path in wanted]
