"""When memory makes the batch shrink, formulas count the examples that are left."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.measure import ensemble
from lensnet.network.build import build_network
from lensnet.network.graph import Network
from lensnet.run import run

TEXT = """
network: net
input: {source: gaussian, channels: 32, batch: BATCH}
body:
  - {name: fc, component: linear, units: 64}
  - {name: norm, component: batchnorm}
  - {name: head, component: linear, units: 16}
"""


def network(batch: int) -> Network:
    spec, document = load_network_spec(Source("net.yaml", TEXT.replace("BATCH", str(batch))))
    return build_network(spec, document)


def figures(given: Network) -> dict[str, Any]:
    report = run(given, 2, most_seeds=2, device="cpu")
    return {row.view: row for row in report.rows if row.component == "norm" and row.direction == "backward"}


@pytest.mark.parametrize("after", [0, 1], ids=["at the first draw", "at the second draw"])
def test_a_norm_of_the_batch_sees_the_halved_batch(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    full, small = figures(network(12)), figures(network(6))
    real, calls = ensemble.measure_pass, iter(range(100))

    def limited(module: Any, given: Network, batch: torch.Tensor, *rest: Any, **options: Any) -> Any:
        if len(batch) > 6 and next(calls) >= after:
            raise MemoryError
        return real(module, given, batch, *rest, **options)

    monkeypatch.setattr(ensemble, "measure_pass", limited)
    monkeypatch.setattr(ensemble, "draws_together", lambda *_: 1)
    halved = figures(network(12))
    for view in ("local", "through"):
        assert full[view].verdict != "out-of-regime"  # 12 samples under one mean are enough,
        assert small[view].verdict == halved[view].verdict == "out-of-regime"  # 6 are not
