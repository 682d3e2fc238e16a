"""`--since` and `--until`: what a person types → UTC seconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from docqa.errors import UsageError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_when(text: str | None, option: str, now_s: float | None = None) -> float | None:
    """Return UTC seconds of an ISO 8601 date or time (no zone: UTC), or of `2h`: so long ago.

    Raises:
        UsageError: neither.
    """
    if text is None:
        return None
    ago = _AGO.match(text.strip())
    if ago:
        now = time.time() if now_s is None else now_s
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{option}: '{text}' is no time; write 2026-03-01, 2026-03-01T14:30, or 2h for two "
            "hours ago"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
