"""The network's input as declared: which source, which shape, how many examples. No torch; a file's header at most.

| source | options (default) | one example |
|---|---|---|
| gaussian | channels, positions ([]), mean (0), std (1), correlation (0), position_correlation (0) | a random vector |
| gaussians | channels, classes, std (0.1), class_correlation (0) | a point of one of several Gaussian clouds |
| subspaces | channels, classes, dimension, noise (0), orthogonal (false) | a point near one of several subspaces |
| digits | size (none: a flat vector of 64), channels (1), skip (0), shift (false) | scikit-learn's digits, resized |
| photos | size (224), channels (3) | crops of scikit-learn's two photographs, resized |
| tokens | length, vocabulary, distribution (zipf; or uniform), exponent (1) | `length` token ids |
| file | path, key, labels, vocabulary, size, channels, standardise | a row of an array, or an image of a folder |

All take `batch` (64). `size` is a number or `[height, width]`. `correlation` is that between any two examples,
`position_correlation` that between any two positions of one example; their product where both differ. digits, photos
and image folders are standardised by one mean and one standard deviation of the batch (`standardise: false` leaves
pixels in 0..1); arrays are taken as they are unless `standardise: true`. Arrays are laid out (N, C), (N, T, C) or
(N, C, H, W); with `vocabulary`, integers (N, T) are token ids.

gaussians, subspaces, digits and files with `labels` know the class of every example. `corrupt` redraws that share of
the labels uniformly over all classes; `seed` fixes the classes' places, the corruption and the shifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lensnet.network.graph import InputSource
from lensnet.network.refused import InputError
from lensnet.network.shape import Shape

DIGITS = 1797  # examples in scikit-learn's digits
ARRAY_SUFFIXES = (".npz", ".npy", ".safetensors")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
DEFAULT_BATCH = 64
PHOTO_SIZE = 224

__all__ = ["InputError", "image_files", "input_shape", "input_source"]


def input_source(options: Mapping[str, Any], folder: Path | None = None) -> InputSource:
    """The declared input with its shape; a `path` among the options comes out absolute, taken relative to `folder`.

    Raises InputError when an option is missing or the file, key, type or number of examples does not fit.
    """
    options = dict(options)
    if options.get("path") is not None:
        options["path"] = str((folder or Path.cwd()) / Path(str(options["path"])).expanduser())
    shape, available, held = _describe(options)
    if available == 0:
        raise InputError(f"{held} is empty")
    if options.get("batch") is None:
        batch = DEFAULT_BATCH if available is None else min(DEFAULT_BATCH, available)
    else:
        batch = _positive("batch", options["batch"])
    if (classes := options.get("classes")) is not None and batch < classes:
        raise InputError(f"a batch of {batch} leaves some of the {classes} classes empty", f"batch: {classes} or more")
    if available is not None and batch > available:
        raise InputError(f"a batch of {batch} was asked for; {held} has {available}", f"batch: {available}")
    return InputSource(str(options["source"]), options, shape, batch)


def input_shape(options: Mapping[str, Any]) -> Shape:
    """The shape of one example. Reads a file's header when the source is a file. Raises InputError."""
    return _describe(options)[0]


def _describe(options: Mapping[str, Any]) -> _Described:
    source = str(options.get("source"))
    if source not in _SOURCES:
        raise InputError(f"there is no input source {source!r}", f"sources: {', '.join(_SOURCES)}")
    return _SOURCES[source](options)


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def image_size(options: Mapping[str, Any], default: int = PHOTO_SIZE) -> tuple[int, int]:
    """Height and width, from `size: n` or `size: [h, w]`."""
    size = options.get("size") or default
    pair = (size, size) if isinstance(size, int | float) else tuple(size)
    if len(pair) != 2:
        raise InputError(f"size: {size} is neither a number nor a pair", "write size: 224 or size: [height, width]")
    return _positive("size", pair[0]), _positive("size", pair[1])


# Shape of one example, how many examples there are (None: as many as asked for), and what holds them, for messages.
_Described = tuple[Shape, int | None, str]


def _gaussian(options: Mapping[str, Any]) -> _Described:
    positions = options.get("positions") or ()
    axes: Sequence[Any] = (positions,) if isinstance(positions, int | float) else tuple(positions)
    if len(axes) > 3:
        raise InputError(
            f"{len(axes)} position axes", "positions are [] (a vector), [T] (a sequence), [H, W] or [D, H, W]"
        )
    for name in ("correlation", "position_correlation"):
        if not 0 <= float(options.get(name) or 0) <= 1:
            raise InputError(f"{name}: {options[name]} is outside 0..1", "it is shared by all pairs, so never negative")
    if float(options.get("std", 1)) < 0:
        raise InputError(f"std: {options['std']} is negative")
    return Shape(_required(options, "channels"), tuple(_positive("positions", n) for n in axes)), None, ""


