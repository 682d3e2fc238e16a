"""Lines over a logarithmic axis as an SVG: no plotting library is needed to look at a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 640, 320, 56, 34, 44, 90
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2")


def line_plot(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    mark: float | None = None,
    mark_label: str = "",
) -> str:
    """Return an SVG of `lines` (name → values at `x`), y logarithmic; `mark`: a vertical line.

    Values that are not positive numbers are left out.
    """
    values = [v for line in lines.values() for v in line if v > 0 and math.isfinite(v)]
    frame = _Frame(min(x), max(x), min(values) / 1.1, max(values) * 1.1)
    parts = [
        f'<text x="{LEFT}" y="20" font-size="13">{escape(title)}</text>',
        *frame.grid(),
        f'<text x="{LEFT + frame.wide / 2:.0f}" y="{TOP + HEIGHT + 36}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text transform="translate(14 {TOP + HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    if mark is not None:
        at = frame.x(mark)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="#888" '
            f'stroke-dasharray="4 3"/><text x="{at + 4:.1f}" y="{TOP + 12}" fill="#666">'
            f"{escape(mark_label)}</text>"
        )
    for i, (name, line) in enumerate(lines.items()):
        parts.append(frame.line(x, line, COLOURS[i % len(COLOURS)]))
        parts.append(
            f'<text x="{LEFT + frame.wide + 8}" y="{TOP + 14 + 18 * i}" '
            f'fill="{COLOURS[i % len(COLOURS)]}">{escape(name)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{TOP + HEIGHT + BOTTOM}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


class _Frame:
    """The axes: x linear, y logarithmic."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.wide = WIDTH - LEFT - RIGHT
        self._left, self._span = left, max(right - left, 1e-9)
        self._low, self._high = math.log(low), math.log(high)

    def x(self, value: float) -> float:
        return LEFT + self.wide * (value - self._left) / self._span

    def y(self, value: float) -> float:
        share = (math.log(value) - self._low) / max(self._high - self._low, 1e-9)
        return TOP + HEIGHT * (1 - share)

    def grid(self) -> list[str]:
        """Return lines at 1, 2 and 5 times each power of ten, and four values of x."""
        parts = []
        for power in range(-3, 8):
            for digit in (1, 2, 5):
                value = digit * 10.0**power
                if self._low <= math.log(value) <= self._high:
                    y = self.y(value)
                    parts.append(
                        f'<line x1="{LEFT}" x2="{LEFT + self.wide}" y1="{y:.1f}" y2="{y:.1f}" '
                        f'stroke="#ddd"/><text x="{LEFT - 5}" y="{y + 4:.1f}" '
                        f'text-anchor="end">{value:g}</text>'
                    )
        for i in range(5):
            value = self._left + self._span * i / 4
            parts.append(
                f'<text x="{self.x(value):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">'
                f"{value:,.0f}</text>"
            )
        return parts

    def line(self, x: Sequence[float], values: Sequence[float], colour: str) -> str:
        points = " ".join(
            f"{self.x(a):.1f},{self.y(v):.1f}"
            for a, v in zip(x, values, strict=True)
            if v > 0 and math.isfinite(v)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
