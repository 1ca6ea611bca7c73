"""Gaussian averages of a pointwise function by Gauss-Legendre panels, with n and 2n nodes per panel.

Panels end at the kinks, wherever the function needs it (`mesh.py`), and every three standard deviations. In
standardised coordinates z = (x - mean)/std they cover [-12, 12]; where the function grows so fast that the ends still
matter (x**40, exp(x**2/9)), [-39, 39], beyond which the Gaussian density is no number. The value is that of 2n nodes;
the error is its difference from n nodes, plus rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mesh import NODES, Mesh
from lensnet.algebra.pointwise import PointwiseFunction

Array = NDArray[np.float64]

INTEGRANDS = 5
"""f, f**2, f', f'**2, x*f"""
REACH = 12.0
_WIDE, _STEP = 39.0, 3.0
_CHUNK = 20_000  # panels at a time: the node arrays stay within a few tens of megabytes
_ROUNDING = 4 * np.finfo(float).eps


def mesh_of(function: PointwiseFunction) -> Mesh:
    """The function's panels, kept with it."""
    if "mesh" not in function.tables:
        function.tables["mesh"] = Mesh(lambda x: np.stack([function(x), function.derivative(x)]), function.kinks.points)
    mesh: Mesh = function.tables["mesh"]
    return mesh


def integrate(function: PointwiseFunction, mean: Array, std: Array) -> tuple[Array, Array]:
    """Averages of f, f**2, f', f'**2, x*f over x ~ N(mean, std**2), and their error estimates.

    Args:
        mean, std: 1-d arrays of equal length; std > 0.

    Returns:
        Two arrays of shape (5, len(mean)).
    """
    with np.errstate(all="ignore"):
        value, error, heavy = _integrate(function, mean, std, REACH)
        if heavy.any():
            value[:, heavy], error[:, heavy], _ = _integrate(function, mean[heavy], std[heavy], _WIDE)
    return value, error


def integrate_coarsely(function: PointwiseFunction, mean: Array, std: Array) -> Array:
    """The averages by the rule of n nodes alone: a third of the work, for tables that check themselves."""
    result = np.zeros((INTEGRANDS, mean.size))
    with np.errstate(all="ignore"):
        for owner, low, high in _panels(function, mean, std, REACH):
            terms, _ = _weighted(function, mean[owner], std[owner], low, high, *_rule(NODES))
            for total, values in zip(result, terms.sum(axis=-1), strict=True):
                total += np.bincount(owner, weights=values, minlength=total.size)
    return result


