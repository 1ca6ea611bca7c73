"""The batch that enters a network: synthetic, bundled with scikit-learn, or the user's own file.

The same source and seed give the same tensor, bit for bit. digits, photos and files are the first examples, whatever
the seed; gaussian and tokens are drawn from a generator of their own, so the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lensnet.measure.labelled import gaussians, shifted, subspaces
from lensnet.network.array_file import read_rows
from lensnet.network.graph import InputSource
from lensnet.network.input import image_files, image_size
from lensnet.network.refused import InputError

GOLDEN = (np.sqrt(5.0) - 1) / 2


def load_batch(source: InputSource, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The batch in torch's layout for `source.shape` (`Shape.tensor_shape`): of `dtype`, or int64 for token ids.

    Raises InputError when a file does not hold what it must.
    """
    loaders: dict[str, Callable[[InputSource, int], Tensor]] = {
        "gaussian": _gaussian, "gaussians": gaussians, "subspaces": subspaces,
        "digits": _digits, "photos": _photos, "tokens": _tokens, "file": _file,
    }  # fmt: skip
    batch = loaders[source.source](source, seed)
    batch = batch.to(dtype) if batch.is_floating_point() else batch
    expected = source.shape.tensor_shape(source.batch)
    if tuple(batch.shape) != expected:
        raise InputError(f"the input has the shape {tuple(batch.shape)}; {expected} was expected")
    return batch


def standardise(batch: Tensor) -> Tensor:
    """The batch minus its mean, divided by its standard deviation: two numbers for all examples and channels.

    So the differences between examples, channels and pixels stay as they are, and the second moment is exactly 1.
    Raises InputError when the batch is constant.
    """
    wide = batch.double()
    centred = wide - wide.mean()
    spread = centred.square().mean().sqrt()
    if not spread > 0:
        raise InputError("every value of the input is the same: it cannot be standardised")
    return centred / spread


def _gaussian(source: InputSource, seed: int) -> Tensor:
    options, shape = source.options, source.shape
    generator = torch.Generator().manual_seed(seed)
    between_examples = float(options.get("correlation") or 0)
    between_positions = float(options.get("position_correlation") or 0)
    full = (source.batch, shape.position_count, shape.channels)

    def draw(examples: int, positions: int) -> Tensor:
        return torch.randn((examples, positions, full[2]), generator=generator, dtype=torch.float64)

    # A share common to all and a share of one's own, along each axis: the correlation of two entries is the product
    # of (1 or correlation) over the examples and (1 or position_correlation) over the positions.
    x = torch.zeros(full, dtype=torch.float64)
    for example_share, examples in ((between_examples, 1), (1 - between_examples, full[0])):
        for position_share, positions in ((between_positions, 1), (1 - between_positions, full[1])):
            if example_share * position_share > 0:
                x += (example_share * position_share) ** 0.5 * draw(examples, positions)
    x = float(options.get("mean") or 0) + float(options.get("std", 1)) * x
    if shape.positions and shape.channel_axis == 1:
        x = x.transpose(1, 2)
    return x.reshape(shape.tensor_shape(source.batch))


def _digits(source: InputSource, seed: int) -> Tensor:
    from sklearn.datasets import load_digits

    first = int(source.options.get("skip") or 0)
    images = torch.from_numpy(load_digits().images[first : first + source.batch]).float()[:, None] / 16
    if not source.shape.positions:
        return _scaled(images.flatten(1), source.options)
    height, width = source.shape.positions
    images = _resized(images, height, width).repeat(1, source.shape.channels, 1, 1)
    if source.options.get("shift"):
        images = shifted(images, int(source.options.get("seed") or 0))
    return _scaled(images, source.options)


