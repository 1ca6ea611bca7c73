"""All weight draws at once: the network runs under `vmap` over stacked weights, one call per component.

For small networks the time goes into starting operations, not into arithmetic, and starting each once for all draws
saves most of it. The statistics are those of one pass after another: the same draws, the same definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx import GraphModule

from lensnet.measure.fields import channel_product
from lensnet.measure.layers import NoiseLayer, RandomLayer
from lensnet.measure.module import draw
from lensnet.measure.passes import Probe, cotangent, fill_silent_ports, nonfinite
from lensnet.measure.statistics import OutputStatistics, SeedStatistics
from lensnet.network.geometry import Window, WindowTranspose
from lensnet.network.graph import Network
from lensnet.network.shape import Shape

# Numbers in one tensor of one draw above which arithmetic dominates (measured on a CPU; a GPU starts operations more
# slowly and computes faster), and numbers in all stacked tensors together: 256 MiB of float32.
_SMALL = {"cpu": 1 << 13, "cuda": 1 << 18}
_MOST = 1 << 26


def draws_together(network: Network, module: GraphModule, batch: Tensor) -> int:
    """How many draws are measured together at most; 1 where one after another is faster.

    Together pays for small networks without convolutions: a convolution with a weight per draw becomes a grouped one,
    which is slower.
    """
    if any(isinstance(node.geometry, Window | WindowTranspose) for node in network):
        return 1
    sizes = [len(batch) * node.shape.features for node in network]
    sizes += [parameter.numel() for parameter in module.parameters()]
    if max(sizes, default=0) > _SMALL.get(batch.device.type, 0):
        return 1
    return max(1, min(32, _MOST // max(1, sum(sizes))))


def measure_together(
    module: GraphModule, network: Network, batch: Tensor, seeds: Sequence[int], backward: bool = True, rows: int = 0
) -> list[SeedStatistics]:
    """Statistics of several weight draws, as `measure_pass` gives them one by one."""
    probe = _StackedProbe(module, network, backward, len(seeds), rows)
    recorder = _Recorder(module, probe)
    stacked = _stacked_draws(module, network, seeds, len(batch))

    def run(tensors: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(recorder, {f"module.{name}": value for name, value in tensors.items()}, (x,))

    with torch.set_grad_enabled(backward):
        inputs = batch.detach().expand(len(seeds), *batch.shape)
        output = vmap(run, randomness="different")(stacked, inputs)
        if backward and output.requires_grad:
            if rows:
                one = torch.stack([cotangent(seed, output[0, :1]) for seed in seeds])
                probe.send_back_together(output, one.expand_as(output))
            probe.send_back(output, torch.stack([cotangent(seed, output[0]) for seed in seeds]))
    return probe.split(seeds)


class _Recorder(nn.Module):
    """The probe as a module, so that its weights can be swapped."""

    def __init__(self, module: GraphModule, probe: Probe) -> None:
        super().__init__()
        self.module = module
        self.probe = probe

    def forward(self, x: Tensor) -> Any:
        return self.probe.run(x)


def _stacked_draws(module: GraphModule, network: Network, seeds: Sequence[int], examples: int) -> dict[str, Tensor]:
    """Every random tensor with a leading axis for the draws."""
    names = [
        f"{place}.{name}"
        for place, layer in module.named_modules()
        if isinstance(layer, RandomLayer | NoiseLayer)
        for name in (["noise"] if isinstance(layer, NoiseLayer) else layer.random_names)
    ]
    draws: dict[str, list[Tensor]] = {name: [] for name in names}
    for seed in seeds:
        draw(module, network, seed, examples)
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name in names:
            draws[name].append(held[name].detach().clone())
    return {name: torch.stack(tensors) for name, tensors in draws.items()}


class _Stacked(torch.autograd.Function):
    """Steps out of `vmap`: lets a function see, and replace, the tensors of all draws with the draw as first axis."""

    @staticmethod
    def forward(look: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("the tensors of an ensemble have an axis for the draws")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, look: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> Any:
        stacked = [
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(values, in_dims[1:], strict=True)
        ]
        out = look(*stacked)
        return out, (0,) * len(out)


class _StackedProbe(Probe):
    """A probe whose statistics have a leading axis for the draws."""

    def __init__(self, module: GraphModule, network: Network, backward: bool, draws: int, rows: int) -> None:
        super().__init__(module, network, backward, rows=rows)
        self.draws = draws

    def open(self, look: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> tuple[Tensor, ...]:
        return _Stacked.apply(look, *values)

    def moments(self, value: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        mean = value.mean(shape.channel_axis + 1, dtype=torch.float64)
        return mean, self._second(value, shape)

    def gradient_moments(self, value: Tensor, gradient: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        return self._second(gradient, shape), _inner(value, gradient)

    def gram(self, value: Tensor, shape: Shape) -> Tensor:
        return torch.stack([super(_StackedProbe, self).gram(one, shape) for one in value])

    def sides(self, measure: Callable[..., dict[Any, Tensor]], *values: Tensor) -> dict[Any, Tensor]:
        by_draw = [measure(*(value[draw] for value in values)) for draw in range(self.draws)]
        return {key: torch.stack([sides[key] for sides in by_draw]) for key in by_draw[0]}

    def inner(self, output: Tensor, weights: Tensor) -> Tensor:
        return _inner(output, weights)

    def _second(self, value: Tensor, shape: Shape) -> Tensor:
        folded = value.flatten(0, 1)
        return channel_product(folded, folded, shape).unflatten(0, (self.draws, -1))

    def split(self, seeds: Sequence[int]) -> list[SeedStatistics]:
        """The statistics of each draw, moved to the host."""
        outputs = {path: (mean.cpu().numpy(), second.cpu().numpy()) for path, (mean, second) in self.outputs.items()}
        gradients = {key: value.cpu().numpy() for key, value in self.gradients.items()}
        sides = {key: value.cpu().numpy() for key, value in self.side.items()}
        invariants = {path: value.cpu().numpy() for path, value in self.invariant.items()}
        grams = {path: value.cpu().numpy() for path, value in self.grams.items()}
        gradient_grams = {key: value.cpu().numpy() for key, value in self.gradient_grams.items()}
        out = []
        for place, seed in enumerate(seeds):
            one = SeedStatistics(seed)
            one.outputs = {
                path: OutputStatistics(mean[place], second[place]) for path, (mean, second) in outputs.items()
            }
            one.gradients = {key: value[place] for key, value in gradients.items()}
            one.side = {key: value[place] for key, value in sides.items()}
            one.invariant = {path: float(value[place]) for path, value in invariants.items()}
            one.scalars = {key: float(value[place]) for key, value in self.scalars.items()}
            one.grams = {path: value[place] for path, value in grams.items()}
            one.gradient_grams = {key: value[place] for key, value in gradient_grams.items()}
            if self.backward:
                fill_silent_ports(self.network, one)
            one.nonfinite = nonfinite(one)
            out.append(one)
        return out


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each draw."""
    return (a.double() * b.double()).flatten(1).sum(1)
