"""The law of the singular values of a product of dense layers and slopes, at large width.

S-transforms multiply; with psi(z) = sum lambda z/(1 - lambda z) over the eigenvalues of J^T J, y = psi/n for
whichever n inputs or outputs are counted,

    z = y_0/(1 + y_0) prod_l S_W(y) S_D(y),    S_D = (1 + y)/y omega,    psi_D(omega) = y,
    S_W = 1/(w n (m/n + y)) Gaussian,  1/(w m) orthogonal, widening,  (1 + y)/(w n (m/n + y)) orthogonal, narrowing.

For slopes of any law omega has no closed form, and is found together with y_0 by Newton's method, z = 1/x followed from
large x, where y_0 is the mean over x, down the spectrum.

How many eigenvalues lie above x is -1/pi times the integral of Im y_0 over ln x, which has a closed form: nothing is
lost between the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.random_matrix.jacobian import Slopes, Stage

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_ABOVE_AXIS = 0.004
"""Imaginary part over real part, against the width of the law in ln x, where a density is read."""
_NEWTON, _SETTLED, _HALVINGS = 10, 1e-7, 7
_LEAST = -80.0
"""ln of the smallest eigenvalue, relative to the mean, that is looked for."""


@dataclass(frozen=True)
class Singular:
    """The law of the squared singular values of a product of stages at large width.

    Attributes:
        x: descending, `(N,)`; a single one for an isometry.
        above: share of the singular values above x, `(N,)`.
        density: their share per unit of ln x, `(N,)`.
        at_zero: share of them that is exactly zero.
    """

    x: Array
    above: Array
    density: Array
    at_zero: float

    def quantile(self, probability: float) -> float:
        """Of the singular values themselves (square roots)."""
        if probability <= self.at_zero:
            return 0.0
        rising = np.maximum.accumulate(self.above)
        return float(np.exp(np.interp(1 - probability, rising, np.log(self.x)) / 2))


def singular(products: Sequence[Sequence[Stage]]) -> list[Singular]:
    """The laws of the squared singular values of several products, each of at least one stage, in order from the input.

    Products that share stages, as those up to every layer of one network, are worked out together.
    """
    known = {i: law for i, stages in enumerate(products) if (law := _isometry(stages)) is not None}
    others = [stages for i, stages in enumerate(products) if i not in known]
    found = iter(_followed(others) if others else [])
    return [known[i] if i in known else next(found) for i in range(len(products))]


def _isometry(stages: Sequence[Stage]) -> Singular | None:
    if _relative_variance(stages) > _EXACT:
        return None
    return Singular(_Paths([stages]).mean, np.ones(1), np.array([np.inf]), 0.0)


def _followed(products: Sequence[Sequence[Stage]]) -> list[Singular]:
    paths = _Paths(products)
    inputs = np.array([float(stages[0].inputs) for stages in products])
    count = np.minimum(inputs, [float(stages[-1].outputs) for stages in products])
    rank = [min([stages[0].inputs, *(s.outputs * (1 - _shut(s.slopes)) for s in stages)]) for stages in products]
    opened = np.minimum(np.array(rank) / count, 1.0)
    grids, heights = zip(*(_grid(_relative_variance(stages)) for stages in products), strict=True)
    last = np.array([grid.size for grid in grids])
    t = np.stack([np.pad(grid, (0, last.max() - grid.size), constant_values=_LEAST) for grid in grids])
    density, above = np.zeros(t.shape), np.zeros(t.shape)
    raised, going = np.log(1 + 1j * np.array(heights)), np.arange(len(products))
    for place in range(last.max()):
        y, potential = paths.follow(going, t[going, place] + raised[going])
        density[going, place] = np.maximum(-y.imag / np.pi, 0.0) * inputs[going] / count[going]
        above[going, place] = potential.imag / np.pi * inputs[going] / count[going]
        done = (above[going, place] > opened[going] * (1 - _TAIL)) | (place + 1 == last[going])
        last[going[done]] = place + 1
        going = going[~done]
        if not going.size:
            break
    return [
        Singular(mean * np.exp(t[i, :end]), above[i, :end], density[i, :end], 1 - float(opened[i]))
        for i, (mean, end) in enumerate(zip(paths.mean, last, strict=True))
    ]


_EXACT = 1e-6
"""Relative variance below which all singular values are one."""
_TAIL = 0.01
"""Share of the singular values, the smallest, whose place is not looked for."""


def _shut(slopes: Slopes | None) -> float:
    return 0.0 if slopes is None else float(slopes.share @ (slopes.values == 0))


def _relative_variance(stages: Sequence[Stage]) -> float:
    """Of the squared singular values at large width, about."""
    own = [0.0 if s.slopes is None else s.slopes.moment(2) / s.slopes.moment(1) ** 2 - 1 for s in stages]
    ratios = [s.outputs / s.inputs for s in stages if s.weights == "gaussian" or s.outputs < s.inputs]
    return sum(own) + sum(min(ratio, 1 / ratio) for ratio in ratios)


def _grid(variance: float) -> tuple[Array, float]:
    """ln x relative to the mean, descending, fine where most of the law lies; and how far above the axis to look."""
    width = min(np.sqrt(np.log1p(variance)), 1.0)
    step, edge = 0.08 * width, 6 * np.sqrt(np.log1p(variance))
    parts = [np.arange(edge + 5, edge, -0.25), np.arange(edge, -edge, -step), np.arange(-edge, _LEAST, -0.35)]
    return np.concatenate(parts), _ABOVE_AXIS * width


class _Paths:
    """h = y_0/(1 + y_0) and the omegas of P products of L kinds of stages, each point of ln x from the one before."""

    def __init__(self, products: Sequence[Sequence[Stage]]) -> None:
        kinds: dict[tuple[object, ...], tuple[int, Stage]] = {}
        for stage in (stage for stages in products for stage in stages):
            kinds.setdefault(_kind(stage), (len(kinds), stage))
        stages = [stage for _, stage in kinds.values()]
        self.many = np.zeros((len(products), len(stages)))
        for row, product in zip(self.many, products, strict=True):
            for stage in product:
                row[kinds[_kind(stage)][0]] += 1
        laws = [stage.slopes or Slopes.of([1.0]) for stage in stages]
        most = max(law.values.size for law in laws)
        self.d = np.stack([np.pad(law.values, (0, most - law.values.size)) for law in laws])
        self.w = np.stack([np.pad(law.share, (0, most - law.share.size)) for law in laws])
        self.wd = self.w * self.d
        first = products[0][0].inputs
        self.before = first / np.array([float(stage.inputs) for stage in stages])
        self.behind = first / np.array([float(stage.outputs) for stage in stages])
        gaussian = np.array([stage.weights == "gaussian" for stage in stages])
        ratio = self.before / self.behind
        self.narrows = np.where(~gaussian & (ratio < 1), 1.0, 0.0)
        mixes = gaussian | (ratio < 1)
        self.mixes, self.ratio = np.where(mixes, 1.0, 0.0), np.where(mixes, ratio, 1.0)
        fans = [stage.inputs if mixed else stage.outputs for stage, mixed in zip(stages, mixes, strict=True)]
        self.log_scale = self.many @ np.log([stage.variance * fan for stage, fan in zip(stages, fans, strict=True)])
        self.p1 = self.wd.sum(axis=1)
        self.mean = np.exp(self.log_scale + self.many @ np.log(self.ratio * self.p1))
        self.started = False
        self.place = np.zeros(len(products), dtype=complex)
        self.h = np.zeros(len(products), dtype=complex)
        self.omega = np.zeros(self.many.shape, dtype=complex)

    def follow(self, at: NDArray[np.intp], log_x: Complex) -> tuple[Complex, Complex]:
        """y_0 of the products `at` (those of the call before, or fewer) at ln x relative to the means, and its integral
        over ln x from there to infinity, negative; `(len(at),)` each."""
        if not self.started:
            self.h[at] = np.exp(-log_x)
            self.omega = self.behind * self.h[:, None] / self.p1
            self.place[at], self.started = log_x, True
        self._move(at, self.place[at], log_x, _HALVINGS)
        self.place[at] = log_x
        return self.h[at] / (1 - self.h[at]), self._potential(at)

    def _potential(self, at: NDArray[np.intp]) -> Complex:
        """Phi with dPhi/d ln x = y_0: as ln x = -ln z, it is the integral of ln z over y_0, less y_0 ln z.

        In closed form, as that of ln omega is y ln omega + E ln(1 - d omega).
        """
        h, omega, many = self.h[at], self.omega[at], self.many[at]
        used = many > 0
        y = (h / (1 - h))[:, None]
        with np.errstate(all="ignore"):
            before, behind = self.before * y, self.behind * y
            logs = (self.w * np.log(1 - self.d * omega[..., None])).sum(axis=-1)
            layer = ((np.log(1 + behind) + logs) / self.behind
                     - self.mixes * (self.ratio * np.log(self.ratio + before) / self.before - y)
                     + self.narrows * (np.log(1 + before) / self.before - y))  # fmt: skip
        return np.asarray(-np.log(1 + y[:, 0]) + np.where(used, many * layer, 0).sum(axis=1))

    def _move(self, at: NDArray[np.intp], start: Complex, stop: Complex, halvings: int) -> None:
        """From one place to the next; in two halves where Newton's method leaves the half plane."""
        h, omega, good = self._solved(at, stop)
        self.h[at[good]], self.omega[at[good]] = h[good], omega[good]
        if good.all() or not halvings:
            return
        rest, start, stop = at[~good], start[~good], stop[~good]
        self._move(rest, start, (start + stop) / 2, halvings - 1)
        self._move(rest, (start + stop) / 2, stop, halvings - 1)

    def _solved(self, at: NDArray[np.intp], place: Complex) -> tuple[Complex, Complex, NDArray[np.bool_]]:
        """Where Newton's method ends from the last place, and whether it can be believed.

        In h = y/(1 + y), which for an isometry is z itself, and nearly so for narrow laws.
        """
        h, omega, many = self.h[at], self.omega[at], self.many[at]
        log_x = np.log(self.mean[at]) + place
        used = many > 0
        settled = np.zeros(at.size, dtype=bool)
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON):
                y, along_y = (h / (1 - h))[:, None], (1 / (1 - h) ** 2)[:, None]
                before, behind = 1 + self.before * y, 1 + self.behind * y
                target = (behind - 1) / behind
                by_h = self.behind * along_y / behind**2
                apart = 1 / (1 - self.d * omega[..., None])
                psi = (self.wd * apart).sum(axis=-1) * omega
                slope = (self.wd * apart**2).sum(axis=-1) / (1 + psi) ** 2
                missing = psi / (1 + psi) - target
                # ln z and its derivative by h, omega moved along so that psi(omega) = y behind each layer
                here = slope * omega
                spread = self.ratio - 1 + before
                layer = np.log(omega / target) - missing / here - self.mixes * np.log(spread)
                layer += self.narrows * np.log(before)
                log_z = np.log(h) - self.log_scale[at] + np.where(used, many * layer, 0).sum(axis=1)
                bent = self.before * along_y * (self.mixes / spread - self.narrows / before)
                bent = by_h * (1 / here - 1 / target) - bent
                along = 1 / h + np.where(used, many * bent, 0).sum(axis=1)
                off = log_z + log_x
                step = (off.real + 1j * ((off.imag + np.pi) % (2 * np.pi) - np.pi)) / along
                omega = np.where(used, omega - (missing + by_h * step[:, None]) / slope, omega)
                h = h - step
                close = np.where(used, np.abs(missing) < _SETTLED * np.abs(target), True).all(axis=1)
                settled = close & (np.abs(step) < _SETTLED * np.abs(h))
                if settled.all():
                    break
            inside = (h.imag <= 0) & np.where(used, omega.imag <= 0, True).all(axis=1)
        return h, omega, settled & inside


def _kind(stage: Stage) -> tuple[object, ...]:
    """Equal for stages that do the same."""
    law = stage.slopes
    slopes = () if law is None else (law.values.tobytes(), law.share.tobytes())
    return stage.inputs, stage.outputs, stage.variance, stage.weights, slopes


__all__ = ["Singular", "singular"]
