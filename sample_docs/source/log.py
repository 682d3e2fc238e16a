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


def make(path: Path) -> dict[str, int]:
    """Write the log to `path`; return the 1-based line of every event that has a key."""
    lines: list[str] = []
    places: dict[str, int] = {}
    for event in events():
        if event.key is not None:
            places[event.key] = len(lines) + 1
        lines += render(event)
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return places
