"""From a torch module and example inputs to a graph of operations: export, draft export, eager trace, in this order.

The graph is torch's own (ATen operations, undecomposed, with the path of the module that each comes from); nothing is
claimed about it here. Parameters and buffers are placeholders, so that it can be run with other weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from lensnet.importers.normalise import normalise
from lensnet.importers.trace import TraceStopped, trace
from lensnet.importers.untouched import quiet, untouched, unwrapped


class ImportRefused(Exception):
    """The model could not be captured by any route; the message names the last reason, in one line."""


@dataclass
class Captured:
    """The operations of one forward pass.

    `graph`: placeholders, operations, output. `owned`: placeholder -> dotted name of its parameter or buffer;
    `constants`: placeholder -> tensor; `inputs`: placeholder -> example value, in the order of the call. `route`:
    export, draft export or trace; `notes`: what the route took for granted. `parameters`: the module's own tensors by
    name (shared, never written to).
    """

    graph: GraphModule
    owned: dict[str, str]
    constants: dict[str, Tensor]
    inputs: dict[str, Any]
    route: str
    parameters: dict[str, Tensor]
    modules: dict[str, nn.Module] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def on_meta(self) -> bool:
        return any(tensor.is_meta for tensor in self.parameters.values())

    def values(self, weights: Mapping[str, Tensor] | None = None, inputs: Mapping[str, Any] | None = None) -> list[Any]:
        """One value per placeholder: the given weights (by name) or copies of the model's own, detached."""
        out = []
        for node in self.graph.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in self.owned:
                name = self.owned[node.name]
                value = (weights or {}).get(name)
                out.append(self.parameters[name].detach() if value is None else value)
            elif node.name in self.constants:
                out.append(self.constants[node.name])
            else:
                out.append((inputs or {}).get(node.name, self.inputs.get(node.name)))
        return out


def capture(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, training: bool = False
) -> Captured:
    """The graph of `model(*args, **kwargs)`. Raises ImportRefused, never what the model or torch raised."""
    model = unwrapped(model)
    named = dict(kwargs or {})
    reasons: list[str] = []
    with untouched(model, training), torch.no_grad(), quiet():
        for route in (_exported, _drafted, _traced):
            for extra in ({"use_cache": False}, {}) if _takes_cache(model) and "use_cache" not in named else ({},):
                try:
                    found = route(model, tuple(args), {**named, **extra})
                    normalise(found.graph.graph)
                    found.modules = dict(model.named_modules())
                    return found
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # whatever a model or a tracer raises
                    known = isinstance(error, TraceStopped)
                    name = "" if known else f"{route.__name__.strip('_')}: {type(error).__name__}: "
                    reasons.append(f"{name}{_first_line(error)}")
    raise ImportRefused(reasons[-1] if reasons else "nothing was tried")


def _takes_cache(model: nn.Module) -> bool:
    return getattr(getattr(model, "config", None), "use_cache", None) is not None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no message"


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
    program = torch.export.export(model, args, kwargs, strict=False)
    return _of_program(program, model, "export", [])


def _drafted(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
    program = torch.export.draft_export(model, args, kwargs, strict=False)
    notes = [
        f"the graph holds for inputs like this one: {text}"
        for text in _specialised(str(getattr(program, "_report", "")))
    ]
    found = _of_program(program, model, "draft export", notes)
    if not found.on_meta and not _computes(found, model, args, kwargs):
        raise ImportRefused("the draft took another branch than the model does")
    return found


def _computes(found: Captured, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a graph gives what the model gives: a decision that depends on values may have been guessed."""
    made = torch.fx.Interpreter(found.graph).run(*found.values())
    wanted = model(*args, **kwargs)
    pairs = [torch.utils._pytree.tree_leaves(value) for value in (made, wanted)]
    tensors = [[leaf for leaf in leaves if torch.is_tensor(leaf)] for leaves in pairs]
    return len(tensors[0]) == len(tensors[1]) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(*tensors, strict=True)
        if a.is_floating_point()
    )


def _specialised(report: str) -> list[str]:
    """What a draft export decided from the example, one line each."""
    asked = re.findall(r"unable to evaluate the value of `([^`]*)`", report)
    places = re.findall(r"\n\s{12,}(\S[^\n]*)\n\s*\n\s*Locals", report)
    out = []
    for index, condition in enumerate(asked):
        where = f" in `{places[index].strip()}`" if index < len(places) else ""
        out.append(f"`{condition}`{where} was decided by it")
    return out


def _of_program(program: Any, model: nn.Module, route: str, notes: list[str]) -> Captured:
    signature = program.graph_signature
    owned = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {
        name: program.constants[target]
        for name, target in getattr(signature, "inputs_to_lifted_tensor_constants", {}).items()
    }
    given = iter(torch.utils._pytree.tree_leaves(program.example_inputs))
    wanted = [
        node.name
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name not in owned and node.name not in constants
    ]
    inputs = dict(zip(wanted, given, strict=False))
    parameters = {**dict(model.named_parameters(remove_duplicate=False)), **_buffers(model)}
    return Captured(program.graph_module, owned, constants, inputs, route, parameters, notes=notes)


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_buffers(remove_duplicate=False))


def _traced(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
    graph, owned, constants, inputs = trace(model, args, kwargs)
    parameters = {**dict(model.named_parameters(remove_duplicate=False)), **_buffers(model)}
    notes = ["the graph is that of one run: what depends on the values of the input was decided by them"]
    return Captured(GraphModule(nn.Module(), graph), owned, constants, inputs, "trace", parameters, notes=notes)


def output_nodes(graph: Graph) -> list[Node]:
    """The tensors that the model returns, whatever they are wrapped in."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    return [node for node in output.all_input_nodes if torch.is_tensor(node.meta.get("val"))]
