"""The classes of labelled examples, in groups of similar size that can be worked on as one batched tensor.

Padding every class to the largest would cost k times the largest class. In groups whose sizes differ by a factor of two
at most, padding never more than doubles the data, and there are at most log2(m) groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassGroup:
    """Classes of similar size. `classes` and `sizes`: (g,); `index`, `inside`: (g, size of the largest of them)."""

    classes: Tensor
    sizes: Tensor
    index: Tensor
    inside: Tensor

    def take(self, rows: Tensor) -> Tensor:
        """The examples of every class, (g, size, ...), zeros behind the end of a smaller class."""
        taken = rows[self.index]
        return taken * self.inside.to(taken).reshape(*self.inside.shape, *[1] * (taken.dim() - 2))


def class_sizes(labels: Tensor, classes: int | None = None) -> list[int]:
    """How many examples each class has. Raises ValueError for labels that are not integers >= 0 or beyond `classes`."""
    if labels.dim() != 1 or labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise ValueError(f"labels are integers of shape (examples,), not {labels.dtype} of {tuple(labels.shape)}")
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError("a label is negative")
    counts = torch.bincount(labels, minlength=classes or 0).tolist()
    if classes is not None and len(counts) > classes:
        raise ValueError(f"the label {len(counts) - 1} is beyond the {classes} classes")
    return [int(count) for count in counts]


def class_groups(labels: Tensor, counts: list[int]) -> list[ClassGroup]:
    """The classes that have examples, grouped by size; on the device of `labels`."""
    order = torch.argsort(labels, stable=True)
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    groups: dict[int, list[int]] = {}
    for label, count in enumerate(counts):
        if count:
            groups.setdefault((count - 1).bit_length(), []).append(label)
    out = []
    for members in groups.values():
        sizes = torch.tensor([counts[j] for j in members], device=labels.device)
        first = torch.tensor([starts[j] for j in members], device=labels.device)
        place = torch.arange(int(max(counts[j] for j in members)), device=labels.device)
        inside = place < sizes[:, None]
        index = order[torch.where(inside, first[:, None] + place, first[:, None])]
        out.append(ClassGroup(torch.tensor(members, device=labels.device), sizes, index, inside))
    return out
