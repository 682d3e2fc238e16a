"""What happened in `service.log`: one incident of the second day, and the unrelated rest.

CHG-20417 gives the inventory's cache a hundred times more entries (08:52) -> heap and GC pauses
grow -> the inventory dies of memory four times (09:47 to 10:31), each time leaving a heap dump ->
orders time out, the breaker opens, the queue grows -> the fourth dump fills /data of node-4, the
database cannot write, billing fails -> dumps deleted (10:38), change rolled back (10:44) -> the
breaker closes (10:46), the queue is drained (11:02).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from source.log_noise import START, Event

OOM_TIMES = ("09:47:33.918", "10:03:20.457", "10:15:42.006", "10:31:09.731")
HEAP = (("08:55", 41), ("09:05", 55), ("09:15", 67), ("09:25", 78), ("09:35", 89), ("09:45", 97))
GC_PAUSES = (
    ("09:21:14.310", 1.2),
    ("09:27:50.092", 1.6),
    ("09:31:08.771", 1.9),
    ("09:34:41.185", 2.3),
    ("09:38:02.640", 2.8),
    ("09:40:55.413", 3.1),
    ("09:43:12.966", 3.7),
    ("09:45:29.208", 4.4),
    ("09:46:48.550", 6.2),
)
QUEUE = (("09:50", 118), ("10:00", 702), ("10:10", 1284), ("10:20", 1911), ("10:30", 2577))
BILLING_FAILURES = (
    "10:32:04",
    "10:33:04",
    "10:34:05",
    "10:35:05",
    "10:36:06",
    "10:37:06",
    "10:38:07",
)
LOGIN_TIMES = tuple(f"22:{47 + i // 6:02d}:{(i * 9) % 54 + 3:02d}" for i in range(14))


def at(day: int, clock: str) -> datetime:
    """Return the time of day `clock` (`HH:MM[:SS[.mmm]]`) on day 11 or 12."""
    hms, _, millis = clock.partition(".")
    parts = [int(p) for p in hms.split(":")] + [0]
    return datetime(2026, 3, day, *parts[:3], int(millis or 0) * 1000, tzinfo=UTC)


def _oom(index: int, clock: str, rng: Random) -> list[Event]:
    time = at(12, clock)
    sku = rng.randrange(1000, 9999)
    trace = (
        "java.lang.OutOfMemoryError: Java heap space",
        "\tat java.base/java.util.HashMap.resize(HashMap.java:702)",
        "\tat java.base/java.util.HashMap.putVal(HashMap.java:661)",
        "\tat example.stock.cache.EntryCache.put(EntryCache.java:118)",
        "\tat example.stock.StockService.lookup(StockService.java:87)",
        "\tat example.stock.api.ReserveHandler.handle(ReserveHandler.java:44)",
        "\tat java.base/java.lang.Thread.run(Thread.java:1583)",
    )
    exit_time = time + timedelta(seconds=2, milliseconds=61)
    found = [
        Event(
            time,
            "FATAL",
            "inventory",
            f"worker-{index + 3} died while caching SKU-{sku}",
            trace,
            f"oom{index}",
        ),
        Event(
            exit_time,
            "ERROR",
            "supervisor",
            f"inventory exited with code 3, restart {index} of 5 in 5 s",
            (),
            f"restart{index}",
        ),
    ]
    if index < 4:
        found.append(
            Event(
                exit_time - timedelta(seconds=1),
                "WARN",
                "inventory",
                f"heap dump written: /data/dumps/inventory-{index}.hprof, 7.9 GiB, node-4",
                (),
                f"dump{index}",
            )
        )
        found.append(
            Event(
                exit_time + timedelta(seconds=26),
                "INFO",
                "inventory",
                "started in 21.4 s, cache.max-entries=5000000",
            )
        )
    else:
        found.append(
            Event(
                exit_time - timedelta(seconds=1),
                "ERROR",
                "inventory",
                "heap dump /data/dumps/inventory-4.hprof incomplete: No space left on device",
                (),
                "dump_full",
            )
        )
    return found


def _timeouts(rng: Random) -> list[Event]:
    """Return order-service's stack traces: 23 orders given up during the outage."""
    first, last = at(12, "09:48:03"), at(12, "10:43:30")
    events = []
    for i in range(23):
        time = first + (last - first) * i / 23 + timedelta(milliseconds=rng.randrange(60_000))
        order = rng.randrange(480_000, 520_000)
        trace = (
            "example.orders.ReservationTimeoutException: no answer from inventory within 2000 ms",
            "\tat example.orders.ReservationClient.reserve(ReservationClient.java:142)",
            "\tat example.orders.OrderFlow.confirm(OrderFlow.java:73)",
            "Caused by: java.net.SocketTimeoutException: Read timed out",
            "\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:288)",
            "\t... 12 more",
        )
        events.append(
            Event(
                time,
                "ERROR",
                "order-service",
                f"order {order} given up after 3 retries",
                trace,
                f"given_up{i}",
            )
        )
    return events


