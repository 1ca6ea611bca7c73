"""A network as one torch module: an fx graph whose nodes are the components."""

from __future__ import annotations

from keyword import iskeyword

from torch import nn
from torch.fx import Graph, GraphModule

from lensnet.measure.layers import NoiseLayer, RandomLayer, build
from lensnet.network.graph import INPUT, Network


def to_module(network: Network) -> GraphModule:
    """Build the fx graph: one `call_module` node per component, edges as in the network.

    Of every node `meta["path"]` is the component path (`"input"` for the placeholder) and `meta["ports"]` the names of
    its input ports. The target is the path too, with an underscore after a segment that names a component with others
    inside (`stem` and `stem.fork`), hides an attribute of torch's modules (a component named `half`) or is a word of
    Python's (`in`). The weights hold no values until `draw`. Raises `ImplementationError` naming the component.
    """
    targets = _targets([node.path for node in network])
    graph = Graph()
    source = graph.placeholder(INPUT)
    source.meta["path"], source.meta["ports"] = INPUT, ()
    values = {INPUT: source}
    for node in network:
        made = graph.call_module(targets[node.path], tuple(values[path] for path in node.inputs))
        made.meta["path"], made.meta["ports"] = node.path, node.ports
        values[node.path] = made
    graph.output(values[network.nodes[-1].path] if network.nodes else source)
    return GraphModule({targets[node.path]: build(node) for node in network}, graph, class_name="LensnetModule")


def layers(module: GraphModule) -> dict[str, nn.Module]:
    """The torch module of every component, by component path."""
    return {
        node.meta["path"]: module.get_submodule(str(node.target))
        for node in module.graph.nodes
        if node.op == "call_module"
    }


def draw(module: GraphModule, network: Network, seed: int, examples: int | None = None) -> None:
    """Draw all random tensors of one seed, in place.

    With `examples`, the noise of dropout and the like is drawn for that batch size too; without, such layers pass
    their input on unchanged until they are drawn. A layer made of several random ones (attention) holds them as
    submodules, each drawn under a name of its own (`<path>/<submodule>`).
    """
    made = layers(module)
    for node in network:
        for name, part in made[node.path].named_modules():
            path = f"{node.path}/{name}" if name else node.path
            if isinstance(part, RandomLayer):
                part.redraw(seed, f"{node.weights_of}/{name}" if name else node.weights_of)
            if isinstance(part, NoiseLayer) and examples is not None:
                part.redraw_noise(seed, path, node.shapes_in[0].tensor_shape(examples))


def _targets(paths: list[str]) -> dict[str, str]:
    """A place in the tree of torch modules for every path, that Python can name and nothing else occupies."""
    components, occupied = set(paths), {*dir(GraphModule), *dir(GraphModule(nn.Module(), Graph()))}
    out: dict[str, str] = {}
    leaves: set[str] = set()
    folders: set[str] = set()
    for index, path in enumerate(paths):
        segments = path.split(".")
        for place, segment in enumerate(segments):
            inside = place + 1 < len(segments) and ".".join(segments[: place + 1]) in components
            if inside or segment in occupied or iskeyword(segment):
                segments[place] = segment + "_"
        above = {".".join(segments[:depth]) for depth in range(1, len(segments))}
        target = ".".join(segments)
        if target in leaves | folders or above & leaves:  # the underscored name is taken: any free one will do
            target, above = f"component_{index}", set()
        leaves.add(target)
        folders |= above
        out[path] = target
    return out
