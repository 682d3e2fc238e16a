"""Bars with intervals as an SVG: no plotting library is needed to look at an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from docqa.eval.report import Figures

BAR, GAP, LABEL, HEIGHT, TOP = 16, 26, 120, 220, 30
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")


def plot(runs: Mapping[str, Figures]) -> str:
    """Return an SVG: a group of bars a figure, a bar a variant, each from 0 to 1."""
    names = list(next(iter(runs.values())).means)
    group = BAR * len(runs) + GAP
    width = 50 + group * len(names) + 20
    parts = [_axis(width)]
    for i, name in enumerate(names):
        left = 50 + i * group
        for j, run in enumerate(runs.values()):
            mean = run.means[name]
            if mean.n:
                parts.append(_bar(left + j * BAR, mean.value, mean.low, mean.high, j))
        middle = left + BAR * len(runs) / 2
        parts.append(
            f'<text x="{middle:.1f}" y="{TOP + HEIGHT + 14}" text-anchor="end" '
            f'transform="rotate(-35 {middle:.1f} {TOP + HEIGHT + 14})">{escape(name)}</text>'
        )
    for j, variant in enumerate(runs):
        x, y = 56 + (j % 3) * 200, TOP + HEIGHT + LABEL - 18 + (j // 3) * 16
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{_colour(j)}"/>')
        parts.append(f'<text x="{x + 14}" y="{y}">{escape(variant)}</text>')
    tall = TOP + HEIGHT + LABEL + 16 * ((len(runs) - 1) // 3)
    wide = max(width, 56 + 200 * min(3, len(runs)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _y(value: float) -> float:
    return TOP + HEIGHT * (1.0 - min(1.0, max(0.0, value)))


def _axis(width: int) -> str:
    lines = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        lines.append(f'<line x1="44" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="40" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    return "".join(lines)


def _bar(x: float, value: float, low: float, high: float, index: int) -> str:
    top, middle = _y(value), x + (BAR - 3) / 2
    return (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{BAR - 3}" '
        f'height="{TOP + HEIGHT - top:.1f}" fill="{_colour(index)}"/>'
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{_y(low):.1f}" y2="{_y(high):.1f}" '
        'stroke="black"/>'
    )
