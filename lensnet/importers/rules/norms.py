"""Normalisations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value
from lensnet.importers.layout import CHANNELS
from lensnet.importers.mapping import rule
from lensnet.importers.operations import argument, arguments
from lensnet.importers.rules.activations import module_name

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def _affine(mapper: Mapper, weight: Any, bias: Any) -> dict[str, float]:
    out = {}
    scale, shift = mapper.constant(weight, 1.0), mapper.constant(bias, 0.0)
    if scale != 1:
        out["scale"] = scale
    if shift != 0:
        out["shift"] = shift
    return out


def _over_channels(mapper: Mapper, source: Any, shape: Any) -> Beam:
    beam = mapper.beam(source)
    if len(shape) != 1 or not beam.layout.roles(-1) <= {CHANNELS} or beam.layout.sizes[-1] != beam.channels:
        raise Unmapped("a norm over something else than all channels")
    return beam


@rule("layer_norm")
def layer_norm(mapper: Mapper, node: Node) -> Value:
    source, shape = arguments(node)[0], argument(node, 1, "normalized_shape")
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    if len(shape) == 1 and beam.layout.sizes[-1] != beam.channels and beam.layout.roles(-1) <= {CHANNELS}:
        raise Unmapped("a layer norm over a part of the channels (one head)")
    beam = _over_channels(mapper, source, shape)
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    parameters = {"eps": argument(node, 4, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "layernorm", parameters, beam, source, owns=[weight, bias])


@rule("rms_norm")
def rms_norm(mapper: Mapper, node: Node) -> Value:
    source, shape = arguments(node)[0], argument(node, 1, "normalized_shape")
    weight, eps = argument(node, 2, "weight"), argument(node, 3, "eps")
    eps = 1.1920929e-07 if eps is None else eps
    if len(shape) == 1 and mapper.beam(source).channels != shape[0] == mapper.beam(source).layout.sizes[-1]:
        return _per_head(mapper, node, source, mapper.beam(source), eps, weight)
    beam = _over_channels(mapper, source, shape)
    assert isinstance(source, Node)
    return mapper.one(node, "rmsnorm", {"eps": eps, **_affine(mapper, weight, None)}, beam, source, owns=[weight])


@rule("cluster rmsnorm")
def written_rmsnorm(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    beam = mapper.beam(cluster.source)
    if not beam.layout.roles(-1) <= {CHANNELS} or beam.layout.sizes[-1] != beam.channels:
        gain = cluster.info["gain"]
        return _per_head(mapper, node, cluster.source, beam, cluster.info["eps"], gain)
    gain = cluster.info["gain"]
    parameters = {"eps": cluster.info["eps"], **_affine(mapper, gain, None)}
    owns = [] if gain is None else [gain]
    return mapper.one(node, "rmsnorm", parameters, beam, cluster.source, name=module_name(mapper, node), owns=owns)


def _per_head(mapper: Mapper, node: Node, source: Node, beam: Beam, eps: float, gain: Any) -> Value:
    """A norm over the channels of one head: the last axis is the innermost part of the channels."""
    last = beam.layout.axes[-1]
    if len(last) != 1 or last[0].role != CHANNELS or last[0].stride != 1 or beam.channels % last[0].size:
        raise Unmapped("a norm over something else than the channels of a head")
    parameters = {"heads": beam.channels // last[0].size, "eps": eps, **_affine(mapper, gain, None)}
    owns = [] if gain is None else [gain]
    name = module_name(mapper, node) if node in mapper.clusters else ""
    return mapper.one(node, "head_norm", parameters, beam, source, name=name, owns=owns)


@rule("batch_norm")
def batch_norm(mapper: Mapper, node: Node) -> Value:
    source, weight, bias, mean, variance, training = arguments(node)[:6]
    eps = argument(node, 7, "eps", 1e-5)
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a batch norm over something else than channels")
    parameters: dict[str, Any] = {"eps": eps, **_affine(mapper, weight, bias)}
    if not training:
        parameters["mode"] = "eval"
        centre, spread = mapper.constant(mean, 0.0), mapper.constant(variance, 1.0)
        parameters |= {"running_mean": centre} if centre else {}
        parameters |= {"running_var": spread} if spread != 1 else {}
    return mapper.one(node, "batchnorm", parameters, beam, source, owns=[weight, bias])


@rule("group_norm")
def group_norm(mapper: Mapper, node: Node) -> Value:
    source, groups = arguments(node)[0], int(argument(node, 1, "num_groups"))
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a group norm over something else than channels")
    parameters = {"groups": groups, "eps": argument(node, 4, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "groupnorm", parameters, beam, source, owns=[weight, bias])


@rule("instance_norm")
def instance_norm(mapper: Mapper, node: Node) -> Value:
    source, weight, bias = arguments(node)[:3]
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    parameters = {"eps": argument(node, 7, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "instancenorm", parameters, beam, source, owns=[weight, bias])