def _gaussians(options: Mapping[str, Any]) -> _Described:
    channels, classes = _required(options, "channels"), _required(options, "classes")
    if classes > channels:
        raise InputError(f"{classes} means need as many channels, not {channels}", f"channels: {classes} or more")
    return Shape(channels), None, ""


def _subspaces(options: Mapping[str, Any]) -> _Described:
    channels, classes, size = (_required(options, name) for name in ("channels", "classes", "dimension"))
    if size > channels or (options.get("orthogonal") and classes * size > channels):
        needed = classes * size if options.get("orthogonal") else size
        raise InputError(f"{channels} channels are too few for these subspaces", f"channels: {needed} or more")
    return Shape(channels), None, ""


def _digits(options: Mapping[str, Any]) -> _Described:
    skipped = _natural("skip", options.get("skip") or 0)
    if options.get("shift") and options.get("size") is None:
        raise InputError("only images can be shifted", "give size: 8 (or larger)")
    shape, held = _digits_shape(options), "scikit-learn's set of digits"
    return shape, max(DIGITS - skipped, 0), f"{held} beyond the first {skipped}" if skipped else held


def _digits_shape(options: Mapping[str, Any]) -> Shape:
    if options.get("size") is not None:
        return Shape(_positive("channels", options.get("channels") or 1), image_size(options))
    if options.get("channels") not in (None, 1):
        raise InputError("flat digits have no channels of their own", "give size: 8 (or larger) for images")
    return Shape(64)


def _photos(options: Mapping[str, Any]) -> _Described:
    return Shape(_colours(options), image_size(options)), None, ""


def _tokens(options: Mapping[str, Any]) -> _Described:
    if options.get("distribution", "zipf") not in ("zipf", "uniform"):
        raise InputError(f"there is no token distribution {options['distribution']!r}", "zipf or uniform")
    # For ids the channels count the different values: an embedding must have that many rows.
    return Shape(_required(options, "vocabulary"), (_required(options, "length"),), kind="ids"), None, ""


def _file(options: Mapping[str, Any]) -> _Described:
    if not options.get("path"):
        raise InputError("a file source needs a path", "path: data.npz, weights.safetensors or a folder of images")
    path = Path(str(options["path"]))
    if path.is_dir():
        held = f"the folder {path.name} ({' '.join(IMAGE_SUFFIXES)})"
        return Shape(_colours(options), image_size(options)), len(image_files(path)), held
    if path.suffix not in ARRAY_SUFFIXES:
        known = f"known: {' '.join(ARRAY_SUFFIXES)}, or a folder of images"
        raise InputError(f"{path} " + ("has an unknown ending" if path.exists() else "does not exist"), known)
    from lensnet.network.array_file import read_header  # zip archives and their codecs: only if a file is read

    header = read_header(path, options.get("key"))
    if options.get("labels") is not None:
        _check_labels(path, str(options["labels"]), header.shape[0])
    held = f"{header.name} in {path.name}"
    layouts = "lay it out as (N, C), (N, T, C) or (N, C, H, W)"
    if len(header.shape) not in (2, 3, 4) or 0 in header.shape[1:]:
        raise InputError(f"{held} has the shape {header.shape}", layouts)
    if options.get("vocabulary") is None:
        return _row_shape(header.shape), header.shape[0], held
    if header.kind not in "iu" or len(header.shape) != 2:
        raise InputError(f"{held} has the shape {header.shape} of kind {header.kind}", "token ids are integers (N, T)")
    return Shape(_required(options, "vocabulary"), header.shape[1:], kind="ids"), header.shape[0], held


def _check_labels(path: Path, key: str, examples: int) -> None:
    from lensnet.network.array_file import read_header

    labels = read_header(path, key)
    if labels.kind not in "iu" or labels.shape != (examples,):
        found = f"{key} in {path.name} has the shape {labels.shape} of kind {labels.kind}"
        raise InputError(found, f"labels are {examples} integers, the class of each example")


def _row_shape(shape: tuple[int, ...]) -> Shape:
    if len(shape) == 4:
        return Shape(shape[1], shape[2:])
    return Shape(shape[-1], shape[1:-1])


def _colours(options: Mapping[str, Any]) -> int:
    channels = options.get("channels") or 3
    if channels not in (1, 3):
        raise InputError(f"channels: {channels}", "photographs have 3 channels, or 1 as shades of grey")
    return int(channels)


def _required(options: Mapping[str, Any], name: str) -> int:
    if options.get(name) is None:
        raise InputError(f"the source {options['source']} needs {name}")
    return _positive(name, options[name])


def _natural(name: str, value: Any) -> int:
    return 0 if value == 0 else _positive(name, value)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
        raise InputError(f"{name}: {value} is not a positive whole number")
    return int(value)


_SOURCES: dict[str, Callable[[Mapping[str, Any]], _Described]] = {
    "gaussian": _gaussian,
    "gaussians": _gaussians,
    "subspaces": _subspaces,
    "digits": _digits,
    "photos": _photos,
    "tokens": _tokens,
    "file": _file,
}
