"""Arrays in files of the user's: headers for linting, the first rows for measuring. Nothing in a file is executed.

`.npy`, `.npz` (one array by name, the first one otherwise) and `.safetensors`. The readers are own code of a few lines
because both formats are a header and a block of numbers: only the header and the rows that are asked for are read,
whatever size the file claims, and pickled objects are refused before anything is unpacked.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lensnet.network.refused import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_HEADER = 10_000_000  # bytes of a safetensors header, which names every tensor of a model
MAX_NUMPY_HEADER = 10_000  # bytes; numpy's own limit
MAX_BATCH = 2 << 30  # bytes taken from one file
SAFETENSORS_TYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says about one array; `kind` is the letter of numpy (f float, i and u integers, b boolean)."""

    name: str
    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class _Block:
    """An open array: the stream stands at its first number."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: IO[bytes]
    fortran: bool = False
    bfloat16: bool = False

    @property
    def kind(self) -> str:
        return "f" if self.bfloat16 else self.dtype.kind


def read_header(path: Path, key: str | None = None) -> ArrayHeader:
    """Name, shape and kind of the array `key` (the first one when None), without reading its numbers.

    Raises InputError: missing or damaged file, unknown key, pickled objects, a type that is not a plain number.
    """
    with _open(path, key) as block:
        return ArrayHeader(block.name, block.shape, block.kind)


def read_rows(path: Path, key: str | None, count: int) -> NDArray[Any]:
    """The first `count` entries of the array along its first axis. Raises InputError as `read_header` does."""
    import numpy as np

    with _open(path, key) as block:
        rows = min(count, block.shape[0]) if block.shape else 0
        wanted = (block.shape[0] if block.fortran else rows) * prod(block.shape[1:]) * block.dtype.itemsize
        if wanted > MAX_BATCH:
            raise InputError(
                f"{path.name}: {rows} entries of {block.name} take {wanted:,} bytes; the limit is {MAX_BATCH:,}",
                "ask for a smaller batch" + (", and save the array in C order" if block.fortran else ""),
            )
        content = _exactly(block.stream, wanted, path)
        flat = np.frombuffer(content, dtype=block.dtype)
        if block.bfloat16:  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        if block.fortran:
            return flat.reshape(block.shape, order="F")[:rows]
        return flat.reshape(rows, *block.shape[1:])


@contextmanager
def _open(path: Path, key: str | None) -> Iterator[_Block]:
    try:
        with open(path, "rb") as file:
            if path.suffix == ".npy":
                yield _numpy_block(file, path.stem, path, _size(file))
            elif path.suffix == ".npz":
                with zipfile.ZipFile(file) as archive:
                    member = _member(archive, key, path)
                    with archive.open(member) as stream:
                        yield _numpy_block(stream, member.filename.removesuffix(".npy"), path, member.file_size)
            else:
                yield _safetensors_block(file, key, path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", "paths are relative to the network file") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{path.name} is not a readable .npz archive: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _member(archive: zipfile.ZipFile, key: str | None, path: Path) -> zipfile.ZipInfo:
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
    return members[_choose(list(members), key, path)]


def _choose(names: list[str], key: str | None, path: Path) -> str:
    if not names:
        raise InputError(f"{path.name} holds no array")
    if key is None:
        return names[0]
    if key not in names:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"{path.name} has no array named {key!r}", f"it holds: {shown}")
    return key


def _numpy_block(stream: IO[bytes], name: str, path: Path, size: int) -> _Block:
    """The `.npy` format: magic, version, length of the header, the header (a Python dict display), the numbers."""
    import numpy as np

    start = _exactly(stream, 8, path)
    length = int.from_bytes(_exactly(stream, 2 if start[6] == 1 else 4, path), "little")
    if start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3) or length > MAX_NUMPY_HEADER:
        raise InputError(f"{path.name}: {name} does not begin like a .npy array")
    try:
        header = ast.literal_eval(_exactly(stream, length, path).decode("latin1"))
        label, fortran, shape = str(header["descr"]), bool(header["fortran_order"]), tuple(header["shape"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the shape {shape}")
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name}: the header of {name} is damaged: {_first_line(error)}") from None
    if "O" in label:
        raise InputError(
            f"{path.name}: {name} holds pickled Python objects, which lensnet never unpacks",
            "save it as an array of numbers of one shape",
        )
    if not re.fullmatch("[<>|=]?(f[248]|[iu][1248]|b1)", label):
        raise InputError(f"{path.name}: {name} holds values of type {label!r}, not real numbers")
    dtype = np.dtype(label)
    if prod(shape) * dtype.itemsize > size:
        raise InputError(f"{path.name}: {name} claims the shape {shape}, more than the file holds")
    return _Block(name, shape, dtype, stream, fortran)


def _safetensors_block(file: IO[bytes], key: str | None, path: Path) -> _Block:
    import numpy as np

    size = _size(file)
    length = int.from_bytes(_exactly(file, 8, path), "little")
    if length > min(MAX_HEADER, size):
        raise InputError(f"{path.name}: its header claims {length:,} bytes; the file is damaged or no .safetensors")
    try:
        header = json.loads(_exactly(file, length, path))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        name = _choose(list(entries), key, path)
        shape = tuple(int(n) for n in entries[name]["shape"])
        label = str(entries[name]["dtype"])
        begin, end = (int(n) for n in entries[name]["data_offsets"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name}: its header is damaged: {_first_line(error)}") from None
    if label not in SAFETENSORS_TYPES:
        raise InputError(f"{path.name}: {name} has the type {label}; lensnet reads {', '.join(SAFETENSORS_TYPES)}")
    dtype = np.dtype(SAFETENSORS_TYPES[label])
    if min(shape, default=1) < 0 or end - begin != prod(shape) * dtype.itemsize or not 0 <= begin <= size - 8 - length:
        raise InputError(f"{path.name}: {name} claims {end - begin} bytes for the shape {shape} of {label}")
    file.seek(8 + length + begin)
    return _Block(name, shape, dtype, file, bfloat16=label == "BF16")


def _exactly(stream: IO[bytes], count: int, path: Path) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise InputError(f"{path.name} ends after {len(content):,} of {count:,} bytes")
    return content


def _size(file: IO[bytes]) -> int:
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
