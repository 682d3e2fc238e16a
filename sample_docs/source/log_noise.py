"""The routine of `service.log`: what healthy services write, more by day than by night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

START = datetime(2026, 3, 11, tzinfo=UTC)
N_DAYS = 2
N_ROUTINE = 19_690
HOUR_WEIGHTS = (
    3,
    2,
    2,
    2,
    2,
    3,
    6,
    11,
    17,
    21,
    22,
    21,
    18,
    19,
    21,
    21,
    19,
    17,
    14,
    12,
    10,
    8,
    6,
    4,
)
# The incident: reservations fail in these two windows, and the gateway answers 503.
OUTAGES = (
    (datetime(2026, 3, 12, 9, 47, 34, tzinfo=UTC), datetime(2026, 3, 12, 10, 46, 30, tzinfo=UTC)),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the log: `lines` after the first one carry no time of their own."""

    time: datetime
    level: str
    service: str
    message: str
    more: tuple[str, ...] = ()
    key: str | None = None  # by which `questions.py` finds its line


def stamp(time: datetime) -> str:
    """Return the time as the log writes it: `2026-03-12T09:47:33.918Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def render(event: Event) -> list[str]:
    """Return the lines of an event."""
    first = f"{stamp(event.time)} {event.level:<5} [{event.service}] {event.message}"
    return [first, *event.more]


def is_outage(time: datetime) -> bool:
    """Whether reservations fail at that time."""
    return any(first <= time < last for first, last in OUTAGES)


def _request(rng: Random) -> str:
    return f"req={rng.randrange(16**8):08x}"


def _gateway(rng: Random, time: datetime) -> tuple[str, str]:
    order = rng.randrange(480_000, 520_000)
    if is_outage(time) and rng.random() < 0.5:
        return "ERROR", (
            f"{_request(rng)} POST /api/v2/orders 503 {rng.randrange(2000, 2100)}ms "
            "upstream=order-service reason=breaker_open"
        )
    roll = rng.random()
    if roll < 0.62:
        path, status = f"GET /api/v2/orders/{order}", 200
    elif roll < 0.86:
        path, status = "POST /api/v2/orders", 201
    elif roll < 0.95:
        path, status = f"GET /api/v2/stock/SKU-{rng.randrange(1000, 9999)}", 200
    elif roll < 0.985:
        path, status = f"GET /api/v2/orders/{order}", 404
    else:
        path, status = "POST /api/v2/login", 401
    ms = rng.randrange(9, 140)
    level = "WARN" if status == 401 else "INFO"
    return level, f"{_request(rng)} {path} {status} {ms}ms bytes={rng.randrange(180, 9000)}"


def _orders(rng: Random, time: datetime) -> tuple[str, str]:
    order = rng.randrange(480_000, 520_000)
    if is_outage(time) and rng.random() < 0.45:
        attempt = rng.randrange(1, 4)
        return "WARN", (
            f"{_request(rng)} reservation for order {order} failed, retry {attempt}/3 "
            f"in {attempt * 400}ms"
        )
    return "INFO", rng.choice(
        (
            f"{_request(rng)} order {order} accepted, {rng.randrange(1, 9)} items",
            f"order {order} handed to warehouse W{rng.randrange(1, 5)}",
            f"order {order} packed in {rng.randrange(3, 40)} min",
        )
    )


def _inventory(rng: Random, _time: datetime) -> tuple[str, str]:
    sku = f"SKU-{rng.randrange(1000, 9999)}"
    if rng.random() < 0.3:
        return "DEBUG", f"cache {rng.choice(('hit', 'hit', 'hit', 'miss'))} {sku}"
    quantity = rng.randrange(1, 12)
    return "INFO", f"{_request(rng)} reserved {quantity} x {sku} in {rng.randrange(2, 30)}ms"


def _billing(rng: Random, _time: datetime) -> tuple[str, str]:
    invoice = rng.randrange(700_000, 760_000)
    amount = f"{rng.randrange(900, 90_000) / 100:.2f}"
    return "INFO", f"invoice INV-{invoice} issued, amount {amount} EUR"


def _database(rng: Random, _time: datetime) -> tuple[str, str]:
    n_buffers = rng.randrange(200, 4000)
    seconds = rng.randrange(400, 9000) / 1000
    return "INFO", f"checkpoint complete: wrote {n_buffers} buffers in {seconds:.3f} s"


def _monitor(rng: Random, _time: datetime) -> tuple[str, str]:
    node = rng.randrange(1, 7)
    cpu, memory, disk = rng.randrange(8, 72), rng.randrange(35, 78), rng.randrange(41, 74)
    return "INFO", f"host=node-{node} cpu={cpu}% mem={memory}% disk:/data={disk}%"


def _mail(rng: Random, _time: datetime) -> tuple[str, str]:
    if rng.random() < 0.04:
        return "WARN", f"delivery deferred: mailbox busy, next try in {rng.randrange(5, 30)} min"
    return "INFO", f"message {rng.randrange(16**6):06x} delivered in {rng.randrange(80, 900)}ms"


def _config(_rng: Random, _time: datetime) -> tuple[str, str]:
    return "DEBUG", "poll finished, nothing to apply"


SERVICES: tuple[tuple[str, float, Callable[[Random, datetime], tuple[str, str]]], ...] = (
    ("gateway", 0.36, _gateway),
    ("order-service", 0.2, _orders),
    ("inventory", 0.2, _inventory),
    ("billing-worker", 0.1, _billing),
    ("orders-db", 0.04, _database),
    ("node-monitor", 0.05, _monitor),
    ("mail-relay", 0.03, _mail),
    ("config-agent", 0.02, _config),
)


def routine(rng: Random) -> list[Event]:
    """Return the routine records of both days, not sorted."""
    events = []
    hours = [START + timedelta(hours=h) for h in range(24 * N_DAYS)]
    weights = [HOUR_WEIGHTS[h.hour] for h in hours]
    for hour in rng.choices(hours, weights, k=N_ROUTINE):
        time = hour + timedelta(milliseconds=rng.randrange(3_600_000))
        (name, _, make) = rng.choices(SERVICES, [s[1] for s in SERVICES])[0]
        # An inventory that is down writes nothing.
        if name == "inventory" and is_outage(time):
            name, make = "gateway", _gateway
        level, message = make(rng, time)
        events.append(Event(time, level, name, message))
    return events
