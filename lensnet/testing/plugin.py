"""pytest: `lensnet_check(model, ...)` as a fixture, and `check_*.yaml` files as tests.

Registered under the entry point `pytest11`; nothing of torch is imported before a check runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lensnet.importers.summary import Summary


class SignalError(AssertionError):
    """A check that failed; the message names the components."""


def check(
    model: Any,
    input_size: Any = None,
    *,
    input_data: Any = None,
    signal: tuple[float, float] | None = None,
    gradient: tuple[float, float] | None = None,
    at: str | None = None,
    deviating: float = 0.0,
    **options: Any,
) -> Summary:
    """Import a model, measure it, and assert.

    signal, gradient: bounds on the measured second moment at every component (or those whose name matches the pattern
    `at`, as `h.*.mlp`). deviating: the share of rows that may deviate from the prediction. Options as for
    `lensnet.summary`. Returns the summary. Raises SignalError (an AssertionError).
    """
    __tracebackhide__ = True  # the reader's own line is the one to show
    from lensnet.importers.summary import summary

    found = summary(model, input_size, input_data=input_data, **options)
    if found.report is None:
        raise SignalError(f"{found.name}: {found.reason}")
    problems = list(_outside(found, signal, "forward", at)) + list(_outside(found, gradient, "backward", at))
    rows = [row for row in found.rows if row.view == "local"]
    bad = [row for row in rows if row.verdict == "deviates"]
    if len(bad) > deviating * len(rows):
        problems += [f"{row.component} ({row.kind}) deviates from its prediction" for row in bad[:8]]
    if problems:
        raise SignalError(f"{found.name}: " + "; ".join(problems[:12]))
    return found


def _outside(found: Summary, bounds: tuple[float, float] | None, direction: str, at: str | None) -> Iterator[str]:
    from fnmatch import fnmatch

    if bounds is None:
        return
    seen = 0
    for row in found.rows:
        wanted = (row.view, row.quantity, row.direction) == ("through", "second_moment", direction)
        if not wanted or row.measured is None or (at is not None and not fnmatch(row.component, at)):
            continue
        seen += 1
        if not bounds[0] <= row.measured <= bounds[1]:
            what = "signal" if direction == "forward" else "gradient"
            yield f"{row.component}: second moment of the {what} {row.measured:.3g}, not in {list(bounds)}"
    if not seen:
        yield f"nothing was measured{f' at {at}' if at else ''}"


@pytest.fixture
def lensnet_check() -> Callable[..., Summary]:
    """`lensnet_check(model, (8, 3, 32, 32), signal=(0.5, 2))`: see `lensnet.testing.plugin.check`."""
    return check


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.Collector | None:
    """`check_*.yaml`: a network file whose gates (`expect:`) are a test."""
    if file_path.suffix == ".yaml" and file_path.name.startswith("check_"):
        return CheckFile.from_parent(parent, path=file_path)
    return None


class CheckFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield CheckItem.from_parent(self, name=self.path.stem)


class CheckItem(pytest.Item):
    """One network file: it must load, run, and hold its gates; rows may not deviate."""

    def runtest(self) -> None:
        from lensnet.api import load

        report = load(self.path).run(seeds=8)
        failures = [finding.text for finding in report.findings if finding.severity == "failure"]
        failures += [
            f"{row.component}: {row.quantity} {row.direction}: predicted {row.predicted}, measured {row.measured}"
            for row in report.rows
            if row.view == "local" and row.verdict == "deviates"
        ][:8]
        if failures:
            raise SignalError("; ".join(failures))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        from lensnet.language.source import SpecError

        if excinfo.errisinstance(SignalError):
            return f"{self.path.name}: {excinfo.value}"
        if excinfo.errisinstance(SpecError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"lensnet {self.name}"