def _billing_failures() -> list[Event]:
    trace = (
        "Traceback (most recent call last):",
        '  File "/srv/billing/worker.py", line 214, in run_batch',
        "    ledger.store(batch)",
        '  File "/srv/billing/ledger.py", line 91, in store',
        "    cursor.executemany(INSERT_LINE, rows)",
        "db.errors.DiskFull: could not extend file base/16401/24977: No space left on device",
    )
    return [
        Event(
            at(12, f"{clock}.{300 + 7 * i}"),
            "ERROR",
            "billing-worker",
            f"batch {8841 + i} failed, will be tried again in 60 s",
            trace,
            f"billing{i}",
        )
        for i, clock in enumerate(BILLING_FAILURES)
    ]


def incident(rng: Random) -> list[Event]:
    """Return the records of the incident of 12 March."""

    def on(clock: str, level: str, service: str, message: str, key: str | None = None) -> Event:
        return Event(at(12, clock), level, service, message, (), key)

    events = [
        on(
            "08:52:17.204",
            "INFO",
            "config-agent",
            "CHG-20417 by ops-3 applied, revision 4117 -> 4118: "
            "inventory.cache.max-entries 50000 -> 5000000",
            "change",
        ),
        on(
            "08:52:18.011", "INFO", "inventory", "configuration reloaded: cache.max-entries=5000000"
        ),
        on(
            "09:48:12.550",
            "WARN",
            "order-service",
            "circuit breaker 'inventory' CLOSED -> OPEN, failure rate 64%",
            "breaker_open",
        ),
        on(
            "09:49:10.000",
            "WARN",
            "alerting",
            "incident INC-7731 opened: order success rate 41%, on call ops-1",
            "inc_open",
        ),
        on(
            "10:31:52.118",
            "ERROR",
            "orders-db",
            "could not write WAL segment: No space left on device (/data on node-4, 100% used)",
            "db_full",
        ),
        on(
            "10:38:40.402",
            "INFO",
            "ops-shell",
            "ops-1: rm /data/dumps/inventory-*.hprof, freed 27.3 GiB on node-4",
            "freed",
        ),
        on("10:39:02.877", "INFO", "orders-db", "WAL writing resumed", "db_ok"),
        on(
            "10:44:00.000",
            "WARN",
            "order-service",
            "reservation queue depth 3412, oldest 54 min",
            "queue_peak",
        ),
        on(
            "10:44:05.310",
            "INFO",
            "config-agent",
            "CHG-20419 by ops-1 applied, revision 4118 -> 4119: "
            "inventory.cache.max-entries 5000000 -> 50000 (rolls back CHG-20417)",
            "rollback",
        ),
        on(
            "10:44:31.926",
            "INFO",
            "inventory",
            "started in 20.8 s, cache.max-entries=50000",
            "healthy",
        ),
        on(
            "10:46:02.118", "INFO", "order-service", "circuit breaker 'inventory' OPEN -> HALF_OPEN"
        ),
        on(
            "10:46:32.118",
            "INFO",
            "order-service",
            "circuit breaker 'inventory' HALF_OPEN -> CLOSED",
            "breaker_closed",
        ),
        on(
            "11:02:47.339",
            "INFO",
            "order-service",
            "reservation queue drained, 3412 reservations made up in 18 min",
            "drained",
        ),
        on(
            "11:05:00.000",
            "INFO",
            "alerting",
            "incident INC-7731 closed by ops-1, order success rate 99.8%",
            "inc_closed",
        ),
        on(
            "15:20:44.615",
            "ERROR",
            "report-scheduler",
            "job quarterly-export failed: MemoryError, limit of 512 MiB reached",
            "memory_error",
        ),
    ]
    events += [
        on(
            f"{clock}:00.140",
            "INFO" if used < 80 else "WARN",
            "inventory",
            f"heap used {used}% of 8 GiB",
            f"heap{used}",
        )
        for clock, used in HEAP
    ]
    events += [
        on(
            clock,
            "WARN",
            "inventory",
            f"GC pause {pause} s (full collection), heap 8 GiB",
            f"gc{i}",
        )
        for i, (clock, pause) in enumerate(GC_PAUSES)
    ]
    events += [
        on(f"{clock}:00.000", "WARN", "order-service", f"reservation queue depth {depth}")
        for clock, depth in QUEUE
    ]
    for i, clock in enumerate(OOM_TIMES, start=1):
        events += _oom(i, clock, rng)
    return events + _timeouts(rng) + _billing_failures()


