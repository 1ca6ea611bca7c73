"""Rate tests: they see a rate that is there, and they can fail."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from lensnet.ladder import growth, rates
from lensnet.ladder.growth import grown, widened
from lensnet.ladder.rates import Rate, rate_test
from lensnet.ladder.trial import Trial


def test_a_dense_layer_averages_itself_like_one_over_its_width() -> None:
    """The relative variance of q over draws of Gaussian weights is 2/n plus that of the input, 2/n: slope -1."""
    found = {rate.quantity: rate for rate in rate_test(Trial("linear", {"channels": 32, "units": 32}), draws=48)}
    forward = found["second moment"]
    assert forward.widths == (32, 64, 128, 256)
    assert forward.slope is not None and forward.interval is not None
    assert abs(forward.slope + 1) <= 2 * forward.interval
    assert abs(log(forward.variances[-1] * 256 / 4)) < 4 / sqrt(48)
    assert forward.holds and found["gradient at x"].holds


def test_what_a_norm_fixes_does_not_scatter() -> None:
    found = {rate.quantity: rate for rate in rate_test(Trial("rmsnorm", {"channels": 32}), draws=8)}
    assert found["second moment"].slope is None and found["second moment"].told() == "no scatter"


def test_one_head_of_attention_does_not_average_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of one head are one random number for each pair of tokens, however wide the layer: only heads average."""
    monkeypatch.setattr(growth, "_ALONG", ())
    (found, *_) = rate_test(Trial("attention", {"channels": 32, "positions": [8], "batch": 4}), draws=48)
    assert not found.averages_itself and not found.holds


@pytest.mark.parametrize(("left", "holds"), [(0.0, True), (0.02, False), (0.004, True)])
def test_the_error_that_is_left_at_infinite_width(left: float, holds: bool) -> None:
    """Average errors b + a/n with noise of 0.001: b is found within its error bar and held against what is declared."""
    rng = np.random.default_rng(3)
    widths, se = (32, 64, 128, 256), 0.001
    errors = [(left + 0.5 / n + se * rng.standard_normal(), se) for n in widths]
    limit, limit_error = rates._limit(widths, errors)
    assert abs(limit - left) < 3 * limit_error
    rate = Rate(
        "made-up",
        "second moment",
        widths,
        (1.0,) * 4,
        -1.0,
        0.1,
        tuple(e for e, _ in errors),
        (se,) * 4,
        limit,
        limit_error,
        0.004,
    )
    assert rate.within_declared == holds


def test_a_test_is_repeated_only_as_wide_as_its_weights_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ports of 32 channels come from dense layers of 2 * 32**2 weights; at 8 times the width 64 times as many."""
    trial = Trial("multiply", {"channels": 32})
    monkeypatch.setattr(rates, "MOST_WEIGHTS", 2 * 256**2)
    assert [rates._affordable(trial, factor) for factor in (1, 2, 8)] == [8, 4, 1]


def test_groups_grow_with_the_channels_of_every_port() -> None:
    trial = Trial("selective_scan", {"channels": 64, "port_channels": {"b": 32}, "groups": 4})
    settings = grown(trial, 2, "groups").settings
    assert (settings["channels"], settings["groups"], settings["port_channels"]) == (128, 8, {"b": 64})
    assert grown(Trial("selective_scan", {"channels": 64}), 4, "groups").settings["groups"] == 4  # 1 by default


def test_trials_are_widened_where_their_output_is_made() -> None:
    assert widened(Trial("linear", {"channels": 3, "units": 96}), 2).settings["units"] == 192
    assert widened(Trial("linear", {"channels": 3, "units": 96}), 2).settings["channels"] == 6
    assert widened(Trial("relu", {"channels": 8}), 4).settings["channels"] == 128  # 32 is the narrowest
    assert widened(Trial("attention", {"channels": 64, "heads": 2}), 2).settings["heads"] == 4
