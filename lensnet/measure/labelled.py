"""Inputs with classes: synthetic clouds and subspaces, and the labels of every source that has them.

The classes' places come from the option `seed` alone; the points in them also from the seed of the batch, so that a
batch of another seed holds fresh examples of the same classes. Example i belongs to class i mod k.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensnet.network.array_file import read_rows
from lensnet.network.graph import InputSource
from lensnet.network.refused import InputError

_SEEDS = 1_000_003


def load_labels(source: InputSource, corrupted: bool = True) -> Tensor | None:
    """The class of each example, int64 of shape (N,), where the source knows it; None elsewhere.

    corrupted: with the share `corrupt` redrawn, as the input declares; False gives the true ones. Raises InputError
    for labels in a file that are not classes 0, 1, ...
    """
    labels = _true_labels(source)
    if labels is None or not corrupted:
        return labels
    return corrupt(labels, float(source.options.get("corrupt") or 0), int(source.options.get("seed") or 0))


def corrupt(labels: Tensor, share: float, seed: int = 0) -> Tensor:
    """Labels with a share of them, drawn at random, redrawn uniformly over all classes (the right one included)."""
    if not share > 0:
        return labels
    source = torch.Generator().manual_seed(seed * _SEEDS + 1)
    chosen = torch.randperm(len(labels), generator=source)[: round(share * len(labels))]
    out = labels.clone()
    out[chosen] = torch.randint(int(labels.max()) + 1, (len(chosen),), generator=source)
    return out


def gaussians(source: InputSource, seed: int) -> Tensor:
    """mean_j + std*N(0, I): means of length 1, any two of them at the cosine `class_correlation`. (N, d), float64."""
    options, d = source.options, source.shape.channels
    k, share = int(options["classes"]), float(options.get("class_correlation") or 0)
    gram = (1 - share) * torch.eye(k, dtype=torch.float64) + share
    values, vectors = torch.linalg.eigh(gram)
    means = vectors * values.clamp_min(0).sqrt() @ vectors.mT @ _directions(options, d, k).mT
    noise = torch.randn((source.batch, d), generator=_points(options, seed), dtype=torch.float64)
    return means[_classes(source)] + float(options.get("std", 0.1)) * noise


def subspaces(source: InputSource, seed: int) -> Tensor:
    """A standard Gaussian point of the class's subspace, divided by sqrt(dimension), plus noise. (N, d), float64."""
    options, d = source.options, source.shape.channels
    k, r = int(options["classes"]), int(options["dimension"])
    if options.get("orthogonal"):
        bases = _directions(options, d, k * r).mT.reshape(k, r, d)
    else:
        random = torch.randn((k, d, r), generator=_places(options), dtype=torch.float64)
        bases = torch.linalg.qr(random)[0].mT
    points = _points(options, seed)
    inside = torch.randn((source.batch, r), generator=points, dtype=torch.float64) / r**0.5
    noise = torch.randn((source.batch, d), generator=points, dtype=torch.float64) / d**0.5
    return torch.einsum("nr,nrd->nd", inside, bases[_classes(source)]) + float(options.get("noise") or 0) * noise


def shifted(images: Tensor, seed: int) -> Tensor:
    """Each image (N, C, H, W) moved round its edges by a random number of rows and columns."""
    height, width = images.shape[-2:]
    source = torch.Generator().manual_seed(seed * _SEEDS + 2)
    down = torch.randint(height, (len(images),), generator=source)
    across = torch.randint(width, (len(images),), generator=source)
    moved = [image.roll((int(y), int(x)), (-2, -1)) for image, y, x in zip(images, down, across, strict=True)]
    return torch.stack(moved)


def _true_labels(source: InputSource) -> Tensor | None:
    if source.source in ("gaussians", "subspaces"):
        return _classes(source)
    if source.source == "digits":
        from sklearn.datasets import load_digits

        first = int(source.options.get("skip") or 0)
        return torch.from_numpy(load_digits().target[first : first + source.batch].astype(np.int64))
    if source.source == "file" and source.options.get("labels"):
        rows = read_rows(Path(str(source.options["path"])), str(source.options["labels"]), source.batch)
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(rows):
            raise InputError(f"labels run from {rows.min()} to {rows.max()}", "classes are numbered 0, 1, 2, ...")
        return torch.from_numpy(rows.astype(np.int64))
    return None


def _classes(source: InputSource) -> Tensor:
    return torch.arange(source.batch) % int(source.options["classes"])


def _directions(options: Mapping[str, Any], d: int, count: int) -> Tensor:
    """Random orthonormal columns (d, count)."""
    return torch.linalg.qr(torch.randn((d, count), generator=_places(options), dtype=torch.float64))[0]


def _places(options: Mapping[str, Any]) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(options) * _SEEDS)


def _points(options: Mapping[str, Any], seed: int) -> torch.Generator:
    return torch.Generator().manual_seed((_seed(options) * _SEEDS + 7) * _SEEDS + seed)


def _seed(options: Mapping[str, Any]) -> int:
    return int(options.get("seed") or 0)
