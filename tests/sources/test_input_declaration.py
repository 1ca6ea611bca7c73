"""What a declared input is, without torch: shapes, defaults, and what is wrong with it."""

import subprocess
import sys

import numpy as np
import pytest

from lensnet.network.input import input_shape, input_source
from lensnet.network.refused import InputError
from lensnet.network.shape import Shape


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"source": "gaussian", "channels": 512}, Shape(512)),
        ({"source": "gaussian", "channels": 512.0, "positions": 12}, Shape(512, (12,))),
        ({"source": "gaussian", "channels": 3, "positions": [8, 6]}, Shape(3, (8, 6))),
        ({"source": "digits"}, Shape(64)),
        ({"source": "digits", "size": 32}, Shape(1, (32, 32))),
        ({"source": "digits", "size": [28, 32], "channels": 3}, Shape(3, (28, 32))),
        ({"source": "photos"}, Shape(3, (224, 224))),
        ({"source": "photos", "size": 64, "channels": 1}, Shape(1, (64, 64))),
        ({"source": "tokens", "length": 16, "vocabulary": 1000}, Shape(1000, (16,), kind="ids")),
    ],
)
def test_shape_follows_from_the_declaration(options, shape):
    assert input_shape(options) == shape
    assert input_source(options).shape == shape


@pytest.mark.parametrize(
    ("array", "options", "shape"),
    [
        (np.zeros((5, 7)), {}, Shape(7)),
        (np.zeros((5, 9, 7), np.float16), {}, Shape(7, (9,))),
        (np.zeros((5, 3, 8, 6), np.uint8), {}, Shape(3, (8, 6))),
        (np.zeros((5, 9), np.int32), {"vocabulary": 50}, Shape(50, (9,), kind="ids")),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_shape_of_an_array_file(tmp_path, array, options, shape, suffix):
    if suffix == "npz":
        np.savez(tmp_path / "data.npz", examples=array)
    else:
        np.save(tmp_path / "data.npy", array)
    source = input_source({"source": "file", "path": f"data.{suffix}", **options}, folder=tmp_path)
    assert source.shape == shape
    assert source.batch == 5, "without `batch` a file gives what it has"
    assert source.options["path"] == str(tmp_path / f"data.{suffix}")


def test_named_array(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", train=np.zeros((4, 3)), test=np.zeros((4, 5)))
    named = {"source": "file", "path": str(tmp_path / "data.npz")}
    assert input_shape(named) == Shape(3)
    assert input_shape({**named, "key": "test"}) == Shape(5)
    with pytest.raises(InputError, match="no array named 'tset'") as error:
        input_shape({**named, "key": "tset"})
    assert "train, test" in error.value.help


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "camera"}, "no input source 'camera'"),
        ({"source": "gaussian"}, "needs channels"),
        ({"source": "gaussian", "channels": 2.5}, "not a positive whole number"),
        ({"source": "gaussian", "channels": 2, "positions": [2, 2, 2, 2]}, "4 position axes"),
        ({"source": "gaussian", "channels": 2, "correlation": -0.1}, "outside 0..1"),
        ({"source": "gaussian", "channels": 2, "batch": 0}, "not a positive whole number"),
        ({"source": "digits", "batch": 2000}, "has 1797"),
        ({"source": "digits", "channels": 3}, "flat digits"),
        ({"source": "photos", "channels": 4}, "channels: 4"),
        ({"source": "photos", "size": [1, 2, 3]}, "neither a number nor a pair"),
        ({"source": "tokens", "length": 8}, "needs vocabulary"),
        ({"source": "tokens", "length": 8, "vocabulary": 9, "distribution": "poisson"}, "no token distribution"),
        ({"source": "file"}, "needs a path"),
        ({"source": "file", "path": "absent.npz"}, "there is no file"),
        ({"source": "file", "path": "absent.csv"}, "does not exist"),
        ({"source": "file", "path": "absent"}, "does not exist"),
    ],
)
def test_what_is_wrong_is_said(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        input_source(options, folder=tmp_path)


def test_folders_and_shapes_that_do_not_fit(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no array")
    np.savez(tmp_path / "scalar.npz", x=np.float64(3))
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3)))
    np.savez(tmp_path / "nothing.npz")
    np.savez(tmp_path / "reals.npz", x=np.zeros((4, 3)))
    np.savez(tmp_path / "complex.npz", x=np.zeros((4, 3), complex))
    for name, options, message in [
        ("empty", {}, "is empty"),
        ("notes.txt", {}, "unknown ending"),
        ("scalar.npz", {}, r"has the shape \(\)"),
        ("none.npz", {}, "is empty"),
        ("nothing.npz", {}, "holds no array"),
        ("reals.npz", {"vocabulary": 10}, "has the shape"),
        ("reals.npz", {"batch": 9}, "has 4"),
        ("complex.npz", {}, "not real numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            input_source({"source": "file", "path": name, **options}, folder=tmp_path)


def test_declaring_an_input_imports_no_torch():
    program = (
        "import sys; from lensnet.network.input import input_source; "
        "input_source({'source': 'photos', 'batch': 8}); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'scipy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
