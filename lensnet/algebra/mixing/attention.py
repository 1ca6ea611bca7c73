"""Attention for formulas: the special functions that a component file calls by name.

Fields are (E, T). `gram` is a number (uncentred correlation of equicorrelated Gaussian tokens), one number per
example (E,), or the Gram matrices of the tokens (E, T, T); `gradient_gram` likewise for the gradient that arrives at
the output.
Numbers are answered by exact one-dimensional integrals (`equal_tokens`), matrices by sampled logits
(`token_gram`).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.mixing.equal_tokens import TokenAttention
from lensnet.algebra.mixing.token_gram import LogitSample, logit_sample
from lensnet.algebra.special import special

Array = NDArray[np.float64]

# Queries sampled per call, and multiplications that a call may cost where that leaves a sample per example. What holds
# on average over draws is asked for once; what holds for one draw again and again, and averaging smooths it.
_ROWS = {True: 2**15, False: 2**12}
_WORK = {True: 1e9, False: 1e8}


@special(
    "attention_mix",
    8,
    r"\mathbb{{E}}\left[a^\top G a\right]",
)
def attention_mix(
    q: Array, gram: Array, logit_gain: Array, slope: Array, width: Array, channels: Array, causal: Array, drawn: Array
) -> Array:
    """Second moment of the weighted mean of tokens that a query gathers, per position, with a = softmax of the logits.

    logit_gain: variance of a logit per unit variance of the tokens, (g_query^2 q + bias variance) g_key^2;
    slope: g_query^2 g_key^2; width: d_head; drawn: 1 when gram is an average over weight draws, 0 when of one draw.
    """
    call = _Call.of(q, gram, logit_gain, slope, width, channels, causal, drawn)
    if call.correlation is not None:
        return call.tokens(call.correlation).mix()
    return np.stack([blank if sample is None else sample.mix() for sample, blank in call.samples()])


@special(
    "attention_gradient",
    10,
    r"\mathbb{{E}}\left[\lVert V\rVert^2+\lVert Q\rVert^2+\lVert K\rVert^2+\dots\right]",
)
def attention_gradient(
    p: Array,
    q: Array,
    gram: Array,
    gradient_gram: Array,
    logit_gain: Array,
    slope: Array,
    width: Array,
    channels: Array,
    causal: Array,
    drawn: Array,
) -> Array:
    """Second moment of dL/dx of attention per position, over g_value^2 g_output^2 channels_out/channels.

    The sum of what comes through the values, queries and keys and of the terms in which these paths meet. Arguments as
    for attention_mix; p: second moment of the gradient at the output, gradient_gram: its Gram matrix or correlation.
    """
    call = _Call.of(q, gram, logit_gain, slope, width, channels, causal, drawn)
    upstream = np.broadcast_to(p, np.broadcast_shapes(np.shape(p), call.q.shape))
    correlation = np.asarray(gradient_gram, float)
    if call.correlation is not None and correlation.ndim < 3 and not correlation.any():
        return call.over(len(upstream)).tokens(call.correlation).gradient(upstream)
    grams = _scaled(correlation, upstream)
    call = call.over(len(upstream))
    pairs = zip(call.samples(), grams, strict=True)
    return np.stack([blank if sample is None else sample.gradient(gram) for (sample, blank), gram in pairs])


@dataclass(frozen=True)
class _Call:
    """Arguments of a call, with fields of one shape (E, T)."""

    q: Array
    gram: Array
    logit_gain: Array
    slope: float
    width: int
    channels: int
    causal: bool
    drawn: bool

    @classmethod
    def of(cls, q: Array, gram: Array, logit_gain: Array, *numbers: ArrayLike) -> _Call:
        slope, width, channels, causal, drawn = (float(np.max(number)) for number in numbers)
        gram = np.asarray(gram, float)
        examples = len(gram) if gram.ndim else 1
        q = np.atleast_2d(np.asarray(q, float))
        shape = np.broadcast_shapes(q.shape, (examples, 1), np.shape(logit_gain))
        field = np.broadcast_to(q, shape), gram, np.broadcast_to(logit_gain, shape)
        return cls(*field, slope, round(width), round(channels), bool(causal), bool(drawn))

    def over(self, examples: int) -> _Call:
        """The same for `examples` examples where all were alike."""
        if len(self.q) == examples:
            return self
        q, gain = (np.broadcast_to(x, (examples, x.shape[1])) for x in (self.q, self.logit_gain))
        return _Call(q, self.gram, gain, self.slope, self.width, self.channels, self.causal, self.drawn)

    @property
    def correlation(self) -> Array | None:
        """The tokens' common correlation, None when the Gram matrix is given."""
        return self.gram.reshape(-1, 1) if self.gram.ndim < 3 else None

    def tokens(self, correlation: Array) -> TokenAttention:
        return TokenAttention(
            self.q, correlation, self.logit_gain, self.slope, float(self.width), float(self.channels), self.causal
        )

    def samples(self) -> list[tuple[LogitSample | None, Array]]:
        """Sampled logits for every example, reproducible: the random source is seeded by the input itself.

        None where the tokens hold NaN or infinity; beside it NaN for every position.
        """
        grams = _scaled(self.gram, self.q)
        tokens = self.q.shape[1]
        rows = min(_ROWS[self.drawn], _WORK[self.drawn] / (8 * tokens * (tokens + self.width)))
        count = max(1, round(rows / (tokens * len(self.q))))
        count += count % 2 if count > 1 else 0
        fluctuating = self.drawn or self.gram.ndim < 3
        bias = max(0.0, float(np.mean(self.logit_gain - self.slope * self.q)))
        out: list[tuple[LogitSample | None, Array]] = []
        for e in range(len(self.q)):
            blank = np.full(tokens, np.nan)
            gram = grams[e] if grams.ndim == 3 else np.diag(grams[e])
            if not (np.isfinite(gram).all() and np.isfinite(bias)):
                out.append((None, blank))
                continue
            source = np.random.default_rng([e, crc32(np.round(gram, 9).tobytes())])
            size = (self.slope, bias, self.width, self.channels, self.causal)
            out.append((logit_sample(gram, *size, count, source, fluctuating), blank))
        return out


def _scaled(gram: Array, field: Array) -> Array:
    """Gram matrices (E, T, T) with `field` (E, T) on the diagonal and the correlations of `gram`.

    A correlation of zero gives back the field: a diagonal.
    """
    root = np.sqrt(np.maximum(field, 0.0))
    if gram.ndim < 3:
        if not gram.any():
            return field
        correlation = np.broadcast_to(gram.reshape(-1, 1, 1), (len(field), 1, 1))
        unit = correlation + (1 - correlation) * np.eye(field.shape[1])
        return np.asarray(root[:, :, None] * unit * root[:, None, :])
    size = np.sqrt(np.maximum(np.diagonal(gram, axis1=1, axis2=2), 1e-300))
    ratio = root / size
    return np.asarray(ratio[:, :, None] * gram * ratio[:, None, :])
