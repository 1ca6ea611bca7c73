"""The tensors that a summary was given, as the input of the network file that it writes.

A network file has one input, an array of numbers or of ids below a vocabulary; what else the call took has no place
there and is named in a comment of the file and in a note.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensnet.importers.build import text_of
from lensnet.importers.measuring import ModelBench
from lensnet.importers.model import ImportedModel

SUFFIX, KEY = ".input.safetensors", "input"
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Sample:
    """`values`: (N, C), (N, T, C) or (N, C, H, W), or ids (N, T); None where the declared input stays. `options`: of
    the file source that reads them. `remarks`: which tensors of the call are not among them, and why."""

    values: Tensor | None
    options: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def sample_of(imported: ImportedModel) -> Sample:
    """What of the given tensors a network file can hold; nothing where they were drawn for a size."""
    if imported.synthetic:
        return Sample(None, {})
    draft = imported.draft
    name, others = draft.input_node.name, _others(imported)
    remarks = [f"{', '.join(others)}: not in the file, which has one input ({name})"] if others else []
    values = ModelBench(imported).batch()
    if why := _refused(values, draft.vocabulary if draft.input_beam is None else None):
        return Sample(None, {}, (f"{name} stays as declared: {why}", *remarks))
    options: dict[str, Any] = {"key": KEY, "batch": len(values)}
    if draft.input_beam is None:
        options["vocabulary"] = max(draft.vocabulary, 1)
        values = values.long()
    elif values.dtype not in _FLOATS:
        values = values.float()
    return Sample(values.detach().cpu().contiguous(), options, tuple(remarks))


def write(imported: ImportedModel, path: Path) -> None:
    """The network file and, where the model was given tensors, `NAME.input.safetensors` beside it. Raises OSError."""
    sample, spec = sample_of(imported), imported.spec
    if sample.values is not None:
        place = path.with_suffix(SUFFIX)
        _save(sample.values, place)
        spec = spec | {"input": {"source": "file", "path": place.name, **sample.options}}
    path.write_text(text_of(spec, sample.remarks), encoding="utf-8")


def _save(values: Tensor, place: Path) -> None:
    """In one move: the values may themselves be read from the file that is replaced."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        save_file({KEY: values}, beside)
        beside.chmod(0o644)
        os.replace(beside, place)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        beside.unlink(missing_ok=True)


def _others(imported: ImportedModel) -> list[str]:
    """Names of the further tensors of the call that the model looks at."""
    inputs, main = imported.captured.inputs, imported.draft.input_node
    return [
        node.name for node in imported.captured.graph.graph.nodes
        if node.op == "placeholder" and node.users and node is not main and torch.is_tensor(inputs.get(node.name))
    ]  # fmt: skip


def _refused(values: Tensor, vocabulary: int | None) -> str:
    """Why a network file cannot hold these values; empty where it can. `vocabulary`: of ids."""
    if values.is_meta:
        return "it has no numbers on the meta device"
    if vocabulary is None:
        return "" if torch.isfinite(values).all() else "it holds NaN or infinity"
    if values.ndim != 2:
        return f"ids in a file have the shape (N, T), not {tuple(values.shape)}"
    if not values.numel() or int(values.min()) < 0 or int(values.max()) >= vocabulary:
        return f"its ids do not lie in 0..{vocabulary - 1}"
    return ""
