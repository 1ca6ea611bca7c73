"""What is added to the logits of attention: biases, masks, distances."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lensnet.importers.draft import Index, Unmapped
from lensnet.network.windows import Windows

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

QUIET = 1e-3  # a bias of the logits that is smaller than this is none


@dataclass
class Added:
    """What is added to the logits: tensors with their factors, masks that are true where a key is hidden or seen."""

    biases: list[tuple[Any, float]] = field(default_factory=list)
    hidden: list[Any] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)


def on_logits(
    mapper: Mapper, added: Added, causal: bool, windows: Windows, other: Windows, heads: int
) -> dict[str, Any]:
    """Parameters for what is added to the logits."""
    shape = (windows.length, other.length)
    total: Tensor | None = torch.zeros(1, 1, 1, *shape)
    laws = 0.0
    for tensor, factor in added.biases:
        value = mapper.value_of(tensor)
        if value is None:
            law = mapper.law(tensor) if mapper.owner(tensor) else None
            total = None if law is None or law.kind == "unknown" else total
            laws += 0.0 if law is None else factor**2 * law.std**2
        elif total is not None:
            total = total + _by_window(factor * value.float(), windows.count, shape)
    for mask, means_hidden in [*((one, True) for one in added.hidden), *((one, False) for one in added.seen)]:
        value = mapper.value_of(mask)
        if value is None:
            total = None
        elif total is not None:
            away = _by_window(value.bool() if means_hidden else ~value.bool(), windows.count, shape)
            total = total.masked_fill(away, float("-inf"))
    if total is None:
        if not mapper.captured.on_meta and not any(
            isinstance(mapper.values.get(one), Index) for one in (*added.hidden, *added.seen, *dict(added.biases))
        ):
            raise Unmapped("logits with a bias that depends on the input")
        mapper.notes.append("masks have no values here: where there is one, it is taken as causal")
        causal, total = causal or (shape[0] == shape[1] and windows.count == 1), torch.zeros(1, 1, 1, *shape)
    return named_bias(total, windows, heads, causal, laws)


def sink_of(mapper: Mapper, tensor: Any, factor: float) -> dict[str, Any]:
    """Parameters for one logit more for every head, `factor` times a tensor, whose share of the softmax is dropped."""
    law = mapper.law(tensor)
    mean, std = (0.0, 0.0) if law.kind == "unknown" else (factor * law.mean, abs(factor) * law.std)
    return {"sink": float(f"{exp(mean):.6g}")} | ({"sink_std": float(f"{std:.4g}")} if std > QUIET else {})


def _by_window(value: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
    """A tensor that broadcasts against logits, as (copies, windows, heads, queries, keys)."""
    value = value.expand(*value.shape[:-2], *shape) if value.dim() >= 2 else value.expand(*shape)
    lead = value.shape[:-2]
    if count > 1 and len(lead) and lead[0] % count == 0 and lead[0] > 1:
        return value.reshape(-1, count, *(lead[1:] or (1,)), *shape)[:1].reshape(1, count, -1, *shape)
    if len(lead) == 5 - 2:
        return value[:1] if lead[1] in (1, count) else value[:1].reshape(1, 1, -1, *shape)
    return value.reshape(1, 1, -1, *shape) if len(lead) < 2 else value[:1].reshape(1, 1, -1, *shape)


def named_bias(total: Tensor, windows: Windows, heads: int, causal: bool = False, laws: float = 0.0) -> dict[str, Any]:
    """Parameters for what is added to the logits, (copies, windows, heads, queries, keys), minus infinity where a key
    is hidden; `laws`: second moment of tables without numbers. Raises Unmapped where a mask is of no known kind."""
    out: dict[str, Any] = {}
    away = total < -50.0
    total = total.masked_fill(away, 0.0)
    hidden = away.flatten(0, 0)[0].any(1).numpy() if away.any() else None
    if hidden is not None and hidden.all(-1).any():
        hidden = hidden & ~hidden.all(-1, keepdims=True)  # a query that sees nothing sees everything
    if hidden is not None and hidden.any():
        out |= _near(hidden, windows) or _shifted(hidden, windows)
    if causal:
        out["causal"] = True
    kept = (total - _row_mean(total, away)).masked_fill(away, 0.0)
    power = float(kept.square().sum() / (~away).expand_as(kept).sum().clamp_min(1)) + laws
    if power < QUIET**2:
        return out
    if _is_alibi(total, away, heads):
        return out | {"alibi": True}
    return out | {"bias_std": float(f"{sqrt(power):.4g}")}


def _row_mean(total: Tensor, away: Tensor) -> Tensor:
    """A number that is the same for all keys of a query changes nothing."""
    seen = (~away).expand_as(total).float()
    return (total * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True).clamp_min(1)


def _is_alibi(total: Tensor, away: Tensor, heads: int) -> bool:
    if total.shape[:2] != (1, 1) or total.shape[2] != heads or total.shape[-2] != total.shape[-1]:
        return False
    ago = torch.arange(total.shape[-1]) - torch.arange(total.shape[-2])[:, None]
    wanted = (2.0 ** (-8 * (torch.arange(heads) + 1) / heads))[:, None, None] * ago
    wanted, away = wanted[None, None], away.expand_as(total)
    difference = (wanted - _row_mean(wanted, away)) - (total - _row_mean(total, away))
    return bool(difference.masked_fill(away, 0.0).abs().max() < 0.05)


def _near(hidden: Any, windows: Windows) -> dict[str, Any]:
    """Whether a mask hides what comes later, or is far away, or both; nothing where it does something else."""
    length = hidden.shape[-1]
    if hidden.shape[-2] != length:
        return {}
    away = np.abs(np.arange(length) - np.arange(length)[:, None])
    reach = int(away[~hidden.any(0)].max(initial=0)) + 1
    plain = Windows(windows.positions, windows.size, windows.spread)
    for causal, near in ((True, 0), (True, reach), (False, reach)):
        if (hidden == plain.hidden(causal, near)).all():
            return ({"causal": True} if causal else {}) | ({"reach": near} if near else {})
    return {}


def _shifted(hidden: Any, windows: Windows) -> dict[str, Any]:
    """The cyclic shift that explains a mask. Raises Unmapped where none does."""
    from itertools import product

    choices = [{0, size // 2} if 1 < size < whole else {0} for size, whole in
               zip(windows.sizes, windows.positions, strict=True)]  # fmt: skip
    for shift in product(*choices):
        turned = Windows(windows.positions, windows.size, windows.spread, shift).hidden()
        if any(shift) and turned.shape == hidden.shape and (turned == hidden).all():
            return {"shift": list(shift) if len(shift) > 1 else shift[0]}
    raise Unmapped("attention with a mask that is neither full nor causal")
