"""Special functions that a formula may call by name.

A formula sees `max_mean(k)`; the parser makes it a function known by name alone and the tape finds the name here. To
add one, write a numpy function of arrays (broadcasting, float64 in and out) under `@special(...)`; its docstring is
what users read about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.normal import log_ndtr, ndtr
from lensnet.expressions.arithmetic import exponential
from lensnet.expressions.functions import normal_density, normal_distribution
from lensnet.expressions.tree import HALF, PI, Expr

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SpecialFunction:
    """A named numeric function.

    `numpy` takes `arity` arrays. `latex` is a template with `{0}`, `{1}`, ... for the arguments. `derivatives[i]` gives
    the derivative by argument i as an expression in the arguments; a name without it cannot be differentiated.
    """

    name: str
    arity: int
    about: str
    latex: str
    numpy: Callable[..., Any] = field(repr=False)
    derivatives: tuple[Callable[..., Expr], ...] = field(default=(), repr=False)


SPECIAL_FUNCTIONS: dict[str, SpecialFunction] = {}
"""Every special function by name. Filled by `@special`; do not write to it elsewhere."""


def special(
    name: str, arity: int, latex: str, derivatives: tuple[Callable[..., Expr], ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated numpy function under `name`.

    Raises:
        ValueError: the name is taken, or the function has no docstring.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in SPECIAL_FUNCTIONS:
            raise ValueError(f"special function {name} is registered twice")
        about = (function.__doc__ or "").strip()
        if not about:
            raise ValueError(f"special function {name} needs a docstring")
        SPECIAL_FUNCTIONS[name] = SpecialFunction(name, arity, about, latex, function, derivatives)
        return function

    return register


@special("normal_cdf", 1, r"\Phi\left({0}\right)", (normal_density,))
def normal_cdf(x: Array) -> Array:
    """Probability that a standard normal variable is below x."""
    return ndtr(x)


@special("normal_pdf", 1, r"\varphi\left({0}\right)", (lambda x: -x * normal_density(x),))
def normal_pdf(x: Array) -> Array:
    """Density of a standard normal variable at x."""
    return np.exp(-np.square(x) / 2.0) / math.sqrt(2.0 * math.pi)


@special(
    "owens_t",
    2,
    r"T\left({0}, {1}\right)",
    (
        lambda h, a: -normal_density(h) * (normal_distribution(a * h) - HALF),
        lambda h, a: exponential(-(h**2) * (1 + a**2) / 2) / (2 * PI * (1 + a**2)),
    ),
)
def owens_t(h: Array, a: Array) -> Array:
    """Owen's T: probability that X > h and 0 < Y < a*X for independent standard normal X and Y."""
    from scipy import special as scipy_special

    return np.asarray(scipy_special.owens_t(h, a))


@special("max_mean", 1, r"\mathbb{{E}}\max_{{{0}}} z")
def max_mean(k: Array) -> Array:
    """Mean of the largest of k independent standard normal values; k >= 1, real values interpolate."""
    return _by_count(k, 0)


@special("max_variance", 1, r"\mathrm{{Var}}\max_{{{0}}} z")
def max_variance(k: Array) -> Array:
    """Variance of the largest of k independent standard normal values; k >= 1, real values interpolate."""
    return _by_count(k, 1)


def _by_count(k: Array, which: int) -> Array:
    counts, inverse = np.unique(np.asarray(k, dtype=np.float64), return_inverse=True)
    values = np.array([_max_statistics(float(count))[which] for count in counts])
    return values[inverse].reshape(np.shape(k))


@lru_cache(maxsize=4096)
def _max_statistics(k: float) -> tuple[float, float]:
    """Mean and variance of the maximum of k, from its density k * pdf * cdf**(k-1); k up to about 1e300."""
    if not k >= 1.0 or math.isinf(k):
        return math.nan, math.nan
    # 0.25-wide panels: at k = 1e12 the density is a peak of width 0.15, which 24 nodes still resolve
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.arange(-14.0, 40.0, 0.25)
    x = (edges[:-1, None] + 0.125 * (nodes + 1.0)).ravel()
    w = np.tile(0.125 * weights, len(edges) - 1)
    log_density = math.log(k) - x * x / 2.0 - 0.5 * math.log(2.0 * math.pi) + (k - 1.0) * log_ndtr(x)
    density = w * np.exp(log_density)
    mean = float(density @ x)
    return mean, float(density @ np.square(x - mean))
