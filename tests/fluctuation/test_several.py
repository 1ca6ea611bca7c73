"""Gates, experts, attention, products and pools: the scatter of whole batches against weight draws, and doubts."""

from __future__ import annotations

import numpy as np
import pytest

import lensnet
from lensnet.predict.fluctuation.several import looks

NETWORKS = {
    "gated": ("{source: gaussian, channels: 48, batch: 8, correlation: 0.3}", """
  - {name: gated, component: gated_linear_unit, units: 40, activation: gelu}
  - {name: dense, component: linear, units: 32}
"""),
    "experts": ("{source: gaussian, channels: 48, batch: 12, correlation: 0.3}", """
  - {name: experts, component: mixture_of_experts, experts: 4, hidden: 48, units: 32}
  - {name: dense, component: linear, units: 32}
"""),
    "product": ("{source: gaussian, channels: 48, batch: 8, correlation: 0.3}", """
  - {name: stem, component: linear, units: 32}
  - name: product
    component: multiply
    branch: [{name: up, component: linear, units: 32, gain: 2}, {name: gate, component: sigmoid}]
"""),
    "attention": ("{source: gaussian, channels: 64, positions: 6, batch: 4}", """
  - {name: attention, component: attention, heads: 2}
  - {name: dense, component: linear, units: 48}
"""),
    "attention, tokens of cosine 0.9": (
        "{source: gaussian, channels: 64, positions: 8, batch: 6, position_correlation: 0.9}", """
  - {name: stem, component: linear, units: 64}
  - {name: relu, component: relu}
  - {name: dense, component: linear, units: 64, gain: sqrt(2)}
  - {name: first, component: attention, heads: 4, query_gain: 1.5}
  - {name: second, component: attention, heads: 4}
"""),
    "attention, unrelated tokens that become alike": ("{source: gaussian, channels: 64, positions: 8, batch: 6}", """
  - {name: stem, component: linear, units: 64}
  - {name: first, component: attention, heads: 4}
  - {name: second, component: attention, heads: 4}
"""),
    "pools": ("{source: digits, size: 12, batch: 3}", """
  - {name: conv, component: conv2d, filters: 24, kernel: 3, padding: 1, gain: sqrt(2)}
  - {name: relu, component: relu}
  - {name: average, component: avg_pool2d, kernel: 2}
  - {name: last, component: conv2d, filters: 24, kernel: 3, padding: 1, gain: sqrt(2)}
  - {name: largest, component: max_pool2d, kernel: 2}
  - {name: flat, component: flatten}
  - {name: dense, component: linear, units: 32}
"""),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_scatter_of_a_batch(tmp_path, name):
    """Within 12 % of the standard deviation beyond three standard errors of a sample of 250 draws; the terms that these
    components bring are half of it at least, except in the pools, where it is the rows that must be counted right."""
    file = tmp_path / "net.yaml"
    source, body = NETWORKS[name]
    file.write_text(f"network: net\ninput: {source}\nbody:{body}")
    seeds = 250
    report = lensnet.load(file).run(seeds=seeds, most_seeds=seeds, level="fluctuation", backward=False)
    rows = {row.component: row for row in report.rows if row.quantity == "scatter"}
    assert rows
    for path, row in rows.items():
        assert row.verdict != "out-of-regime", (path, [a.text for a in row.assumptions if a.fails])
        noise = 1 / np.sqrt(2 * seeds)
        assert row.measured == pytest.approx(row.predicted, rel=0.12 + 3 * noise), path


def test_a_flattened_signal_scatters_like_what_it_was(tmp_path):
    """The same numbers in fewer rows: the average over the batch is the same in every draw."""
    file = tmp_path / "net.yaml"
    source, body = NETWORKS["pools"]
    file.write_text(f"network: net\ninput: {source}\nbody:{body}")
    report = lensnet.load(file).predict(level="fluctuation", gradients=False)
    scatter = {row.component: row.predicted for row in report.rows if row.quantity == "scatter"}
    assert scatter["flat"] == pytest.approx(scatter["largest"], rel=0.01)


def test_examples_that_are_followed_stand_for_the_batch(tmp_path):
    """Of 2,304 samples the kernel level follows some examples, and of their positions not only those of one column."""
    file = tmp_path / "net.yaml"
    file.write_text(
        "network: net\ninput: {source: digits, size: 12, batch: 16}\nbody:\n"
        "  - {name: conv, component: conv2d, filters: 24, kernel: 3, padding: 1}\n"
        "  - {name: relu, component: relu}\n"
    )
    seeds = 250
    report = lensnet.load(file).run(seeds=seeds, most_seeds=seeds, level="fluctuation", backward=False)
    rows = [row for row in report.rows if row.quantity == "scatter"]
    assert len(rows) == 2
    for row in rows:
        assert row.verdict != "out-of-regime", [a.text for a in row.assumptions if a.fails]
        assert row.measured == pytest.approx(row.predicted, rel=0.1 + 3 / np.sqrt(2 * seeds)), row.component


@pytest.mark.parametrize(("variance", "tokens", "width"), [(0.5, 8, 16), (1.0, 32, 4)])
def test_power_of_a_softmax(variance, tokens, width):
    """Against queries and keys that are drawn: logits q.k of one query and unrelated keys."""
    rng = np.random.default_rng(3)
    queries = rng.standard_normal((20_000, 1, width))
    keys = rng.standard_normal((20_000, tokens, width))
    logits = np.sqrt(variance / width) * np.sum(queries * keys, axis=2)
    weights = np.exp(logits)
    powers = np.sum(weights**2, axis=1) / np.sum(weights, axis=1) ** 2
    mean, spread = looks(variance, tokens, width, causal=False)
    assert mean == pytest.approx(powers.mean(), rel=0.02)
    assert spread == pytest.approx(powers.var() / powers.mean() ** 2, rel=0.15)
