"""The page docs/ladder.md: python -m tests.ladder --write docs/ladder.md"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lensnet.catalog.catalog import catalog
from lensnet.ladder.check import LadderReport, check_ladder
from lensnet.ladder.shown import markdown
from lensnet.report.progress import StepBar

HEAD = """\
# The ladder, checked

Written by `make ladder`; `lensnet ladder COMPONENT` shows one component in full. Each level follows from the one below
by a limit:

- **kernel → moments**: the two samples coincide, and their covariance becomes the second moment. *proven* means that
  the two formulas are equal symbolically, *verified* that their values agree (at every width, for wide layers, or
  within the error that a formula declares).
- **spectrum → kernel**: infinitely many neurons for every sample. The predicted ranks and coding rates at 1, 4 and 16
  times the width must tend to those of the covariance.
- **fluctuation → spectrum**: infinitely many neurons, and the scatter over weight draws vanishes as 1/sqrt(width).

The last three columns are measured. *rate of q*, *rate of p*: the exponent at which the relative variance of the second
moment (signal, gradient) over weight draws falls with the width, fitted over four widths, with two standard errors; -1
is required (`none`: nothing scatters). *error left*: the average error of the moments' formula at infinite width, from
a fit of b + a/width, with one standard error; it must be zero, or within what the formula declares. A component whose
output does not widen with the layer (scores of classes) has no rate; one that averages over something else than its
channels (`derives_from`) is tested against that.

"""


def page(report: LadderReport) -> str:
    bad = [rung.component for rung in report.rungs if not rung.holds]
    fails = f"\n## What fails\n\n{', '.join(f'`{name}`' for name in bad)}\n" if bad else ""
    return HEAD + f"{report.draws} weight draws at each width.\n\n" + markdown(report) + fails


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ladder", description=__doc__)
    parser.add_argument("components", nargs="*", help="only these components (default: the whole catalogue)")
    parser.add_argument("--write", type=Path, help="write the page to this file instead of the terminal")
    parser.add_argument("--draws", type=int, default=64)
    given = parser.parse_args(arguments)
    with StepBar("ladder", len(given.components or catalog())) as bar:
        text = page(check_ladder(given.components, given.draws, advance=bar.begin))
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
