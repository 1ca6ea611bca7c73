"""From kernel states to rows of a report: second moment, correlation between examples, cosine between positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from lensnet.levels.covariance import Matrix
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field
from lensnet.predict.prediction import Check, Effect, Status
from lensnet.quantities import gram as of_gram
from lensnet.quantities.rows import RowSample

MOST_INVERSE_WIDTH = 0.1
Direction = Literal["forward", "backward"]
_ENOUGH = "layers are wide against their number"


def width_check(inverse_width: float) -> Check:
    """The kernel is the average over infinitely many neurons: of n, a layer strays by a few times 1/n."""
    text = f"{_ENOUGH} (sum of 1/width at most {MOST_INVERSE_WIDTH:g})"
    margin = 1.0 - inverse_width / MOST_INVERSE_WIDTH if inverse_width > 0 else 1.0
    return Check(text, max(margin, -1.0), Level.FLUCTUATION)


def gram_effects(
    path: str,
    direction: Direction,
    port: str | None,
    gram: Matrix | None,
    sample: RowSample,
    checks: Sequence[Check],
    error: float,
    apart: bool = True,
    between: float = 0.0,
    across: float = 0.0,
) -> Iterator[Effect]:
    """The numbers that both sides read off a Gram matrix of the sampled rows; none where the matrix is unknown.

    `apart`: it is known between different positions too. `between`, `across`: what the average cosine of two
    examples, of two positions may be off by, in cosines; `error` is relative.
    """
    asked = [("correlation", of_gram.correlation)] if sample.examples > 1 else []
    asked += [("position_cosine", of_gram.position_cosine)] if len(sample.places) > 1 else []
    for quantity, read in asked:
        if gram is None or (quantity == "position_cosine" and not apart):
            yield effect(path, quantity, direction, port, None, 0.0, (), 0.0)
        else:
            value = read(gram, sample)
            more = (between if quantity == "correlation" else across) / max(abs(value), 1e-9)
            yield effect(path, quantity, direction, port, np.array([value]), error + more, checks, 0.0)


def effect(
    path: str,
    quantity: str,
    direction: Direction,
    port: str | None,
    field: Field | None,
    error: float,
    checks: Sequence[Check],
    scatter: float,
) -> Effect:
    status: Status = "ok"
    if field is None:
        status = "not-modelled"
    elif any(check.margin is not None and not check.margin >= 0 for check in checks):
        status = "out-of-regime"
    return Effect(path, quantity, direction, port, field, error, tuple(checks), status, scatter, Level.KERNEL)


def scatters(effects: Sequence[Effect]) -> Mapping[tuple[str, str, str | None], float]:
    """The predicted scatter over draws of the second moments, from the moments level."""
    return {(e.component, e.direction, e.port): e.scatter for e in effects if e.quantity == "second_moment"}
