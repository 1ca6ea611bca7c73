"""Second-moment maps of a centred signal as tables: millions of variances at once.

    moments = moment_map(tanh)
    moments.second_moment(q)     # E f(x)**2, x ~ N(0, q)
    moments.mean_square_slope(q)   # E f'(x)**2

`expect` integrates or interpolates afresh for each field and gives five averages with an error for every pair; a phase
diagram asks for two of them at a million variances, several times over. Here a quintic spline of log E f**2 in log q,
made once, answers in a tenth of the time. Its error is measured between the knots and stated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quintic import DEGREE, Quintic

Array = NDArray[np.float64]

LOW, HIGH = 1e-10, 1e8
_PER_E_FOLD = 16


class MomentMap:
    """E f**2 and E f'**2 of x ~ N(0, q) over q, interpolated on [LOW, HIGH] and integrated outside.

    Attributes:
        function: f.
        error: largest relative error seen half-way between knots, of either average, plus that of the integrals.
    """

    def __init__(self, function: PointwiseFunction) -> None:
        self.function = function
        count = int(np.ceil(_PER_E_FOLD * np.log(HIGH / LOW))) + 1
        knots = np.linspace(np.log(LOW), np.log(HIGH), count)
        middle = 0.5 * (knots[1:] + knots[:-1])
        moments = expect(function, 0.0, np.exp(0.5 * np.sort(np.concatenate([knots, middle]))))
        self._splines: list[Quintic | None] = []
        self._limits: list[float] = []
        error = 0.0
        for average in (moments.second_moment, moments.slope_second_moment):
            values, wrong = average.value, average.error
            known = np.isfinite(values) & (values > 0)
            if not known[::2].all():
                # overflow at a large variance ends the table; a function that is 0, or flat, has none
                stop = 0 if not known[0] else int(np.argmin(known)) // 2
            else:
                stop = count
            if stop <= 2 * DEGREE:
                self._splines.append(None)
                self._limits.append(0.0)
                continue
            spline = Quintic(knots[:stop], np.log(values[::2][:stop]))
            between = slice(1, 2 * stop - 2, 2)
            off = np.abs(np.expm1(spline(middle[: stop - 1]) - np.log(values[between])))
            error = max(error, 2.0 * float(off.max()) + float(np.max(wrong[between] / values[between])))
            self._splines.append(spline)
            self._limits.append(float(np.exp(knots[stop - 1])))
        self.error = error

    def second_moment(self, q: ArrayLike) -> Array:
        """E f(x)**2 of x ~ N(0, q), elementwise; nan for negative q."""
        return self._of(0, q)

    def mean_square_slope(self, q: ArrayLike) -> Array:
        """E f'(x)**2 of x ~ N(0, q), slopes almost everywhere."""
        return self._of(1, q)

    def second_moment_and_rate(self, q: ArrayLike) -> tuple[Array, Array]:
        """E f**2 and its derivative by q: what Newton's method on a fixed point needs."""
        values = np.asarray(q, dtype=np.float64)
        moment = self._of(0, values)
        spline = self._splines[0]
        with np.errstate(all="ignore"):
            inside = np.clip(np.log(values), np.log(LOW), np.log(max(self._limits[0], LOW)))
            rate = np.zeros_like(values) if spline is None else spline.slope(inside) * moment / values
        return moment, rate

    def _of(self, which: int, q: ArrayLike) -> Array:
        values = np.asarray(q, dtype=np.float64)
        spline = self._splines[which]
        with np.errstate(all="ignore"):
            inside = (values >= LOW) & (values <= self._limits[which]) if spline is not None else np.zeros(1, bool)
            if spline is not None and inside.all():
                return np.asarray(np.exp(spline(np.log(values))))
            result = np.full(values.shape, np.nan)
            if spline is not None:
                result[inside] = np.exp(spline(np.log(values[inside])))
            outside = np.broadcast_to(~inside, values.shape) & (values >= 0)
            if outside.any():
                moments = expect(self.function, 0.0, np.sqrt(values[outside]))
                result[outside] = (moments.second_moment, moments.slope_second_moment)[which].value
        return result


def moment_map(function: PointwiseFunction) -> MomentMap:
    """The function's map; made once, kept with it."""
    if "moment map" not in function.tables:
        function.tables["moment map"] = MomentMap(function)
    found: MomentMap = function.tables["moment map"]
    return found
