"""Writes `service.log`: two days of an order system, with one incident."""

from __future__ import annotations

from pathlib import Path
from random import Random

from source.log_incident import incident, unrelated
from source.log_noise import Event, render, routine


def events() -> list[Event]:
    """Return every record in the order of time."""
    rng = Random(20417)
    found = routine(rng) + incident(rng) + unrelated(rng)
    return sorted(found, key=lambda e: e.time)


def make(path: Path) -> dict[str, range]:
    """Write the log to `path`; return the 1-based lines of every event that has a key."""
    lines: list[str] = []
    places: dict[str, range] = {}
    for event in events():
        first = len(lines) + 1
        lines += render(event)
        if event.key is not None:
            places[event.key] = range(first, len(lines) + 1)
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return places
