"""Predicted beside measured: numbers in, verdicts, budget, coverage and findings out."""

from lensnet.compare.comparison import Circumstances, compare, report_on
from lensnet.compare.ensemble import Ensemble
from lensnet.compare.report import Report, ReportError
from lensnet.compare.row import Assumption, Row
from lensnet.compare.settings import Settings

__all__ = [
    "Assumption",
    "Circumstances",
    "Ensemble",
    "Report",
    "ReportError",
    "Row",
    "Settings",
    "compare",
    "report_on",
]
