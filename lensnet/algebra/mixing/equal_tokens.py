"""Self-attention on equicorrelated Gaussian tokens: exact second moments by one-dimensional integrals.

Tokens x_j = c + z_j of `channels` independent Gaussian channels: c is common to all tokens (its share of the second
moment is rho), the z_j are independent. The logits of one query are l_j = u . x_j with u = W_K^T q / sqrt(d_head)
independent of the tokens given |q|; the common part shifts them all and drops out. So, given |u|, the logits that
matter are independent Gaussians of variance v = |u|^2 q (1 - rho), and a token is its logit along u and independent of
the weights a = softmax(l) in the other channels - 1 directions. What remains are averages of the softmax of
independent logits (`softmax_moments`), averaged over |u|^2: a product of chi-squares of head_width, channels and
channels degrees of freedom. See docs/effects/attention.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.scatter import gamma_nodes
from lensnet.algebra.mixing.softmax_moments import SoftmaxMoments, softmax_moments

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TokenAttention:
    """One attention layer at fresh weights.

    `second_moment`: q of the tokens, field (E, T). `correlation`: uncentred correlation of two tokens, (E, 1).
    `logit_gain`: variance of a logit per unit variance of the tokens at every query, (E, T): (g_query^2 q +
    sigma_b^2) g_key^2. `slope`: g_query^2 g_key^2. `head_width`, `channels`: d_head and d.
    """

    second_moment: Array
    correlation: Array
    logit_gain: Array
    slope: float
    head_width: float
    channels: float
    causal: bool

    @property
    def count(self) -> Array:
        """How many tokens every query sees."""
        tokens = self.second_moment.shape[1]
        return np.arange(1.0, tokens + 1) if self.causal else np.full(tokens, float(tokens))

    @property
    def visible(self) -> Array:
        """Second moment of the tokens that a query sees, averaged over them: (E, T)."""
        q = self.second_moment
        return np.cumsum(q, axis=1) / self.count if self.causal else q.mean(axis=1, keepdims=True) + 0 * q

    def moments(self) -> tuple[SoftmaxMoments, Array, Array]:
        """Softmax moments, logit variance and its weights with the nodes of |u|^2 on axis 0: (nodes, E, T)."""
        factor, weight = gamma_nodes((1 + 2 / self.head_width) * (1 + 2 / self.channels) ** 2 - 1)
        own = self.logit_gain * self.visible * (1 - self.correlation)
        variance = factor[:, None, None] * np.maximum(own, 0.0)
        return softmax_moments(variance, self.count), variance, weight

    def mix(self) -> Array:
        """E |sum_j a_j x_j|^2 / channels at every query."""
        a, _, weight = self.moments()
        d, q, rho = self.channels, self.visible, self.correlation
        own = (1 - 1 / d) * a.square_sum + a.mean_logit / d
        return q * (rho + (1 - rho) * np.tensordot(weight, own, 1))

    def gradient(self, upstream: Array) -> Array:
        """Second moment of dL/dx over g_value^2 g_output^2 channels_out / channels; `upstream` is p, field (E, T).

        The gradients that arrive at different positions are taken as independent. With M = X^T J X, the softmax
        covariance of the tokens: the query path is |W_Q^T W_K M W_V^T g|^2, the key path |X^T J e_j|^2 |u|^2, the
        value path sum a^2; the paths meet in terms of relative order 1/channels, which are kept.
        """
        a, v, weight = self.moments()
        d, width, n = self.channels, self.head_width, self.count
        q = np.maximum(self.second_moment, 1e-300)
        spread = self.visible * (1 - self.correlation)
        share = self.slope * q / np.maximum(self.logit_gain, 1e-300)  # of W_Q x in the query; the rest is bias
        along = a.curvature + (d - 1) * a.slope  # |M u|^2 / (spread v)
        trace = along + (d - 1) * (a.slope + a.jacobian_trace + d * a.jacobian)  # tr M^2 / spread^2
        query = (1 - share / d) * self.slope * spread**2 * (along / (width * d) + (1 - 1 / width) * trace / d**2)
        query = query + share * spread * v / (q * d**2) * (share + 2 / n) * along
        query = query + 2 * share * spread * v / (q * d * n) * ((1 - 1 / d) * a.drift + a.skew / d)
        key = v / d * (a.slope + (d - 1) * a.jacobian)
        value = a.square_sum + 2 * v * a.drift / d
        own = np.tensordot(weight, query, 1) * upstream
        others = np.tensordot(weight, key + value, 1) * upstream / n
        if self.causal:
            return own + np.cumsum(others[:, ::-1], axis=1)[:, ::-1]
        return own + others.sum(axis=1, keepdims=True)
