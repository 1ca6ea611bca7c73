"""From a draft to a spec, and from the spec to a network: an imported model is a file like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import yaml

from lensnet.importers.draft import Draft, Item
from lensnet.importers.layout import EXAMPLES
from lensnet.language.source import Source
from lensnet.network.build import load_network
from lensnet.network.graph import Network


def spec_of(draft: Draft, name: str, about: str, sharing: bool = True) -> dict[str, Any]:
    """The network file as plain data: input, formulas of its own, one item per component in the order of execution.

    `sharing`: a component that uses the weights of one before it says so.
    """
    body: list[dict[str, Any]] = []
    before = "input"
    users: dict[tuple[str, tuple[str, ...]], str] = {}
    tables = {item.owns[0]: item.path for item in reversed(draft.items) if item.component == "embedding" and item.owns}
    for item in draft.items:
        entry: dict[str, Any] = {"name": item.path, "component": item.component}
        if item.sources != [before]:
            entry["from"] = item.sources[0] if len(item.sources) == 1 else item.sources
        first = users.setdefault((item.component, tuple(item.owns)), item.path) if item.owns else item.path
        if item.component == "tied_linear":
            first = tables.get(item.owns[0], item.path)
        if sharing and first != item.path:
            entry["weights_of"] = first
        body.append(entry | item.parameters)
        before = item.path
    spec: dict[str, Any] = {"network": name, "about": about, "input": _input(draft)}
    if used := {key: value for key, value in draft.define.items() if any(i.component == key for i in draft.items)}:
        spec["define"] = used
    return spec | {"body": body}


def _input(draft: Draft) -> dict[str, Any]:
    value = draft.input_node.meta["val"]
    if draft.input_beam is None:
        sizes = tuple(value.shape)
        ids = {"length": sizes[-1] if len(sizes) > 1 else 1, "vocabulary": max(draft.vocabulary, 1), "batch": sizes[0]}
        return {"source": "tokens", **ids, "distribution": "uniform"}
    beam = draft.input_beam
    out: dict[str, Any] = {"source": "gaussian", "channels": beam.channels, "batch": beam.layout.size_of(EXAMPLES)}
    if beam.positions:
        out["positions"] = list(beam.positions)
    return out


def text_of(spec: dict[str, Any], remarks: Sequence[str] = ()) -> str:
    """The file: head in blocks, one line per component. `remarks`: comments above the input."""
    head = {key: value for key, value in spec.items() if key not in ("body", "input")}
    lines = ["# yaml-language-server: $schema=./lensnet-spec.schema.json"]
    lines += yaml.safe_dump(head, sort_keys=False, width=110, allow_unicode=True).rstrip().splitlines()
    lines += [f"# {remark}" for remark in remarks]
    lines.append(f"input: {_flow(spec['input'])}")
    lines.append("body:")
    lines += [f"  - {_flow(item)}" for item in spec["body"]]
    return "\n".join(lines) + "\n"


def _flow(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=True, width=1 << 20).strip()


def network_of(text: str, name: str) -> Network:
    """Raises SpecError where the importer wrote something that the language refuses."""
    return load_network(Source(name, text)).network


def parameter_counts(items: list[Item], parameters: dict[str, torch.Tensor]) -> dict[str, int]:
    """Numbers in the parameters of every component; a tied tensor counts where it is used first."""
    seen: set[int] = set()
    out: dict[str, int] = {}
    for item in items:
        total = 0
        for name in item.owns:
            tensor = parameters.get(name)
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                total += tensor.numel()
        out[item.path] = total
    return out
