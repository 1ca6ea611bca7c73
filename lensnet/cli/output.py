"""Where a report goes: the terminal, and the files that were asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from lensnet.cli.ending import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from lensnet.compare.report import Report

PLOTS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Output:
    """What to show and what to write. `-` as a file is standard output, which then holds nothing else."""

    view: Literal["local", "through", "both"] = "both"
    only_bad: bool = False
    all_rows: bool = False
    quiet: bool = False
    json: str | None = None
    markdown: str | None = None
    html: str | None = None
    plot: str | None = None

    def check(self) -> None:
        """Raise UsageError for a file that cannot be written: before the work, not after it."""
        files = {"--json": self.json, "--markdown": self.markdown, "--html": self.html, "--plot": self.plot}
        piped = [option for option, file in files.items() if file == "-"]
        if len(piped) > 1:
            raise UsageError(f"only one of {', '.join(piped)} can go to standard output")
        for option, file in files.items():
            if file in (None, "-"):
                continue
            path = Path(str(file))
            if path.is_dir():
                raise UsageError(f"{option} {file}: this is a folder")
            if not path.absolute().parent.is_dir():
                raise UsageError(f"{option} {file}: there is no folder {path.absolute().parent}")
        if self.plot is not None:
            if Path(self.plot).suffix.lower() not in PLOTS and self.plot != "-":
                raise UsageError(f"--plot {self.plot}: the name must end in {', '.join(PLOTS)}")
            if self.plot == "-":
                raise UsageError("--plot needs a file name, it cannot go to standard output")
            if find_spec("matplotlib") is None:
                raise UsageError("--plot needs matplotlib: pip install lensnet[plot]")

    def write(self, report: Report) -> int:
        """Show the report, write the files, and return the exit status.

        The status is that of the chosen view; files hold every row of it, `--only-bad` thins out what is shown.
        """
        report = report.seen(self.view)
        status = report.exit_status
        if not self.quiet and "-" not in (self.json, self.markdown, self.html):
            self._show(report.only_bad() if self.only_bad else report)
        if self.json is not None:
            from lensnet.report.json import to_json

            put(self.json, to_json(report))
        if self.markdown is not None:
            from lensnet.report.markdown import to_markdown

            put(self.markdown, to_markdown(report.only_bad() if self.only_bad else report))
        if self.html is not None:
            from lensnet.report.html import page

            put(self.html, page(report))
        if self.plot is not None:
            report.plot(self.plot)
        return status

    def _show(self, report: Report) -> None:
        from rich.console import Group

        from lensnet.report.terminal import render

        out = console()
        out.print(Group(*render(report, out.width, self.all_rows)))


def console(file: TextIO | None = None) -> Console:
    """A rich console that never interprets what comes from a file: no markup, no emoji, no highlighting."""
    from rich.console import Console

    return Console(file=file or sys.stdout, markup=False, emoji=False, highlight=False, soft_wrap=False)


def put(file: str, text: str) -> None:
    """Write a file; `-` is standard output."""
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from error
