"""The batches: shapes, determinism, standardisation and the declared correlations."""

import numpy as np
import pytest
import torch

from lensnet.measure.labelled import load_labels
from lensnet.measure.sources import load_batch
from lensnet.network.input import input_source
from lensnet.network.refused import InputError


def batch_of(seed=0, folder=None, **options):
    return load_batch(input_source(options, folder), seed)


EVERY_SOURCE = [
    {"source": "gaussian", "channels": 6, "positions": [5, 4], "batch": 3},
    {"source": "gaussian", "channels": 6, "positions": 5, "batch": 3},
    {"source": "gaussian", "channels": 6, "batch": 3},
    {"source": "digits", "batch": 7},
    {"source": "digits", "batch": 7, "size": [32, 28], "channels": 2},
    {"source": "photos", "batch": 5, "size": [24, 32]},
    {"source": "photos", "batch": 5, "size": 32, "channels": 1},
    {"source": "tokens", "batch": 5, "length": 9, "vocabulary": 30},
]


@pytest.mark.parametrize("options", EVERY_SOURCE, ids=str)
def test_shape_and_determinism(options):
    source = input_source(options)
    state = torch.random.get_rng_state()
    first = load_batch(source, seed=3)
    assert tuple(first.shape) == source.shape.tensor_shape(source.batch)
    assert first.dtype == (torch.int64 if source.shape.kind == "ids" else torch.float32)
    assert torch.equal(first, load_batch(source, seed=3))
    assert torch.equal(state, torch.random.get_rng_state()), "the global random state is not ours"
    drawn = source.source in ("gaussian", "tokens")
    assert torch.equal(first, load_batch(source, seed=4)) != drawn


@pytest.mark.parametrize("options", [o for o in EVERY_SOURCE if o["source"] in ("digits", "photos")], ids=str)
def test_standardised_by_two_numbers(options):
    x = batch_of(**options).double()
    assert x.mean().abs() < 1e-6
    assert x.square().mean() == pytest.approx(1, abs=1e-6)
    raw = batch_of(**options, standardise=False)
    assert 0 <= raw.min() and raw.max() <= 1
    assert torch.allclose(x.float(), (raw - raw.mean()) / raw.std(correction=0), atol=1e-4)
    assert x.mean(tuple(range(1, x.dim()))).std() > 0.01, "differences between examples survive"


def test_photos_are_crops_of_several_scales():
    x = batch_of(source="photos", batch=16, size=64)
    flat = x.flatten(1)
    distance = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    assert (distance + 10 * torch.eye(16)).min() > 0.2, "no two crops are alike"
    sharpness = (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3))
    assert sharpness.max() > 1.5 * sharpness.min()


def test_digits_are_the_first_ones_and_know_their_labels():
    source = input_source({"source": "digits", "batch": 12, "size": 16})
    assert load_labels(source).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert load_labels(input_source({"source": "photos", "batch": 2})) is None


def test_gaussian_has_the_declared_moments_and_correlations():
    x = batch_of(
        source="gaussian", channels=40_000, positions=4, batch=3, mean=0.5, std=2, correlation=0.6,
        position_correlation=0.3,
    )  # fmt: skip
    assert x.mean() == pytest.approx(0.5, abs=0.02)
    z = (x.double() - 0.5) / 2
    second = torch.einsum("apc,bqc->apbq", z, z) / z.shape[-1]
    for a, p, b, q in np.ndindex(3, 4, 3, 4):
        expected = (1 if a == b else 0.6) * (1 if p == q else 0.3)
        assert second[a, p, b, q] == pytest.approx(expected, abs=0.03)


def test_gaussian_images_have_channels_before_positions():
    x = batch_of(source="gaussian", channels=50, positions=[3, 4], batch=2, position_correlation=1)
    assert x.shape == (2, 50, 3, 4)
    assert torch.allclose(x, x[:, :, :1, :1].expand_as(x)), "fully correlated positions are equal"
    assert (x[0, :, 0, 0] - x[1, :, 0, 0]).abs().max() > 0.1


def test_tokens_follow_zipf_or_nothing():
    zipf = batch_of(source="tokens", length=500, vocabulary=50, batch=200)
    share = torch.bincount(zipf.flatten(), minlength=50).double() / zipf.numel()
    rank = torch.arange(1, 51, dtype=torch.float64)
    assert torch.allclose(share, (1 / rank) / (1 / rank).sum(), atol=0.006)
    uniform = batch_of(source="tokens", length=500, vocabulary=50, batch=200, distribution="uniform")
    assert torch.allclose(torch.bincount(uniform.flatten()) / uniform.numel(), torch.tensor(0.02), atol=0.003)


def test_arrays_are_taken_as_they_are(tmp_path):
    rows = np.arange(24.0).reshape(4, 6)
    np.savez(tmp_path / "c.npz", x=rows)
    np.savez(tmp_path / "fortran.npz", x=np.asfortranarray(rows))
    for name in ("c.npz", "fortran.npz"):
        x = batch_of(source="file", path=name, batch=3, folder=tmp_path)
        assert torch.equal(x, torch.from_numpy(rows[:3]).float())
    y = batch_of(source="file", path="c.npz", standardise=True, folder=tmp_path)
    assert y.square().mean() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_safetensors_agrees_with_the_library(tmp_path, dtype):
    save_file = pytest.importorskip("safetensors.torch").save_file
    images = (torch.rand(5, 3, 4, 2) * 200).to(dtype)
    save_file({"other": torch.zeros(1), "images": images}, tmp_path / "x.safetensors", metadata={"made": "by hand"})
    x = batch_of(source="file", path="x.safetensors", key="images", batch=4, folder=tmp_path)
    assert torch.equal(x, images[:4].float())


def test_token_file(tmp_path):
    ids = np.random.default_rng(0).integers(0, 20, (6, 5), dtype=np.int32)
    np.savez(tmp_path / "ids.npz", ids)
    x = batch_of(source="file", path="ids.npz", vocabulary=20, folder=tmp_path)
    assert x.dtype == torch.int64 and torch.equal(x, torch.from_numpy(ids.astype(np.int64)))
    with pytest.raises(InputError, match=r"token id \d+; with vocabulary 10"):
        batch_of(source="file", path="ids.npz", vocabulary=10, folder=tmp_path)


def test_image_folder(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, size in (("b.png", (40, 30)), ("a.jpg", (25, 50))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "read.me").write_text("not an image")
    x = batch_of(source="file", path=".", size=16, folder=tmp_path)
    assert x.shape == (2, 3, 16, 16)
    assert x.double().square().mean() == pytest.approx(1, abs=1e-6)
    first = batch_of(source="file", path=".", size=16, batch=1, standardise=False, folder=tmp_path)
    again = batch_of(source="file", path=".", size=16, standardise=False, folder=tmp_path)
    assert torch.equal(first[0], again[0]), "in order of names: a.jpg first"
    (tmp_path / "c.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(InputError, match=r"c\.png cannot be read"):
        batch_of(source="file", path=".", size=16, folder=tmp_path)


def test_nan_and_constant_inputs_are_refused(tmp_path):
    rows = np.ones((4, 3), np.float32)
    np.savez(tmp_path / "ones.npz", rows)
    with pytest.raises(InputError, match="every value of the input is the same"):
        batch_of(source="file", path="ones.npz", standardise=True, folder=tmp_path)
    rows[2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", rows)
    with pytest.raises(InputError, match="example 2 holds NaN"):
        batch_of(source="file", path="nan.npz", folder=tmp_path)
