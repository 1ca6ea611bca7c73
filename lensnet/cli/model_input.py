"""What an imported model is called with, from the command line: sizes, examples of lensnet's sources, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensnet.cli.ending import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lensnet.importers.examples import Arguments

FORMS = (
    "a size (8x3x224x224), tokens:8x128, digits:128, photos:16, FILE.npz:KEY, or {source: ...} as in a network file; "
    "NAME=... for an argument by name"
)


def call_with(model: nn.Module, given: Sequence[str]) -> dict[str, Any]:
    """Options of `lensnet.summary` for the `--input` options in their order. Raises UsageError, InputError."""
    named = [_split(text) for text in given]
    sizes = [_size(what) for _, what in named]
    if all(sizes) and not any(name for name, _ in named):
        return {"input_size": sizes[0] if len(sizes) == 1 else sizes}
    from lensnet.importers.examples import device_of

    where = device_of(model)
    tensors = [(name, _tensor(model, what, size).to(where)) for (name, what), size in zip(named, sizes, strict=True)]
    return {"input_data": _arguments(tensors)}


def _arguments(tensors: Sequence[tuple[str, Tensor]]) -> Arguments:
    from lensnet.importers.examples import Arguments

    names = [name for name, _ in tensors if name]
    if len(set(names)) < len(names):
        raise UsageError(f"--input names {next(name for name in names if names.count(name) > 1)} twice")
    return Arguments(
        tuple(tensor for name, tensor in tensors if not name), {name: tensor for name, tensor in tensors if name}
    )


def _split(text: str) -> tuple[str, str]:
    """(name of the argument or nothing, what it gets)."""
    name, mark, rest = text.partition("=")
    return (name, rest) if mark and name.isidentifier() else ("", text)


def _size(text: str) -> tuple[int, ...] | None:
    parts = text.lower().replace(",", "x").split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        return None
    return tuple(int(part) for part in parts)


def _tensor(model: nn.Module, text: str, size: tuple[int, ...] | None) -> Tensor:
    import torch

    source = torch.Generator().manual_seed(0)
    if size is not None:
        return torch.randn(size, generator=source)
    head, _, rest = text.partition(":")
    if head == "tokens":
        return _tokens(model, text, rest, source)
    if head in ("digits", "photos"):
        return _examples(model, {"source": head, **_batch(text, rest)})
    if text.startswith("{"):
        return _examples(model, _mapping(text))
    path, key = _file(text)
    if path.is_file():
        return _array(path, key)
    raise UsageError(f"--input {text}: no size and no file; give {FORMS}")


def _batch(text: str, rest: str) -> dict[str, int]:
    if rest and not rest.isdigit():
        raise UsageError(f"--input {text}: write how many examples, as {text.partition(':')[0]}:64")
    return {"batch": int(rest)} if rest else {}


def _tokens(model: nn.Module, text: str, rest: str, source: Any) -> Tensor:
    import torch

    from lensnet.importers.examples import vocabulary_of

    shape, _, most = rest.partition(":")
    size, vocabulary = _size(shape), int(most) if most.isdigit() else vocabulary_of(model)
    if size is None or vocabulary is None:
        raise UsageError(f"--input {text}: write tokens:8x128, or tokens:8x128:50257 with the number of token ids")
    return torch.randint(vocabulary, size, generator=source)


def _mapping(text: str) -> dict[str, Any]:
    from lensnet.language.source import Source
    from lensnet.language.yaml_tree import read_yaml

    data = read_yaml(Source("--input", f"input: {text}\n")).data.get("input")
    if not isinstance(data, dict):
        raise UsageError(f"--input {text}: write {{source: digits, batch: 128}} as in a network file")
    return data


def _examples(model: nn.Module, options: dict[str, Any]) -> Tensor:
    """The batch of a source of the language; flat where the model begins with a dense layer of that many inputs."""
    from torch import nn

    from lensnet.measure.sources import load_batch
    from lensnet.network.input import input_source

    batch = load_batch(input_source(options))
    first = next((one for one in model.modules() if list(one.parameters(recurse=False))), None)
    if isinstance(first, nn.Linear) and batch.dim() > 2 and first.in_features == batch[0].numel():
        return batch.flatten(1)
    if isinstance(first, nn.Conv2d) and batch.dim() == 2 and first.in_channels == 1:
        side = round(batch.shape[1] ** 0.5)
        return batch.reshape(len(batch), 1, side, side) if side * side == batch.shape[1] else batch
    return batch


def _file(text: str) -> tuple[Path, str | None]:
    path, mark, key = text.rpartition(":")
    if mark and not Path(text).is_file():
        return Path(path).expanduser(), key
    return Path(text).expanduser(), None


def _array(path: Path, key: str | None) -> Tensor:
    """The first 64 examples of an array: whole numbers stay whole, everything else becomes float32."""
    import torch

    from lensnet.network.array_file import read_header, read_rows
    from lensnet.network.input import ARRAY_SUFFIXES, DEFAULT_BATCH

    if path.suffix not in ARRAY_SUFFIXES:
        raise UsageError(f"--input {path}: arrays are read from {', '.join(ARRAY_SUFFIXES)}")
    kind = read_header(path, key).kind
    rows = torch.from_numpy(read_rows(path, key, DEFAULT_BATCH).copy())
    return rows.bool() if kind == "b" else rows.long() if kind in "iu" else rows.float()
