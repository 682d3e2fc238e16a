"""How fast logs are read, and how far their chunks collapse to few texts to embed.

    python -m docqa.bench.log                      # synthetic logs of 16 MB, one a format
    python -m docqa.bench.log --mb 200 service     # one of them, larger
    python -m docqa.bench.log FILE…                # files of your own

Prints a row a log: MB of the file per second of this process's CPU time (reading, records,
templates, chunks; no store, no embedder), megabytes of resident memory at the end, chunks,
distinct `embed_text`s.
The last line is the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from docqa.chunk_log import chunk_log_records
from docqa.protocols import ParseOptions
from docqa.types import Chunk

START_S = 1_700_000_000

_STATEMENTS = (  # weight, level, logger, message; %d a number, %h hex, %u a user, %p a path
    (400, "INFO", "http.access", "GET %p 200 %dms bytes=%d request_id=%h"),
    (200, "INFO", "http.access", "POST %p 201 %dms bytes=%d request_id=%h"),
    (150, "DEBUG", "db.pool", "acquired connection %d after %d us"),
    (150, "DEBUG", "db.pool", "released connection %d"),
    (80, "INFO", "auth.session", "user %u logged in from 10.%d.%d.7"),
    (60, "INFO", "auth.session", "session %h of user %u expired"),
    (60, "DEBUG", "cache", "evicted %d entries in %d ms"),
    (40, "INFO", "queue.worker", "job %h done in %d ms"),
    (40, "INFO", "queue.worker", "job %h started by worker-%d"),
    (20, "INFO", "scheduler", "next run of nightly-report in %d s"),
    (20, "INFO", "metrics", "flushed %d points to collector-%d"),
    (10, "WARN", "db.pool", "pool exhausted: %d waiting for %d ms"),
    (6, "WARN", "http.client", "retry %d of %p after timeout"),
    (3, "ERROR", "queue.worker", "job %h failed: connection refused by 10.%d.0.9:5432"),
    (1, "ERROR", "auth.session", "token of user %u rejected: signature mismatch"),
)
_USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
_PATHS = ("/api/v1/orders", "/api/v1/users", "/health", "/static/app.js", "/api/v1/cart")


def messages(seed: int) -> Iterator[tuple[float, str, str, str]]:
    """Yield (time, level, logger, message) of a made-up service for ever, the same for a seed."""
    rng = random.Random(seed)
    when = float(START_S)
    weights = [s[0] for s in _STATEMENTS]
    while True:
        for _, level, logger, text in rng.choices(_STATEMENTS, weights, k=1000):
            when += rng.expovariate(20)
            parts = []
            for i, part in enumerate(text.split("%")):
                parts.append(part if i == 0 else _fill(rng, part[0]) + part[1:])
            yield when, level, logger, "".join(parts)


def _fill(rng: random.Random, what: str) -> str:
    if what == "d":
        return str(rng.randrange(1, 5000))
    if what == "h":
        return f"{rng.getrandbits(64):016x}"
    return rng.choice(_USERS if what == "u" else _PATHS)


def _at(when: float) -> datetime:
    return datetime.fromtimestamp(when, UTC)


def _service(when: float, level: str, logger: str, text: str) -> str:
    at = _at(when)
    return f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {level:5} [{logger}] {text}"


def _syslog(when: float, level: str, logger: str, text: str) -> str:
    return f"{_at(when):%b %e %H:%M:%S} web1 {logger}[{len(text)}]: {level.lower()}: {text}"


def _json(when: float, level: str, logger: str, text: str) -> str:
    message = json.dumps(text)
    return (
        f'{{"ts":"{_at(when).isoformat()}","level":"{level}","logger":"{logger}","msg":{message}}}'
    )


def _logfmt(when: float, level: str, logger: str, text: str) -> str:
    return f'time={_at(when):%Y-%m-%dT%H:%M:%SZ} level={level.lower()} logger={logger} msg="{text}"'


def _access(when: float, level: str, logger: str, text: str) -> str:
    at, code = _at(when), 500 if level == "ERROR" else 200
    path = "/" + text.replace(" ", "/")
    return (
        f'10.0.{len(text)}.{len(logger)} - - [{at:%d/%b/%Y:%H:%M:%S} +0000] "GET {path} HTTP/1.1"'
        f' {code} {len(text) * 37} "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"'
    )


def _traces(when: float, level: str, logger: str, text: str) -> str:
    line = _service(when, level, logger, text)
    if level not in ("ERROR", "WARN"):
        return line
    frames = "\n".join(
        f"\tat com.example.{logger}.Step{i}.run(Step{i}.java:{i})" for i in range(25)
    )
    return f"{line}\njava.lang.IllegalStateException: {text}\n{frames}"


def _plain(when: float, level: str, logger: str, text: str) -> str:
    return f"{level} {logger}: {text}"


STYLES: dict[str, Callable[[float, str, str, str], str]] = {
    "service": _service,
    "traces": _traces,
    "syslog": _syslog,
    "json": _json,
    "logfmt": _logfmt,
    "access": _access,
    "plain": _plain,
}


def write_log(path: Path, style: str, n_bytes: int, seed: int = 1) -> None:
    """Write a log of about `n_bytes` in one of `STYLES`."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for record in messages(seed):
            line = STYLES[style](*record) + "\n"
            file.write(line)
            written += len(line)
            if written >= n_bytes:
                return


def measure(path: Path) -> dict[str, object]:
    """Chunk one log and return the row of the table."""
    texts: set[str] = set()
    n_chunks = n_timed = 0
    begun = time.process_time()
    for item in chunk_log_records(path, ParseOptions()):
        if isinstance(item, Chunk):
            n_chunks += 1
            n_timed += item.time_first is not None
            texts.add(item.embed_text)
    took_s = time.process_time() - begun
    n_bytes = path.stat().st_size
    return {
        "log": path.name,
        "mb": round(n_bytes / 1e6, 1),
        "mb_per_s": round(n_bytes / 1e6 / took_s, 1),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "chunks": n_chunks,
        "timed": round(n_timed / max(n_chunks, 1), 3),
        "distinct": len(texts),
        "collapse": round(n_chunks / max(len(texts), 1), 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure the logs named on the command line, or every style."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("logs", nargs="*", help=f"files, or of: {', '.join(STYLES)}")
    parser.add_argument("--mb", type=float, default=16, help="size of the synthetic logs")
    options = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.logs or STYLES:
            path = Path(name)
            if name in STYLES:
                path = Path(folder) / f"{name}.log"
                write_log(path, name, int(options.mb * 1e6))
            rows.append(measure(path))
            print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
