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