def _photos(source: InputSource, seed: int) -> Tensor:
    from sklearn.datasets import load_sample_images

    photos = [torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255 for p in load_sample_images().images]
    height, width = source.shape.positions
    crops = []
    for i in range(source.batch):
        photo = _coloured(photos[i % len(photos)], source.shape.channels)
        crops.append(_resized(_crop(photo, i // len(photos), height / width)[None], height, width))
    return _scaled(torch.cat(crops), source.options)


def _crop(photo: Tensor, index: int, aspect: float) -> Tensor:
    """The index-th crop of a photograph (C, H, W) with height/width = aspect: scale and place from a Weyl sequence.

    The largest crop fits the photograph; later ones go down to 40 % of it, so that a batch holds several scales.
    """
    rows, columns = photo.shape[1:]
    scale, down, across = (float((index * GOLDEN**power) % 1) for power in (1, 2, 3))
    height = min(rows, columns * aspect) * (1 - 0.6 * scale)
    h, w = max(1, round(height)), max(1, round(height / aspect))
    top, left = round(down * (rows - h)), round(across * (columns - w))
    return photo[:, top : top + h, left : left + w]


def _tokens(source: InputSource, seed: int) -> Tensor:
    options = source.options
    vocabulary, size = source.shape.channels, source.shape.tensor_shape(source.batch)
    generator = torch.Generator().manual_seed(seed)
    if options.get("distribution", "zipf") == "uniform":
        return torch.randint(vocabulary, size, generator=generator)
    rank = torch.arange(1, vocabulary + 1, dtype=torch.float64)
    cumulative = rank.pow(-float(options.get("exponent") or 1)).cumsum(0)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64) * cumulative[-1]
    return torch.searchsorted(cumulative, uniform, right=True).clamp_(max=vocabulary - 1)


def _file(source: InputSource, seed: int) -> Tensor:
    path = Path(str(source.options["path"]))
    if path.is_dir():
        return _image_folder(source, path)
    rows = read_rows(path, source.options.get("key"), source.batch)
    if source.shape.kind == "ids":
        return _ids(rows, source.shape.channels, path)
    batch = torch.from_numpy(rows.astype(np.float64))
    _finite(batch, path.name)
    return standardise(batch) if source.options.get("standardise") else batch


def _ids(rows: NDArray[Any], vocabulary: int, path: Path) -> Tensor:
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= vocabulary:
        raise InputError(
            f"{path.name} holds the token id {low if low < 0 else high}; with vocabulary {vocabulary} ids are "
            f"0..{vocabulary - 1}",
            "raise the vocabulary or map the ids" if low >= 0 else "",
        )
    return torch.from_numpy(rows.astype(np.int64))


def _image_folder(source: InputSource, folder: Path) -> Tensor:
    height, width = image_size(source.options)
    files = image_files(folder)[: source.batch]
    return _scaled(torch.stack([_image(file, source.shape.channels, height, width) for file in files]), source.options)


def _image(file: Path, channels: int, height: int, width: int) -> Tensor:
    """One image file, cropped about its centre to the wanted aspect and resized: (C, height, width) in 0..1."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                pixels = np.array(image.convert("RGB"), dtype=np.float32) / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{file.name} cannot be read as an image: {error}") from None
    photo = _coloured(torch.from_numpy(pixels).permute(2, 0, 1), channels)
    rows, columns = photo.shape[1:]
    h = min(rows, columns * height / width)
    h, w = max(1, round(h)), max(1, round(h * width / height))
    top, left = (rows - h) // 2, (columns - w) // 2
    return _resized(photo[:, top : top + h, left : left + w][None], height, width)[0]


def _coloured(photo: Tensor, channels: int) -> Tensor:
    return photo if channels == 3 else photo.mean(0, keepdim=True)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, with the low-pass filter that shrinking needs: without it the crops would alias."""
    if images.shape[-2:] == (height, width):
        return images
    return torch.nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)


def _scaled(batch: Tensor, options: Mapping[str, Any]) -> Tensor:
    return batch if options.get("standardise") is False else standardise(batch)


def _finite(batch: Tensor, name: str) -> None:
    bad = ~torch.isfinite(batch.flatten(1)).all(1)
    if bad.any():
        raise InputError(f"{name}: example {int(bad.nonzero()[0, 0])} holds NaN or Inf")
