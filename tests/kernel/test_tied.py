"""A head whose matrix is the table of the embedding: against Monte Carlo over draws of a table that both use."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lensnet
from lensnet.importers.build import network_of, text_of
from lensnet.importers.model import import_model
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source, SpecError
from lensnet.measure.module import draw, layers, to_module
from lensnet.measure.sources import load_batch
from lensnet.network.build import build_network
from lensnet.network.graph import Network
from lensnet.predict.kernel.propagate import propagate
from lensnet.predict.kernel.source import input_state
from lensnet.predict.kernel.tangent import KernelError, ntk
from tests.kernel.networks import network_on
from tests.kernel.test_wide_networks import torch_kernels

WIDTH, WORDS, DRAWS = 96, 30, 300
BODY = """
- {name: embed, component: embedding, units: %d, std: 0.1}
- {name: position, component: positional_encoding, encoding: learned, std: 0.07}
- name: think
  component: residual
  branch:
    - {component: layernorm}
    - {component: linear, units: %d, gain: 0.1}
- {name: norm, component: layernorm}
- {name: head, component: tied_linear, units: %d, std: %g, bias: 0.3, weights_of: embed}
"""


def tied(std: float = 0.1, words: int = WORDS, width: int = WIDTH) -> Network:
    body = textwrap.indent(textwrap.dedent(BODY % (width, width, words, std)).strip(), "  ")
    source = f"{{source: tokens, length: 4, vocabulary: {WORDS}, batch: 3, distribution: uniform}}"
    spec, document = load_network_spec(Source("tried", f"network: tried\ninput: {source}\nbody:\n{body}\n"))
    return build_network(spec, document)


def test_the_logits_of_a_tied_head() -> None:
    net = tied()
    batch = load_batch(net.input)
    module = to_module(net)
    grams, means = [], []
    with torch.no_grad():
        for seed in range(DRAWS):
            draw(module, net, seed)
            logits = module(batch).double().reshape(-1, WORDS).numpy()
            grams.append(logits @ logits.T / WORDS)
            means.append(logits.mean(axis=1))
    torch.testing.assert_close(layers(module)["head"].weight, layers(module)["embed"].weight)
    state = propagate(net, input_state(net, batch.numpy())).states["head"]
    measured, error = np.mean(grams, axis=0), np.std(grams, axis=0) / DRAWS**0.5
    power = float(np.diag(measured).mean())
    assert np.all(np.abs(state.pairs - measured) < 4.5 * error + 3 / WIDTH * power)
    level, doubt = np.mean(means, axis=0), np.std(means, axis=0) / DRAWS**0.5
    assert np.all(np.abs(state.mean.ravel() - level) < 4.5 * doubt + 3 / WIDTH * power**0.5)
    alone = WIDTH * 0.1**2 + 0.3**2  # a matrix of its own, behind a norm
    assert float(np.diag(measured).mean()) - alone > 20 * float(np.diag(error).mean())


@pytest.mark.parametrize("options", [{"std": 0.2}, {"words": WORDS + 1}, {"width": WIDTH, "words": 7}])
def test_a_table_that_does_not_fit_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="cannot use the weights of 'embed'"):
        tied(**options)  # type: ignore[arg-type]


LOOPS = {
    "nothing between": ("- {name: last, component: pick, index: 2}", 0.3),
    "norms along the stream": (
        """
- {name: enter, component: rmsnorm}
- name: think
  component: residual
  branch:
    - {component: linear, units: 192}
    - {component: relu}
    - {component: linear, units: 192, gain: 0.7}
- {name: norm, component: layernorm}
- {name: pool, component: token_mean}
""",
        0.3,
    ),
}


@pytest.mark.parametrize("case", LOOPS)
def test_the_tangent_kernel_counts_both_uses_of_the_table_together(case: str) -> None:
    """Against autograd; what the two uses add to the squares of each is several standard errors."""
    between, std = LOOPS[case]
    body = f"- {{name: embed, component: embedding, units: 192, std: {std}}}\n{between.strip()}\n"
    body += f"- {{name: head, component: tied_linear, units: 12, std: {std}, weights_of: embed}}\n"
    net = network_on("{source: tokens, length: 3, vocabulary: 12, batch: 3, distribution: uniform}", body)
    batch = load_batch(net.input).numpy()
    expected = ntk(net, batch)
    size = float(np.diag(expected).mean())
    kernels = torch_kernels(net, batch, 30)
    off = (np.mean(kernels, axis=0) - expected) / size
    error = np.std(kernels, axis=0, ddof=1) / 30**0.5 / size
    assert np.all(np.abs(off) < 4 * error + 1 / 192), f"{off} against {error}"
    squares = ntk(replace(net, nodes=tuple(replace(node, shares=None) for node in net)), batch)
    missing = (np.mean(kernels, axis=0) - squares) / size
    assert np.abs(missing / error).max() > 5


def test_a_gradient_that_nothing_is_known_of_is_refused() -> None:
    body = """
- {name: embed, component: embedding, units: 64, std: 1}
- {name: bent, component: tanh}
- {name: pool, component: pick, index: 0}
- {name: head, component: tied_linear, units: 12, std: 1, weights_of: embed}
"""
    net = network_on("{source: tokens, length: 3, vocabulary: 12, batch: 3}", body)
    with pytest.raises(KernelError, match="head and embed share a table"):
        ntk(net, load_batch(net.input).numpy())


class Tied(nn.Module):
    """The smallest language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 32), nn.LayerNorm(32)
        self.head = nn.Linear(32, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embed(ids)))


def test_an_imported_tied_head_shares_the_table() -> None:
    found = import_model(Tied(), [torch.randint(0, 20, (3, 5))])
    again = network_of(text_of(found.spec), "again")
    module = to_module(again)
    draw(module, again, 0)
    torch.testing.assert_close(layers(module)["head"].weight, layers(module)["embed"].weight)
    report = lensnet.Net(again).run(seeds=40, level="kernel")
    (row,) = (r for r in report.rows if r.component == "head" and r.quantity == "second_moment" and r.view == "through")
    assert row.verdict == "agrees"
    assert row.predicted is not None and row.measured is not None
    assert row.predicted > 2 * 32  # the own row of 20 is 32 times as long as the sum of the others is wide
