"""Line plots as SVG text: the two refusal errors against each other, and answers per position.

Where the reader was asked, the errors of the decision by both models are dashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 400, 60, 50
COLOURS = ("#1f5fa8", "#c4502a", "#3b8f4e", "#7b4ea8", "#a8841f", "#4e8f8f", "#a83b6e")
Series = Mapping[str, Sequence[tuple[float, float]]]


def line_plot(
    title: str, x_name: str, y_name: str, series: Series, dashed: Series | None = None
) -> str:
    """Return an SVG of the (x, y) series; both axes from the data's own range, y from 0.

    `dashed` are lines in the colour of the series of their name.
    """
    dashed = dashed or {}
    points = [p for line in (*series.values(), *dashed.values()) for p in line]
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    top = max(max(y for _, y in points), 1e-9)
    width, height = WIDTH - LEFT - 20, HEIGHT - BOTTOM - 40

    def at(x: float, y: float) -> str:
        across = LEFT + width * (x - low) / max(high - low, 1e-9)
        return f"{across:.1f},{40 + height * (1 - y / top):.1f}"

    def path(line: Sequence[tuple[float, float]], colour: str, dashes: str = "") -> str:
        points = " ".join(at(x, y) for x, y in line)
        stroke = f'stroke="{colour}" stroke-width="2"{dashes}'
        return f'<polyline points="{points}" fill="none" {stroke}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif"'
        ' font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT + width / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_name)}</text>",
        f'<text x="14" y="{40 + height / 2}" transform="rotate(-90 14 {40 + height / 2})"'
        f' text-anchor="middle">{escape(y_name)}</text>',
    ]
    for i in range(6):
        x, y = low + (high - low) * i / 5, top * i / 5
        across, down = at(x, y).split(",")
        parts.append(f'<path d="M{LEFT},{down}H{LEFT + width}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down}" text-anchor="end">{y:.2f}</text>')
        parts.append(
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 26}" text-anchor="middle">{x:.3g}</text>'
        )
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(path(line, colour))
        if name in dashed:
            parts.append(path(dashed[name], colour, ' stroke-dasharray="6 4"'))
        parts.append(
            f'<text x="{LEFT + 10}" y="{56 + 15 * i}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def plots(report: Mapping[str, Any]) -> dict[str, str]:
    """Return name → SVG of what the report has."""
    found = {}
    if report["refusals"]:
        alone, dashed = (
            {name: [(p["right"], p["wrong"]) for p in points] for name, points in curves.items()}
            for curves in (report["refusals"], report["refusals_both"])
        )
        title = "Refusals (dashed: by model and reader)" if dashed else "Refusals"
        found["refusals"] = line_plot(title, "rightly refused", "wrongly refused", alone, dashed)
    if report["positions"]:
        both = {
            key: [(float(n), v[key]) for n, v in report["positions"].items()]
            for key in ("f1", "citation")
        }
        found["positions"] = line_plot(
            "Position of the source among 12", "position", "F1, right citation", both
        )
    return found
