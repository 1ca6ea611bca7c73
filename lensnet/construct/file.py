"""A constructed network in a .safetensors file: its tensors, its rates, and what it was made from.

Tensors are called `<component path>/<name>`, rates `<component path>/rates` with R and Rc of the features that came in,
the mean entropy of a layer's gates `<component path>/entropy`.
A file may hold the beginning of a network; it then says how far it got and what the layers so far were made from, so
that only the same construction goes on with it. It is written beside its place and moved there, never half.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from torch import Tensor

from lensnet.network.array_file import InputError
from lensnet.network.graph import Network, Node

RATES, ENTROPY = "/rates", "/entropy"


@dataclass(frozen=True)
class Saved:
    """What a file holds. `last`: path of the last finished layer; `fingerprint`: of everything up to it."""

    tensors: Mapping[str, Tensor]
    rates: Mapping[str, tuple[float, float]]
    network: str
    last: str
    fingerprint: str
    complete: bool
    entropies: Mapping[str, float] = field(default_factory=dict)


def save(
    path: Path,
    tensors: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    about: Mapping[str, str],
    entropies: Mapping[str, float] | None = None,
) -> None:
    """Write a file in one move. Raises InputError where it cannot be written."""
    import torch
    from safetensors.torch import save_file

    everything = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    everything |= {key + RATES: value for key, value in rates.items()}
    everything |= {
        key + ENTROPY: torch.tensor([value], dtype=torch.float64) for key, value in (entropies or {}).items()
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(everything, beside, dict(about))
        beside.chmod(0o644)
        os.replace(beside, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Saved:
    """Raises InputError for a file that is absent, damaged, or not of a constructed network."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"there is no file {path}", "lensnet construct SPEC --out FILE makes one")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            everything = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is not a readable .safetensors file: {error}") from None
    rates = {
        key.removesuffix(RATES): (float(value[0]), float(value[1]))
        for key, value in everything.items()
        if key.endswith(RATES) and value.shape == (2,)
    }
    entropies = {key.removesuffix(ENTROPY): float(v) for key, v in everything.items() if key.endswith(ENTROPY)}
    tensors = {key: value for key, value in everything.items() if not key.endswith((RATES, ENTROPY))}
    return Saved(
        tensors, rates, about.get("network", ""), about.get("last", ""), about.get("fingerprint", ""),
        about.get("complete") == "yes", entropies,
    )  # fmt: skip


def fingerprints(network: Network, seed: int, dtype: str) -> dict[str, str]:
    """For every component a hash of the input, the seed and all components up to it, in the order of the pass."""
    source = network.input
    text = f"{source.source} {sorted((k, str(v)) for k, v in source.options.items())} {source.batch} {seed} {dtype}"
    out: dict[str, str] = {}
    running = _hash(text)
    for node in network:
        running = out[node.path] = _hash(running + _described(node))
    return out


def _described(node: Node) -> str:
    parameters = sorted((key, str(value)) for key, value in node.parameters.items())
    return f"{node.path} {node.kind} {parameters} {node.inputs} {node.shape} {sorted(map(str, node.weights.items()))}"


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
