"""The result of a run: rows, budget, coverage and findings, with their displays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lensnet.compare.budget import BudgetRow, Cell
from lensnet.compare.coverage import Coverage, count_verdicts
from lensnet.compare.findings import Finding, worst_row
from lensnet.compare.row import Assumption, Row
from lensnet.compare.settings import Settings

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA = 1
BAD = ("deviates", "undecided", "out-of-regime")
Kind = Literal["comparison", "prediction", "measurement"]


class ReportError(ValueError):
    """A saved report cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class Report:
    """Predicted beside measured for every component of a network.

    `kind`: `prediction` and `measurement` hold one side only and give no verdicts. `exit_status`: 0 all agree, 1 some
    deviate or a gate fails, 4 undecided or out of regime.
    """

    network: str
    about: str = ""
    kind: Kind = "comparison"
    device: str = ""
    dtype: str = ""
    batch: int = 0
    seeds: int = 0
    levels: tuple[str, ...] = ("moments",)
    rows: tuple[Row, ...] = ()
    budget: tuple[BudgetRow, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    findings: tuple[Finding, ...] = ()
    settings: Settings = field(default_factory=Settings)

    @property
    def exit_status(self) -> int:
        verdicts = {row.verdict for row in self.rows} if self.kind == "comparison" else set()
        severities = {finding.severity for finding in self.findings}
        if "deviates" in verdicts or "failure" in severities:
            return 1
        if verdicts & {"undecided", "out-of-regime"} or "doubt" in severities:
            return 4
        return 4 if verdicts and verdicts <= {"not-modelled"} else 0

    @property
    def worst(self) -> Row | None:
        """The row that violates its tolerance the most; None in a report without verdicts."""
        return worst_row(self.rows) if self.kind == "comparison" else None

    @property
    def seeds_wanted(self) -> int | None:
        """About how many seeds would decide every undecided row; None when nothing is undecided."""
        return max((row.seeds_wanted for row in self.rows if row.seeds_wanted is not None), default=None)

    def seeds_within(self, most: int) -> int | None:
        """How many seeds would decide what can be decided with at most `most`; None when more seeds decide nothing."""
        wanted = [row.seeds_wanted for row in self.rows if row.seeds_wanted is not None]
        return max((count for count in wanted if self.seeds < count <= most), default=None)

    def only_bad(self) -> Report:
        """Only the rows that do not agree (deviating, undecided, out of regime); coverage and budget stay whole."""
        return replace(self, rows=tuple(row for row in self.rows if row.verdict in BAD))

    def seen(self, view: Literal["local", "through", "both"]) -> Report:
        """Only the rows of one view; verdicts are counted anew."""
        if view == "both":
            return self
        rows = tuple(row for row in self.rows if row.view == view)
        return replace(self, rows=rows, coverage=replace(self.coverage, verdicts=count_verdicts(rows)))

    def where(self, keep: Callable[[Row], bool]) -> Report:
        """Only the rows for which `keep` is true."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def to_dict(self) -> dict[str, Any]:
        """The report as strict JSON data; non-finite numbers become the strings "nan", "inf" and "-inf"."""
        data = {
            "schema": SCHEMA,
            "network": self.network,
            "about": self.about,
            "kind": self.kind,
            "device": self.device,
            "dtype": self.dtype,
            "batch": self.batch,
            "seeds": self.seeds,
            "levels": list(self.levels),
            "settings": {item.name: getattr(self.settings, item.name) for item in fields(self.settings)},
            "exit_status": self.exit_status,
            "coverage": self.coverage.to_dict(),
            "rows": [_row_to_dict(row) for row in self.rows],
            "budget": [row.to_dict() for row in self.budget],
            "findings": [finding.to_dict() for finding in self.findings],
        }
        return {name: strict(value) for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read what `to_dict` wrote. Raises ReportError when it is something else or a newer schema."""
        if not isinstance(data, Mapping) or "schema" not in data or "rows" not in data:
            raise ReportError("this is not a lensnet report: it has no `schema` or no `rows`")
        if data["schema"] != SCHEMA:
            raise ReportError(f"this report has schema {data['schema']}; this version of lensnet reads schema {SCHEMA}")
        try:
            return _from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReportError(f"this report is damaged: {type(error).__name__}: {error}") from error

    def to_pandas(self) -> pandas.DataFrame:
        """One line per row, assumptions as their texts. Needs pandas (`pip install lensnet[tables]`)."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install lensnet[tables]") from error
        names = [item.name for item in fields(Row)]
        records = [{name: getattr(row, name) for name in names} for row in self.rows]
        for record, row in zip(records, self.rows, strict=True):
            record["assumptions"] = "; ".join(a.text for a in row.assumptions)
        return pandas.DataFrame.from_records(records, columns=names)

    def plot(self, file: str | Path | None = None) -> Figure:
        """The beam, the budget and the verdicts as a matplotlib figure, also written to `file` (png, svg, pdf)."""
        from lensnet.report.plot import plot

        return plot(self, file)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from lensnet.report.terminal import render

        yield from render(self, options.max_width)

    def __str__(self) -> str:
        from lensnet.report.terminal import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<Report {self.network}: {len(self.rows)} rows, {self.seeds} seeds, exit status {self.exit_status}>"

    def _repr_html_(self) -> str:
        from lensnet.report.html import fragment

        return fragment(self)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def strict(value: Any) -> Any:
    """Plain JSON data without NaN or Infinity."""
    if isinstance(value, float) and not isfinite(value):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(name): strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def _row_to_dict(row: Row) -> dict[str, Any]:
    return {
        "component": row.component,
        "kind": row.kind,
        "quantity": row.quantity,
        "direction": row.direction,
        "port": row.port,
        "level": row.level,
        "view": row.view,
        "predicted": row.predicted,
        "measured": row.measured,
        "standard_error": row.standard_error,
        "median": row.median,
        "tolerance": row.tolerance,
        "error": row.error,
        "slack": row.slack,
        "assumptions": [{"text": a.text, "margin": a.margin, "below": a.below} for a in row.assumptions],
        "verdict": row.verdict,
        "functional": row.functional,
        "per_seed": list(row.per_seed),
        "seeds_wanted": row.seeds_wanted,
        "declared": row.declared,
        "band": None if row.band is None else list(row.band),
    }


_NUMBERS = ("predicted", "measured", "standard_error", "median", "tolerance", "error", "slack")


def _from_dict(data: Mapping[str, Any]) -> Report:
    rows = []
    for entry in data["rows"]:
        known = {item.name: entry[item.name] for item in fields(Row) if item.name in entry}
        known |= {name: _number(entry[name]) for name in _NUMBERS}
        known["assumptions"] = tuple(
            Assumption(a["text"], _number(a["margin"]), a.get("below")) for a in entry["assumptions"]
        )
        known["declared"] = _number(entry.get("declared", 0.0)) or 0.0
        known["per_seed"] = tuple(float(value) for value in entry.get("per_seed", ()))
        low_high = entry.get("band")
        known["band"] = None if low_high is None else (float(low_high[0]), float(low_high[1]))
        rows.append(Row(**known))
    covered = data["coverage"]
    measured_only, failed = tuple(covered["measured_only"]), tuple(covered["failed"])
    others = dict.fromkeys(row.component for row in rows)
    predicted = tuple(path for path in others if path not in measured_only and path not in failed)
    settings = data.get("settings", {})
    known_settings = {item.name: float(settings[item.name]) for item in fields(Settings) if item.name in settings}
    return Report(
        network=str(data["network"]),
        about=str(data.get("about", "")),
        kind=data.get("kind", "comparison"),
        device=str(data["device"]),
        dtype=str(data.get("dtype", "")),
        batch=int(data.get("batch", 0)),
        seeds=int(data["seeds"]),
        levels=tuple(data["levels"]),
        rows=tuple(rows),
        budget=tuple(_budget_row(entry) for entry in data["budget"]),
        coverage=Coverage(predicted, measured_only, failed, covered.get("verdicts", {})),
        findings=tuple(_finding(entry) for entry in data["findings"]),
        settings=Settings(**known_settings),
    )


def _finding(entry: Mapping[str, Any]) -> Finding:
    numbers = {name: float(value) for name, value in entry.get("numbers", {}).items()}
    return Finding(entry["kind"], entry["severity"], entry["text"], entry.get("component"), numbers)


def _budget_row(entry: Mapping[str, Any]) -> BudgetRow:
    cells = {
        name: Cell(*(_number(cell[part]) for part in ("predicted", "measured", "standard_error")))
        for name, cell in entry.items()
        if isinstance(cell, Mapping)
    }
    return BudgetRow(entry["component"], entry["kind"], entry["chain"], cells)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
