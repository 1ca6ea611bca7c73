"""The pytest plugin and components for the classes of others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lensnet.importers.rules.modules import component_of, registered
from lensnet.importers.summary import summary
from lensnet.testing.plugin import SignalError, check


def stack(gain: float) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(4):
        dense = nn.Linear(128, 128)
        nn.init.normal_(dense.weight, 0, gain / 128**0.5)
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers)


def test_a_signal_that_stays_passes_and_one_that_dies_is_named() -> None:
    torch.manual_seed(0)
    check(stack(2**0.5), (64, 128), signal=(0.5, 3), at="model.[0246]", seeds=6, most_seeds=12)
    with pytest.raises(SignalError, match=r"model\.6"):
        check(stack(0.5), (64, 128), signal=(0.05, 3), seeds=4, most_seeds=4)
    with pytest.raises(SignalError, match="nothing was measured"):
        check(stack(1.0), (4, 128), signal=(0, 9), at="nowhere", seeds=2, most_seeds=2)


def test_files_are_collected(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # by name alone, whether installed or not
    body = "input: {source: gaussian, channels: 64, batch: 32}\nbody: [{component: linear, units: 64}]\n"
    gate = "expect: [{at: linear, quantity: second_moment, between: [%s]}]\n"
    pytester.makefile(".yaml", check_good="network: good\n" + body + gate % "0.5, 2")
    pytester.makefile(".yaml", check_bad="network: bad\n" + body + gate % "5, 9", other="network: [")
    result = pytester.runpytest_subprocess("-p", "lensnet.testing.plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)


class LocalNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LocalResponseNorm(5, alpha=0.05)
        self.conv = nn.Conv2d(3, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def test_registered_classes_become_one_component() -> None:
    """torch divides alpha by the size of the window; the component multiplies the sum by it."""
    torch.manual_seed(0)
    found = summary(LocalNorm(), (8, 3, 8, 8), seeds=8, most_seeds=16)
    assert found.imported is not None
    item = found.imported.draft.items[-1]
    assert (item.component, item.path) == ("local_response_norm", "norm")
    assert item.parameters == {"size": 5, "alpha": pytest.approx(0.01), "beta": 0.75, "offset": 1.0}
    assert not [row for row in found.rows if row.view == "local" and row.verdict == "deviates"]


def test_classes_are_matched_by_their_whole_name() -> None:
    assert component_of("torch.nn.modules.normalization.LocalResponseNorm") is not None
    assert component_of("torch.nn.modules.normalization.MyLocalResponseNorm") is None
    assert component_of("other.LocalResponseNorm") is None
    assert "LocalResponseNorm" in registered()


pytest_plugins = ["pytester"]
