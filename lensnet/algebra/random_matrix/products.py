"""Products of Gaussian matrices: moments of their singular values, exact at finite width."""

from __future__ import annotations

from collections.abc import Sequence


def gaussian_product_moments(widths: Sequence[int], samples: int, variances: Sequence[float]) -> tuple[float, float]:
    """(E tr M^2, E (tr M)^2) of M = Y Y^T, Y = W_L ... W_1, exact at finite width.

    Args:
        widths: outputs m_1 ... m_L of the layers.
        samples: inputs of the first layer, an orthonormal set.
        variances: of the weights of each layer.
    """
    u, v = float(samples), float(samples) ** 2
    for m, variance in zip(widths, variances, strict=True):
        u, v = variance**2 * (m * (m + 1) * u + m * v), variance**2 * (2 * m * u + m**2 * v)
    return u, v


def product_participation_ratio(width: int, depth: int) -> float:
    """E (tr M)^2 / E tr M^2 of a product of `depth` square Gaussian matrices: a ratio of means, exact.

    The mean of the ratio is larger (by 20 % at width 10, depth 5); at large width both tend to width/(depth + 1).
    """
    up, down = (width + 2) * (1 + 2 / width) ** depth, (width - 1) * (1 - 1 / width) ** depth
    return (up + 2 * down) / (up - down)
