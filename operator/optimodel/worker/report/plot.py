"""Drawings as inline SVG, without script and without anything from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, tag, together
from .words import megabytes

BAR, GAP, NAMES, WIDTH = 22, 10, 150, 420
"""Pixels: height of a bar, space between two, room for names, longest bar."""


@dataclass(frozen=True)
class Point:
    """A stage of the path: its weights, and its quality from 0 to 1 where it was measured."""

    name: str
    bytes: int
    quality: float | None = None


def path(points: Sequence[Point], quality: str) -> Markup:
    """Size of the weights by stage as bars, and `quality` (its name) where it is known as dots on a line."""
    largest = max((point.bytes for point in points), default=0) or 1
    height = len(points) * (BAR + GAP) + 34
    parts: list[Markup] = []
    dots: list[tuple[float, float]] = []
    for place, point in enumerate(points):
        top = 24 + place * (BAR + GAP)
        middle = top + BAR / 2
        long = WIDTH * point.bytes / largest
        parts += [
            tag("text", _clipped(point.name), x=NAMES - 8, y=f"{middle + 4:.0f}", text_anchor="end"),
            tag("rect", x=NAMES, y=top, width=f"{long:.1f}", height=BAR, class_="bar"),
            tag("text", megabytes(point.bytes), x=NAMES + 6, y=f"{middle + 4:.0f}", class_="value"),
        ]
        if point.quality is not None and math.isfinite(point.quality):
            x = NAMES + WIDTH * min(1.0, max(0.0, point.quality))
            dots.append((x, middle))
            parts += [
                tag(
                    "circle",
                    tag("title", f"{quality} {point.quality:.4f}"),
                    cx=f"{x:.1f}",
                    cy=middle,
                    r=5,
                    class_="dot",
                ),
                tag("text", f"{point.quality:.4f}", x=NAMES + WIDTH + 12, y=f"{middle + 4:.0f}"),
            ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    parts.insert(0, tag("polyline", points=line, class_="line"))
    legend = tag("text", "bars: weights" + (f"; dots: {quality} from 0 to 1" if dots else ""), x=NAMES, y=14)
    size = {"width": NAMES + WIDTH + 80, "height": height}
    return tag("svg", legend, together(parts), role="img", viewBox=f"0 0 {size['width']} {height}", **size)


@dataclass(frozen=True)
class Mark:
    """A model on a plane, with a short label beside it and its name behind. `kind` is a class of the page's style."""

    label: str
    name: str
    x: float
    y: float
    kind: str


def plane(marks: Sequence[Mark], x: str, y: str) -> Markup:
    """Marks between their own extremes; `x` and `y` name the axes, whose ends are told."""
    wide, high, edge = 520, 260, 44
    lows = [min((getattr(m, axis) for m in marks), default=0.0) for axis in "xy"]
    spans = [max((getattr(m, axis) for m in marks), default=0.0) - low for axis, low in zip("xy", lows, strict=True)]

    def place(mark: Mark) -> tuple[float, float]:
        right, up = ((v - low) / (span or 1.0) for v, low, span in zip((mark.x, mark.y), lows, spans, strict=True))
        return edge + right * (wide - 3 * edge), high - edge - up * (high - 2 * edge)

    parts = [
        tag("line", x1=edge / 2, x2=wide, y1=high - edge / 2, y2=high - edge / 2, class_="reach"),
        tag("line", x1=edge / 2, x2=edge / 2, y1=10, y2=high - edge / 2, class_="reach"),
        tag("text", f"{x}: {lows[0]:.4g} to {lows[0] + spans[0]:.4g} →", x=edge, y=high - 4),
        tag("text", f"↑ {y}: {lows[1]:.4g} to {lows[1] + spans[1]:.4g}", x=edge / 2 + 6, y=18),
    ]
    for mark in marks:
        left, top = place(mark)
        circle = tag("circle", tag("title", mark.name), cx=f"{left:.1f}", cy=f"{top:.1f}", r=5, class_=mark.kind)
        parts += [circle, tag("text", mark.label, x=f"{left + 8:.1f}", y=f"{top + 4:.1f}")]
    return tag("svg", together(parts), role="img", viewBox=f"0 0 {wide} {high}", width=wide, height=high)


def bars(values: Sequence[tuple[str, float]]) -> Markup:
    """A bar for each name, the longest as wide as there is room, with its value."""
    largest = max((value for _, value in values), default=0.0) or 1.0
    parts: list[Markup] = []
    for number, (name, value) in enumerate(values):
        top = number * (BAR + GAP)
        long = WIDTH * max(0.0, value) / largest
        parts += [
            tag("text", _clipped(name), x=NAMES - 8, y=top + BAR - 7, text_anchor="end"),
            tag("rect", x=NAMES, y=top, width=f"{long:.1f}", height=BAR, class_="bar"),
            tag("text", f"{value:.4g}", x=NAMES + 6, y=top + BAR - 7, class_="value"),
        ]
    size = {"width": NAMES + WIDTH + 80, "height": len(values) * (BAR + GAP)}
    return tag("svg", together(parts), role="img", viewBox=f"0 0 {size['width']} {size['height']}", **size)


def _clipped(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"


def interval(value: str, low: str, high: str, bound: str) -> Markup:
    """A gate's interval with its value as a dot and its bound as a line; nothing where a number is not known."""
    try:
        at, limit = float(value), float(bound)
        left, right = (float(text) if text else at for text in (low, high))
    except ValueError:
        return Markup("")
    first, last = min(left, limit, at), max(right, limit, at)
    if not all(map(math.isfinite, (first, last))):
        return Markup("")
    scale = (last - first) or 1.0

    def x(number: float) -> str:
        return f"{10 + 140 * (number - first) / scale:.1f}"

    return tag(
        "svg",
        tag("line", x1=x(left), x2=x(right), y1=10, y2=10, class_="reach"),
        tag("circle", cx=x(at), cy=10, r=4, class_="dot"),
        tag("line", x1=x(limit), x2=x(limit), y1=1, y2=19, class_="bound"),
        role="img",
        width=160,
        height=20,
        viewBox="0 0 160 20",
    )
