"""Files made to hurt: nothing in them is executed, unpacked without bound, or believed."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from lensnet.network.array_file import read_header, read_rows
from lensnet.network.refused import InputError


class Bomb:
    def __reduce__(self):
        return (print, ("executed!",))


def npy_bytes(header: str, body: bytes = b"", version=(1, 0)) -> bytes:
    text = header.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + body


def npz(path, content: bytes, name="x.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def test_pickled_objects_are_refused_before_unpacking(tmp_path, capsys):
    path = tmp_path / "objects.npz"
    np.savez(path, x=np.array([Bomb(), Bomb()], dtype=object))
    for read in (lambda: read_header(path), lambda: read_rows(path, None, 2)):
        with pytest.raises(InputError, match="pickled Python objects"):
            read()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-4, 4)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 'a')}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '|V16', 'fortran_order': False, 'shape': (2, 2)}",
        "{'descr': [('a', '<f8'), ('b', '<i4')], 'fortran_order': False, 'shape': (2, 2)}",
        "{'descr': 'no type', 'fortran_order': False, 'shape': (2, 2)}",
        "__import__('os').system('true')",
        "[" * 3000,
        "{" + "'a': 1, " * 4000 + "}",
        "",
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_damaged_numpy_headers(tmp_path, header, version):
    content = npy_bytes(header, b"\0" * 32, version)
    for path in (npz(tmp_path / "x.npz", content), tmp_path / "x.npy"):
        if path.suffix == ".npy":
            path.write_bytes(content)
        with pytest.raises(InputError):
            read_header(path)


def test_truncated_and_foreign_files(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, x=np.arange(4000.0).reshape(40, 100))
    for name, content in {
        "cut.npz": whole.getvalue()[:2000],
        "text.npz": b"this is no archive",
        "empty.npz": b"",
        "version.npy": b"\x93NUMPY\x09\x00\x10\x00",
        "empty.npy": b"",
        "empty.safetensors": b"",
        "short.safetensors": struct.pack("<Q", 100) + b"{}",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_header(tmp_path / name)


def test_flipped_bits_in_the_numbers_are_noticed_or_harmless(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((40, 100)))
    content = bytearray(path.read_bytes())
    for place in range(60, len(content) - 120, 997):
        content[place] ^= 0xFF
        path.write_bytes(content)
        content[place] ^= 0xFF
        try:
            assert read_rows(path, None, 40).shape == (40, 100)
        except InputError:
            pass


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (300, 1000000)}"
    path = npz(tmp_path / "bomb.npz", npy_bytes(header, b"\0" * 300_000_000))
    assert path.stat().st_size < 1_000_000
    assert read_rows(path, None, 2).shape == (2, 1_000_000)
    claimed = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 4000000000)}"
    with pytest.raises(InputError, match="more than the file holds"):
        read_rows(npz(tmp_path / "claim.npz", npy_bytes(claimed, b"\0" * 100)), None, 2)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 10**15]}},
        {"x": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}},
        {"x": {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}},
        {"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]}},
        {"x": {"dtype": "F32", "shape": [2, 3]}},
        {"x": {"dtype": "C64", "shape": [2, 3], "data_offsets": [0, 48]}},
        {"x": [1, 2]},
        [1, 2],
        {},
        {"__metadata__": {"only": "this"}},
    ],
    ids=str,
)
def test_damaged_safetensors_headers(tmp_path, header):
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 24)
    with pytest.raises(InputError):
        read_rows(path, None, 2)


@pytest.mark.parametrize("text", [b"[" * 200_000, b"{", b"\xff\xfe", b'{"x": 1e400}'])
def test_safetensors_headers_that_are_no_json(tmp_path, text):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(InputError):
        read_header(path)


def test_a_safetensors_header_that_claims_to_be_huge(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(InputError, match="header claims"):
        read_header(path)