def _integrate(
    function: PointwiseFunction, mean: Array, std: Array, reach: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """One pass with a given reach; also tells for which pairs the ends of the reach matter."""
    # rows: coarse rule, fine rule, sizes for rounding, absolute values in the outermost unit of z, in unresolved panels
    sums = np.zeros((5, INTEGRANDS, mean.size))
    mesh = mesh_of(function)
    for owner, low, high in _panels(function, mean, std, reach):
        parts = _panel_sums(function, mean[owner], std[owner], low, high, reach)
        wild = parts[2] * mesh.unresolved(mean[owner] + std[owner] * 0.5 * (low + high))
        for row, terms in zip(sums, (*parts, wild), strict=True):
            for total, values in zip(row, terms, strict=True):
                total += np.bincount(owner, weights=values, minlength=total.size)
    coarse, fine, size, tail, wild = sums
    # where even tiny panels do not resolve the function (a pole) nothing is known but its size
    error = np.abs(fine - coarse) + _ROUNDING * size + wild
    heavy = np.any(~(tail <= 1e-18 * size), axis=0)
    if reach == _WIDE:
        # what the last panels hold bounds what is missing beyond them
        error = np.where(tail > 1e-18 * size, error + tail, error)
    error[~np.isfinite(error) | ~np.isfinite(fine)] = np.inf
    return fine, error, heavy


def _panels(
    function: PointwiseFunction, mean: Array, std: Array, reach: float
) -> list[tuple[NDArray[np.intp], Array, Array]]:
    """Panels in z of all (mean, std) pairs, flat: the pair each belongs to, and its two ends; in chunks."""
    ends = mesh_of(function).ends(float(np.min(mean - reach * std)), float(np.max(mean + reach * std)))
    grid = np.arange(-reach, reach + _STEP / 2, _STEP)
    step = max(1, _CHUNK // (ends.size + grid.size))
    chunks = []
    for start in range(0, mean.size, step):
        m, s = mean[start : start + step, None], std[start : start + step, None]
        z = np.clip((ends - m) / s, -reach, reach)
        z = np.sort(np.concatenate([z, np.broadcast_to(grid, (m.size, grid.size))], axis=1), axis=1)
        owner, place = np.nonzero(z[:, 1:] > z[:, :-1])
        chunks.append((owner + start, z[owner, place], z[owner, place + 1]))
    return chunks


def _panel_sums(
    function: PointwiseFunction, mean: Array, std: Array, low: Array, high: Array, reach: float
) -> tuple[Array, Array, Array, Array]:
    """Sums of the weighted integrands over each panel, each of shape (5, panels): see `_integrate`."""
    terms, z = _weighted(function, mean, std, low, high, *_both_rules())
    coarse, fine = terms[..., :NODES].sum(axis=-1), terms[..., NODES:].sum(axis=-1)
    sizes, z = np.abs(terms[..., NODES:]), z[:, NODES:]
    # rounding of z and of exp(-z*z/2) grows with z*z
    return coarse, fine, (sizes * (1.0 + z * z)).sum(axis=-1), (sizes * (np.abs(z) > reach - 1.0)).sum(axis=-1)


def _weighted(
    function: PointwiseFunction, mean: Array, std: Array, low: Array, high: Array, nodes: Array, weights: Array
) -> tuple[Array, Array]:
    """The integrands at the nodes of each panel times weight and density, shape (5, panels, nodes); and z there."""
    half = 0.5 * (high - low)[:, None]
    z = 0.5 * (high + low)[:, None] + half * nodes
    x = mean[:, None] + std[:, None] * z
    weight = half * weights * np.exp(-0.5 * z * z)
    value, slope = function(x), function.derivative(x)
    terms = np.empty((INTEGRANDS, *x.shape))
    np.multiply(weight, value, out=terms[0])
    np.multiply(terms[0], value, out=terms[1])
    np.multiply(weight, slope, out=terms[2])
    np.multiply(terms[2], slope, out=terms[3])
    np.multiply(terms[0], x, out=terms[4])
    if not np.all(weight):
        # a density of 0 times an infinite value is 0; where that hides something, the tail beside it shows
        terms[:, weight == 0.0] = 0.0
    return terms, z


@lru_cache(maxsize=1)
def _both_rules() -> tuple[Array, Array]:
    """The rule with n nodes followed by the one with 2n."""
    nodes, weights = (np.concatenate(parts) for parts in zip(_rule(NODES), _rule(2 * NODES), strict=True))
    return nodes, weights


@lru_cache(maxsize=2)
def _rule(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes on [-1, 1], and weights over sqrt(2*pi)."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights / np.sqrt(2.0 * np.pi)


def gaussian_nodes(function: PointwiseFunction, mean: float, std: float) -> tuple[Array, Array]:
    """Nodes z and weights of one fine rule: sum(weights * g(mean + std*z)) is E g(x), x ~ N(mean, std**2).

    For any g that is as smooth as `function`, its powers and its slopes between the panels of `function`: one set of
    nodes for many averages of the same function. Arrays of one dimension; std > 0.
    """
    nodes, weights = _rule(2 * NODES)
    parts = [
        (0.5 * (high + low)[:, None] + 0.5 * (high - low)[:, None] * nodes, 0.5 * (high - low)[:, None] * weights)
        for _, low, high in _panels(function, np.array([mean]), np.array([std]), REACH)
    ]
    z = np.concatenate([z.ravel() for z, _ in parts])
    return z, np.concatenate([weight.ravel() for _, weight in parts]) * np.exp(-0.5 * z * z)