def unrelated(rng: Random) -> list[Event]:
    """Return what else is remarkable in the two days and has nothing to do with the incident."""

    def on(clock: str, level: str, service: str, message: str, key: str | None = None) -> Event:
        return Event(at(11, clock), level, service, message, (), key)

    value_error = (
        "Traceback (most recent call last):",
        '  File "/srv/billing/worker.py", line 167, in issue',
        "    vat = parse_vat_id(order.vat_id)",
        "ValueError: invalid VAT id 'XX-0000'",
    )
    events = [
        on("00:00:00.002", "INFO", "config-agent", "started, revision 4117", "start"),
        on(
            "10:30:05.630",
            "INFO",
            "deploy-agent",
            "order-service 5.18.1 -> 5.18.2 rolled out to 4 of 4 instances in 96 s",
            "deploy",
        ),
        on(
            "09:40:12.808",
            "WARN",
            "orders-db",
            "slow query 8412 ms: SELECT * FROM order_lines WHERE created_at > $1",
            "slow",
        ),
        on(
            "04:12:00.000",
            "WARN",
            "gateway",
            "certificate of api.shop.example expires in 21 days",
            "cert",
        ),
        on(
            "16:05:31.090",
            "WARN",
            "node-monitor",
            "host=node-2 disk:/var/log=91% above limit of 90%",
            "varlog",
        ),
        on(
            "16:20:02.447",
            "INFO",
            "node-monitor",
            "host=node-2 disk:/var/log=38% after log rotation",
        ),
        on(
            "22:49:30.770",
            "WARN",
            "auth",
            "account svc-report locked after 14 failed logins",
            "locked",
        ),
        Event(
            at(11, "14:22:51.219"),
            "ERROR",
            "billing-worker",
            "order 497310 not invoiced",
            value_error,
            "vat",
        ),
    ]
    events += [
        on(
            f"{clock}.{rng.randrange(1000):03d}",
            "WARN",
            "auth",
            "login failed for svc-report from 10.20.7.91",
            f"login{i}",
        )
        for i, clock in enumerate(LOGIN_TIMES)
    ]
    for day, (duration, size) in enumerate((("17 min 41 s", "41.8"), ("18 min 05 s", "42.3"))):
        begin = START + timedelta(days=day, hours=2)
        minutes, seconds = (int(p) for p in duration.split()[::2])
        events += [
            Event(begin, "INFO", "backup", "nightly backup of orders-db started"),
            Event(
                begin + timedelta(minutes=minutes, seconds=seconds),
                "INFO",
                "backup",
                f"nightly backup of orders-db finished in {duration}, {size} GiB",
                (),
                f"backup{day}",
            ),
        ]
    return events
