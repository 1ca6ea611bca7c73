"""The beam as a scalable drawing, written by hand: no plotting library, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

from lensnet.compare.report import Report
from lensnet.compare.row import Direction
from lensnet.report.beam import Point, beam, bounds, subject
from lensnet.report.numbers import short
from lensnet.report.palette import PREDICTED, VERDICTS
from lensnet.report.words import said

WIDTH, HEIGHT = 900.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 12.0, 26.0, 24.0


def beam_svg(report: Report, direction: Direction) -> str:
    """One direction of the beam; an empty string when there is nothing to draw. Hovering a mark tells its numbers."""
    points = beam(report, direction)
    span = bounds(points)
    if span is None:
        return ""
    low, high = log10(span[0]), log10(span[1])
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    step = (WIDTH - LEFT - RIGHT) / len(points)

    def x(place: float) -> float:
        return LEFT + step * place

    def y(value: float) -> float:
        return TOP + (high - log10(value)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    name = subject(report, direction).capitalize()
    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(name)}" class="beam">',
        f'<text x="{LEFT}" y="14" class="name">{escape(name)}</text>',
        *_grid(low, high, y),
        *_numbers(points, x),
        _line(points, x, y),
        *(_mark(point, x(i + 0.5), y, min(step * 0.3, 5.0)) for i, point in enumerate(points)),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _grid(low: float, high: float, y: object) -> list[str]:
    assert callable(y)
    first, last = ceil(low), floor(high)
    every = max(1, ceil((last - first + 1) / 6))
    values = [10.0**decade for decade in range(first, last + 1) if decade % every == 0]
    if len(values) < 2:
        values = [
            m * 10.0**d for d in range(first - 1, last + 1) for m in (1, 2, 5) if low <= log10(m * 10.0**d) <= high
        ]
    out = []
    for value in values:
        height = y(value)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" class="grid"/>')
        out.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end" class="tick">{short(value, 1)}</text>')
    return out


def _numbers(points: Sequence[Point], x: object) -> list[str]:
    assert callable(x)
    every = max(1, ceil(len(points) / 30))
    places = [i for i in range(len(points)) if (i + 1) % every == 0]
    return [
        f'<text x="{x(i + 0.5):.1f}" y="{HEIGHT - 8}" text-anchor="middle" class="tick">{points[i].number}</text>'
        for i in places
    ]


def _line(points: Sequence[Point], x: object, y: object) -> str:
    """A step line through the predictions; gaps where nothing is predicted."""
    assert callable(x) and callable(y)
    path, last = [], False
    for i, point in enumerate(points):
        if point.predicted is None:
            last = False
            continue
        height = y(point.predicted[1])
        path.append(f"{'L' if last else 'M'}{x(i):.1f},{height:.1f}L{x(i + 1):.1f},{height:.1f}")
        last = True
    return f'<path d="{"".join(path)}" fill="none" stroke="{PREDICTED}" stroke-width="1.6"/>' if path else ""


def _mark(point: Point, x: float, y: object, size: float) -> str:
    assert callable(y)
    if point.measured is None:
        return ""
    look = VERDICTS[point.verdict]
    told = [said(point.label), look.word, f"measured {short(point.measured[1])} (median)"]
    if point.predicted is not None:
        told.insert(1, f"predicted {short(point.predicted[1])}")
    seeds = "".join(f'<circle cx="{x:.1f}" cy="{y(v):.1f}" r="1.3" class="seed"/>' for v in point.per_seed)
    low, middle, high = (y(value) for value in point.measured)
    hollow = point.verdict in ("out-of-regime", "undecided")
    fill = "var(--paper)" if hollow else look.colour
    stroke = f'fill="{fill}" stroke="{look.colour}" stroke-width="1.4"'
    shape = f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="{size:.1f}" {stroke}/>'
    if point.verdict == "deviates":
        a, b, c, d = x - size, x + size, middle - size, middle + size
        shape = (
            f'<path d="M{a:.1f},{c:.1f}L{b:.1f},{d:.1f}M{a:.1f},{d:.1f}L{b:.1f},{c:.1f}" '
            f'stroke="{look.colour}" stroke-width="2.4"/>'
        )
    bar = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{look.colour}"/>'
    return f"<g><title>{escape(' · '.join(told))}</title>{seeds}{bar}{shape}</g>"
