"""Chosen displacements against every pair: the same numbers, in both directions, in parts or whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from lensnet.levels.bands import BandPairs, displacement_set, every_displacement
from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.predict.kernel import banded
from lensnet.predict.kernel.banded import affordable, numbers, propagate_bands, wanted_displacements
from lensnet.predict.kernel.propagate import propagate, propagate_back
from lensnet.predict.kernel.source import input_state
from tests.kernel.networks import network
from tests.kernel.test_stationary import images

FLAT = """
- {name: c0, component: conv2d, filters: 32, kernel: 3, padding: 1, gain: sqrt(2), bias_std: 0.1, bias: 0.1}
- {name: r0, component: relu}
- {name: n0, component: local_response_norm, size: 5, alpha: 0.5, beta: 0.75}
- {name: p0, component: max_pool2d, kernel: 3, stride: 2, padding: 1}
- {name: c1, component: conv2d, filters: 32, kernel: 3, padding: 1, dilation: 2, gain: sqrt(2)}
- {name: r1, component: relu}
- {name: p1, component: max_pool2d, kernel: 2}
- {name: flat, component: flatten}
- {name: head, component: linear, units: 16}
"""
RESIDUAL = """
- {name: c0, component: conv2d, filters: 32, kernel: 3, padding: 1, stride: 2, gain: sqrt(2)}
- {name: b0, component: batchnorm}
- {name: r0, component: relu}
- name: add
  component: residual
  branch:
    - {name: c1, component: conv2d, filters: 32, kernel: 3, padding: 1, init: he}
    - {name: r1, component: gelu}
    - {name: c2, component: conv2d, filters: 32, kernel: 3, padding: 1, init: he}
- {name: r3, component: relu}
- {name: se, component: squeeze_excite, reduction: 4}
- {name: av, component: avg_pool2d, kernel: 3, stride: 2, padding: 1}
- {name: pool, component: global_avg_pool}
- {name: head, component: linear, units: 16}
"""

SQUASHED = """
- {name: c0, component: conv2d, filters: 32, kernel: 3}
- {name: t0, component: tanh}
- {name: p0, component: avg_pool2d, kernel: 2, stride: 2}
- {name: c1, component: conv2d, filters: 32, kernel: 3, bias_std: 0.2}
- {name: t1, component: tanh}
- {name: flat, component: flatten}
- {name: head, component: linear, units: 16}
"""


def away(full: Pairs, found: Pairs, layout: BandPairs | FullPairs) -> float:
    """Largest difference over the pairs that are followed, relative to the diagonal."""
    u, v = layout.unordered()
    flat = np.broadcast_to(found, layout.shape).reshape(-1)
    return float(np.max(np.abs(full[u, v] - flat[layout.slots(u, v)])) / np.mean(np.diag(full)))


@pytest.mark.parametrize("most", [1 << 24, 20_000], ids=["whole", "in parts"])
@pytest.mark.parametrize("body", [FLAT, RESIDUAL, SQUASHED], ids=["flatten", "global pool", "tanh"])
def test_every_pair_that_is_followed_is_exact(body: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded, "MOST_KEPT", most)
    net, x = network(body, channels=3, batch=3, positions="[12, 12]"), images(12)
    wanted = wanted_displacements(net)
    assert wanted is not None
    full, bands = propagate(net, input_state(net, x)), propagate_bands(net, x, 3, wanted)
    for path, state in full.states.items():
        assert away(state.pairs, bands.states[path].pairs, bands.states[path].layout) < 1e-9, path
        np.testing.assert_allclose(bands.states[path].mean, state.mean, atol=1e-9)
    bands.plan_gradients()
    probe = full.states["head"].layout.same_place
    whole, some = propagate_back(full, probe), propagate_back(bands, probe)
    for edge, pairs in whole.pairs.items():
        producer = net[edge[0]].inputs[net[edge[0]].ports.index(edge[1])] if edge[0] else "head"
        assert away(pairs, some.pairs[edge], bands.gradient_layout(producer)) < 1e-9, edge


def test_only_what_the_head_asks_for() -> None:
    sizes = {path: len(rows) for path, rows in planned(FLAT).items()}
    # at equal positions; the taps of a 2x2 window apart; of a 3x3 window of stride 2 around those
    assert (sizes["p1"], sizes["p0"], sizes["c0"], sizes["input"]) == (1, 9, 81, 81)
    assert planned(RESIDUAL)["av"].tolist() == every_displacement((3, 3)).tolist()
    assert (
        wanted_displacements(network("- {component: layernorm}\n- {component: attention, heads: 2}", 8, 2, "[4]"))
        is None
    )


def test_a_state_nearly_small_enough_is_kept() -> None:
    """Some examples fewer save working it out again; many fewer would not."""
    net = network(SQUASHED, channels=3, batch=1000, positions="[32, 32]")
    wanted = wanted_displacements(net)
    assert wanted is not None
    sizes = numbers(net, wanted)
    most, largest = (banded.MOST_NUMBERS / sum(sizes.values())) ** 0.5, max(sizes["c0"], sizes["t0"])
    for kept, expected in ((0.9, 0.9 * most), (0.6, most)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(banded, "MOST_KEPT", int(largest * (kept * most) ** 2))
            assert expected - 2 < affordable(net, 1000, wanted) <= expected


def planned(body: str) -> Mapping[str, np.ndarray]:
    wanted = wanted_displacements(network(body, channels=3, batch=3, positions="[12, 12]"))
    assert wanted is not None
    return wanted


def test_a_layout_turns_and_reads_its_pairs() -> None:
    """Against the matrix of all pairs: transposition, rows, and a round trip where every displacement is followed."""
    rng, layout = np.random.default_rng(0), BandPairs(2, (3, 4), every_displacement((3, 4)))
    matrix = rng.standard_normal((24, 24))
    pairs = layout.from_full(matrix)
    np.testing.assert_array_equal(layout.to_full(pairs), matrix)
    np.testing.assert_array_equal(layout.to_full(layout.transposed(pairs)), matrix.T)
    np.testing.assert_allclose(layout.mean_all(pairs), FullPairs(2, (3, 4)).mean_all(matrix), rtol=1e-12)
    some = BandPairs(2, (3, 4), displacement_set([[1, 2]], (3, 4)))
    picked = layout.chosen_from(pairs, some)
    places = (0, 6)  # the second lies (1, 2) behind the first
    np.testing.assert_array_equal(some.chosen(picked, 2, places), matrix[np.ix_([0, 6, 12, 18], [0, 6, 12, 18])])
    assert some.follows(places) and not some.follows((0, 1))
