"""Numbers as short aligned text."""

from __future__ import annotations

from math import floor, isfinite, log10

NONE = "-"
PLAIN = (-2, 5)
"""Powers of ten that are written out."""
EXACT = 1e-4
"""A standard error below this part of the value is not shown."""


def short(value: float | None, digits: int = 3) -> str:
    """Three significant digits in at most eight characters: 0.0354, 12.3, 2.75e-3."""
    if value is None:
        return NONE
    if not isfinite(value):
        return _words(value)
    if value == 0:
        return "0"
    mantissa, exponent = _split(value, digits)
    if PLAIN[0] <= exponent < PLAIN[1]:
        return f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return f"{mantissa:.{digits - 1}f}e{exponent}"


def with_error(value: float | None, error: float | None) -> str:
    """Value and standard error with one exponent, to two digits of the error (one of a small error): 2.89±0.11e-5."""
    if value is None or not isfinite(value) or error is None or not isfinite(error) or error <= 0:
        return short(value)
    if error < EXACT * abs(value):
        return short(value, 4)
    size = max(abs(value), error)
    exponent = _split(size, 2)[1]
    digits = max(exponent - _split(error, 2)[1] + 2, 1)
    digits = digits if digits < 5 else min(digits - 1, 5)
    if PLAIN[0] <= exponent < PLAIN[1]:
        places = max(digits - 1 - exponent, 0)
        return f"{_plain(value, places)}±{error:.{places}f}"
    scale = 10.0**exponent
    return f"{_plain(value / scale, digits - 1)}±{error / scale:.{digits - 1}f}e{exponent}"


def percent(value: float | None) -> str:
    """A signed relative error: +5.1%, -32%, x24 beyond a factor of ten."""
    if value is None:
        return NONE
    if not isfinite(value):
        return _words(value)
    if value > 9:
        return f"x{short(1 + value, 2)}"
    if abs(value) < 0.0005:
        return "0.0%"
    return f"{100 * value:+.{1 if abs(value) < 0.0995 else 0}f}%"


def spread(low: float, high: float) -> str:
    """A range, `1.6..3.9e-3`; one number when both ends round to the same."""
    a, b = short(low, 2), short(high, 2)
    if a == b:
        return a
    size = max(abs(low), abs(high))
    if not isfinite(size) or 0.01 <= size < 1e5:
        return f"{a}..{b}"
    exponent = _split(size, 2)[1]
    return f"{_plain(low / 10.0**exponent, 1)}..{_plain(high / 10.0**exponent, 1)}e{exponent}"


def clip(text: str, width: int) -> str:
    """Shorten in the middle: the beginning names the block, the end the component."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[:width]
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _split(value: float, digits: int) -> tuple[float, int]:
    """Mantissa and exponent after rounding to `digits`: 9.996 is 1.00e1."""
    exponent = floor(log10(abs(value)))
    mantissa = value / 10.0**exponent if exponent > -300 else value * 1e300 / 10.0 ** (exponent + 300)
    if round(abs(mantissa), digits - 1) >= 10:
        return mantissa / 10, exponent + 1
    return mantissa, exponent


def _plain(value: float, places: int) -> str:
    """Without the minus of a negative zero."""
    text = f"{value:.{places}f}"
    return text if float(text) else text.lstrip("-")


def _words(value: float) -> str:
    return "nan" if value != value else ("inf" if value > 0 else "-inf")
