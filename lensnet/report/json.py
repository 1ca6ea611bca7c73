"""The report as strict JSON: no NaN, no Infinity, so that any reader of JSON reads it."""

from __future__ import annotations

import json
from pathlib import Path

from lensnet.compare.report import Report, ReportError

MOST_BYTES = 200_000_000


def to_json(report: Report) -> str:
    return json.dumps(report.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(file: str | Path) -> Report:
    """A report that was saved with `--json`. Raises ReportError when the file is missing or is something else."""
    path = Path(file)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ReportError(f"{path} is larger than any report ({path.stat().st_size:,} bytes)")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    try:
        return Report.from_dict(data)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error
