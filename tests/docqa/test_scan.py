"""Exact scans: which questions are scans, what they look for, and that the numbers are right."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from docqa.chunk_log import chunk_log_records
from docqa.protocols import ParseOptions
from docqa.scan import ScanResult, prefilter_terms, run_scan
from docqa.scan_fields import values_of
from docqa.scan_intent import Operation, scan_intent
from docqa.scan_measures import durations, sizes
from docqa.scan_source import named_logs
from docqa.scan_text import describe
from docqa.scan_time import find_time_range
from docqa.types import BlockKind, Chunk, Scope
from tests.docqa.make import chunk

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "sample_docs/service.log"
LOGS = ROOT / "../shared/data/logs"
OPTIONS = ParseOptions()

SCANS = [
    # question, operation, terms, levels, field or bucket
    ("How many errors were there?", "count", [], "EF", ""),
    ("how many warnings are in the log", "count", [], "W", ""),
    ("How many fatal errors occurred?", "count", [], "F", ""),
    ("count the errors", "count", [], "EF", ""),
    ("How many lines are in the log?", "count", [], "", ""),
    ("How many times did an OutOfMemoryError happen?", "count", ["OutOfMemoryError"], "", ""),
    ('How many lines contain "connection refused"?', "count", ["connection refused"], "", ""),
    ("How many lines contain 'disk full'?", "count", ["disk full"], "", ""),
    ("How often did broker 2 disconnect?", "count", ["broker", "2", "disconnect"], "", ""),
    ("how many failed logins for svc-report", "count", ["failed logins", "svc-report"], "", ""),
    (
        "How many full GC pauses did inventory report?",
        "count",
        ["full gc pauses", "inventory"],
        "",
        "",
    ),
    ("number of timeouts in server.log", "count", ["timeouts"], "", ""),
    ("What is the total number of retries?", "count", ["retries"], "", ""),
    ("How many 404 responses were there?", "count", ["404"], "", ""),
    ("How many requests got status 503?", "count", ["requests", "503"], "", ""),
    ("how many 404s in the shop access log", "count", ["404", "shop access"], "", ""),
    ("How many connection errors were logged?", "count", ["connection"], "EF", ""),
    ("How many ERROR lines mention kafka.controller?", "count", ["kafka.controller"], "EF", ""),
    ("how many times was user root rejected", "count", ["user root rejected"], "", ""),
    ("When did the first OutOfMemoryError occur?", "first", ["OutOfMemoryError"], "", ""),
    ("What was the first error?", "first", [], "EF", ""),
    ("first WARN in server.log", "first", [], "W", ""),
    ("When was the earliest login of alice?", "first", ["login", "alice"], "", ""),
    ("time of the last OutOfMemoryError", "last", ["OutOfMemoryError"], "", ""),
    ("When was the most recent restart?", "last", ["restart"], "", ""),
    ("latest message from sshd[1291]", "last", ["sshd", "1291"], "", ""),
    ("what is the last line with ORA-00942", "last", ["ORA-00942"], "", ""),
    ("When did the circuit breaker open?", "when", ["circuit breaker open"], "", ""),
    ("when was incident INC-7731 opened", "when", ["incident", "INC-7731", "opened"], "", ""),
    ("At what time was segment 912806 deleted?", "when", ["segment", "912806", "deleted"], "", ""),
    ("On which day did the controller start?", "when", ["controller start"], "", ""),
    ("list all occurrences of NullPointerException", "list", ["NullPointerException"], "", ""),
    ('show me all lines with "circuit breaker"', "list", ["circuit breaker"], "", ""),
    ("show the last 5 errors", "list", [], "EF", ""),
    ("List the warnings between 10:00 and 11:00", "list", [], "W", ""),
    ("find every line containing 10.0.0.7", "list", ["10.0.0.7"], "", ""),
    ("Which hour had the most errors?", "histogram", [], "EF", "hour"),
    ("errors per hour", "histogram", [], "EF", "hour"),
    ("How many requests per minute?", "histogram", ["requests"], "", "minute"),
    ("On which day were there the most timeouts?", "histogram", ["timeouts"], "", "day"),
    ("hourly count of 503 responses", "histogram", ["503"], "", "hour"),
    ("Which services logged errors?", "top", [], "EF", "service"),
    ("Which hosts had timeouts?", "top", ["timeouts"], "", "host"),
    ("From which address came the failed logins?", "top", ["failed logins"], "", "address"),
    ("top 3 status codes", "top", [], "", "status"),
    ("Which IP addresses were rejected?", "top", ["rejected"], "", "address"),
    ("How many different users were rejected?", "top", ["rejected"], "", "user"),
    ("most common exceptions", "top", [], "", "exception"),
    ("what is the most common error", "top", [], "EF", "message"),
    ("errors per service", "top", [], "EF", "service"),
    ("Which URLs returned 404 errors?", "top", ["returned", "404"], "", "path"),
    ("how long was the longest GC pause in gc.log?", "longest", ["gc pause"], "", ""),
    ("What was the slowest query?", "longest", ["query"], "", ""),
    ("which job took the longest", "longest", ["job"], "", ""),
    ("the shortest time of job quarterly-export", "shortest", ["job", "quarterly-export"], "", ""),
    ("How long did the slowest error take?", "longest", [], "EF", ""),
    ("how many WARN entries in state-change.log.2016-12-19-18", "count", [], "W", ""),
    ("Warnings in caddy_log.0 - how many altogether?", "count", [], "W", ""),
    ('syslog: number of "Invalid packet" messages', "count", ["Invalid packet"], "", ""),
    ("Which files had the most errors (404)?", "top", ["404"], "EF", "path"),
    ("how many different web hosts were visited", "top", ["visited"], "", "host"),
    ("in which single hour did we get most requests", "histogram", ["requests"], "", "hour"),
    ("slowest roll of a segment, in ms", "longest", ["roll", "segment"], "", ""),
    ("What is the largest response (in bytes)?", "largest", [], "", "response"),
    ("How big was the biggest PUT request?", "largest", ["PUT", "request"], "", "request"),
    ("the smallest file in transfer.log", "smallest", [], "", "file"),
]

NOT_SCANS = [
    "Why did billing batch 8841 fail?",
    "How did the outage begin?",
    "What caused the OutOfMemoryError?",
    "How do I restart the broker?",
    "How long did the outage last?",
    "How long did the slow query take?",
    "How large was the second nightly backup?",
    "How much disk space was freed?",
    "Summarise the errors of the log",
    "Explain the first error",
    "What happened on 2026-03-11?",
    "What happened between 10:00 and 11:00?",
    "How many employees does the company have?",
    "How many pages does the report have?",
    "When was the contract signed?",
    "In how many days does the certificate expire?",
    "How many minutes did the restart take?",
    "How many requests took longer than 500 ms?",
    "How many queries were slower than usual?",
    "What was the average response time?",
    "Which configuration change did ops-3 apply?",
    "Which change rolled back CHG-20417?",
    "Which kernel version runs on node-4?",
    "What is the password of svc-report?",
    "What does error 1045 mean?",
    "How many errors were there yesterday?",
    "How many errors in the last hour?",
    "When is the next service due?",
    "When should the filter be replaced?",
    "How often must the oil be changed?",
    "Until when is the certificate valid?",
    "What is the article number of the seal kit?",
    "What is the reason for the crash?",
    "Describe all errors",
    "Compare the errors of both days",
    "Is the broker running?",
    "",
    "error",
]

_LEVELS = {"E": "ERROR", "F": "FATAL", "W": "WARN"}


@pytest.mark.parametrize(("question", "operation", "terms", "levels", "detail"), SCANS)
def test_questions_that_are_scans(
    question: str, operation: str, terms: list[str], levels: str, detail: str
) -> None:
    query = scan_intent(question)
    assert query is not None
    assert query.operation == operation
    assert [term.text for term in query.terms] == terms
    assert query.levels == {_LEVELS[letter] for letter in levels}
    assert (query.field or query.bucket) == detail


@pytest.mark.parametrize("question", NOT_SCANS)
def test_questions_that_have_to_be_read(question: str) -> None:
    assert scan_intent(question) is None


def test_there_are_enough_questions() -> None:
    assert len(SCANS) + len(NOT_SCANS) >= 60


# --- time ranges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "inside", "outside"),
    [
        ("errors on 3 March", "2026-03-03T23:59:59", "2026-03-04T00:00:00"),
        ("errors on March 3rd, 2025", "2025-03-03T00:00:00", "2026-03-03T00:00:00"),
        ("between 10:00 and 11:00", "2026-03-03T10:59:59", "2026-03-03T11:00:00"),
        ("from 10:00 to 11:00 on 12 March", "2026-03-12T10:00:00", "2026-03-13T10:00:00"),
        ("after 14:30", "2026-03-03T14:30:00", "2026-03-03T14:29:59"),
        ("before 9am", "2026-03-03T08:59:59", "2026-03-03T09:00:00"),
        ("at 10:15", "2026-03-03T10:15:59", "2026-03-03T10:16:00"),
        ("at 3pm", "2026-03-03T15:59:59", "2026-03-03T16:00:00"),
        ("since 2026-03-11 09:47", "2026-03-12T01:00:00", "2026-03-11T09:46:59"),
        ("after 11 March", "2026-03-12T00:00:00", "2026-03-11T23:59:59"),
        ("until 11 March", "2026-03-11T23:59:59", "2026-03-12T00:00:00"),
        ("between 2026-03-11 and 2026-03-12", "2026-03-12T23:00:00", "2026-03-13T00:00:00"),
        ("on 11.03.2026", "2026-03-11T12:00:00", "2026-11-03T12:00:00"),
        ("in May 2015", "2015-05-31T23:59:59", "2015-06-01T00:00:00"),
        ("after Dec 2015", "2016-01-01T00:00:00", "2015-12-31T23:59:59"),
        ("for 20h on 19 Dec 2016", "2016-12-19T20:59:59", "2016-12-19T21:00:00"),
        ("19 Dec 2016 between 18:00 and 19:00", "2016-12-19T18:00:00", "2016-12-20T18:00:00"),
    ],
)
def test_time_ranges(question: str, inside: str, outside: str) -> None:
    found, rest = find_time_range(f"how many errors {question} in total")
    assert found is not None
    assert "error" in rest and not re.search(r"\d", rest)
    times = [datetime.fromisoformat(text + "+00:00").timestamp() for text in (inside, outside)]
    assert [found.holds(time) for time in times] == [True, False]
    assert found.may_hold(times[0], times[0])
    assert not found.holds(None)


@pytest.mark.parametrize(
    "question", ["how many 404 errors", "version 1.2.3", "port 10", "31.02.2026"]
)
def test_no_time_range(question: str) -> None:
    assert find_time_range(question) == (None, question)


# --- the sample log ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service() -> list[Chunk]:
    found = chunk_log_records(SERVICE, OPTIONS)
    return [item for item in found if isinstance(item, Chunk)]


def scanned(question: str, chunks: list[Chunk], scope: Scope | None = None) -> ScanResult:
    query = scan_intent(question)
    assert query is not None
    return run_scan(query, chunks, scope, paths={0: str(SERVICE)})


def grep(pattern: str) -> list[int]:
    lines = SERVICE.read_text(encoding="utf-8").split("\n")
    return [number for number, line in enumerate(lines, 1) if re.search(pattern, line, re.I)]


@pytest.mark.parametrize(
    ("question", "pattern"),
    [
        ("How many times did an OutOfMemoryError happen?", r"\bOutOfMemoryError\b"),
        ("How many ReservationTimeoutException stack traces are there?", "ReservationTimeoutEx"),
        ("How many full GC pauses did inventory report?", r"inventory.*GC pause.*full"),
        ('How many lines contain "login failed for svc-report"?', "login failed for svc-report"),
        ("How many errors were there?", r"^\S+ (?:ERROR|FATAL) "),
        ("How many warnings were there?", r"^\S+ WARN "),
        ("How many 404 responses were there?", r"\] req=\S+ [A-Z]+ \S+ 404 "),
        (
            "How many errors between 10:00 and 11:00 on 12 March?",
            r"^2026-03-12T10\S+ (?:ERR|FATAL)",
        ),
        ("How many warnings were there before 12 March?", r"^2026-03-11\S+ WARN "),
        ("When was incident INC-7731 opened?", "INC-7731 opened"),
        ("When did the circuit breaker open?", r"circuit breaker.*\bOPEN\b"),
        ("When did the first OutOfMemoryError occur?", r"\bOutOfMemoryError\b"),
    ],
)
def test_counts_equal_grep(service: list[Chunk], question: str, pattern: str) -> None:
    expected = grep(pattern)
    assert expected
    tally = scanned(question, service).tally
    assert [match.line for match in tally.matches] == expected
    assert tally.n_records == tally.n_lines == len(expected)
    assert tally.first is not None and tally.first.line == expected[0]
    assert tally.last is not None and tally.last.line == expected[-1]


def test_the_answer_shows_its_query_its_number_and_its_lines(service: list[Chunk]) -> None:
    said = describe(scanned("How many times did an OutOfMemoryError happen?", service))
    assert said.text.startswith('4 records. Scanned for lines with "OutOfMemoryError" (any case).')
    assert [match.line for match in said.cited] == [12231, 12493, 12692, 12967]
    assert all(f"[{n}]" in said.text for n in range(1, 5))


def test_cited_characters_are_those_of_the_text(service: list[Chunk]) -> None:
    text = SERVICE.read_text(encoding="utf-8")
    for question in ("how many OutOfMemoryError", "list all errors", "top 3 services"):
        for match in describe(scanned(question, service)).cited:
            assert text[match.char_start : match.char_end] == match.text
            assert text[match.head_start :].startswith(match.head)
            assert text.count("\n", 0, match.char_start) + 1 == match.line


def test_the_time_of_a_line_in_a_trace_is_its_records(service: list[Chunk]) -> None:
    said = describe(scanned("time of the last OutOfMemoryError", service))
    assert said.text.startswith("Last: 2026-03-12 10:31:09.731 UTC, line 12,967:")
    assert "(in the record of line 12,966: " in said.text


def test_words_beat_a_phrase_that_holds_few_of_them(service: list[Chunk]) -> None:
    """One line says "failed logins", fourteen say "login failed"."""
    result = scanned("How many failed logins were there for svc-report?", service)
    assert not result.reading.is_phrase
    text = describe(result).text
    assert "14 × WARN [auth] login failed for svc-report from *" in text
    assert text.startswith("15 records, 14 of them of the commonest kind of 2. Scanned for")


def test_top_and_histogram(service: list[Chunk]) -> None:
    result = scanned("From which address came the failed logins?", service)
    assert dict(result.tally.values) == {"10.20.7.91": 14}
    result = scanned("Which hour had the most errors?", service)
    hours: dict[str, int] = {}
    for line in SERVICE.read_text(encoding="utf-8").split("\n"):
        if re.match(r"\S+ (?:ERROR|FATAL) ", line):
            hour = line[:13].replace("T", " ") + ":00"
            hours[hour] = hours.get(hour, 0) + 1
    assert dict(result.tally.values) == hours
    assert describe(result).text.startswith(f"Most: {max(hours, key=lambda h: hours[h])} with ")


@pytest.mark.parametrize(
    ("question", "word", "pick"),
    [("the slowest POST of gateway", "Longest", max), ("fastest gateway POST", "Shortest", min)],
)
def test_longest_and_shortest(service: list[Chunk], question: str, word: str, pick) -> None:
    stated = {
        number: float(found[1])
        for number, line in enumerate(SERVICE.read_text(encoding="utf-8").split("\n"), 1)
        if (found := re.search(r"\[gateway\].* POST .* (\d+)ms\b", line))
    }
    result = scanned(question, service)
    said = describe(result)
    wanted = pick(stated.values())
    assert result.tally.n_records == len(stated)
    assert said.text.startswith(f"{word}: {wanted:.0f}ms, 2026-03-1")
    assert stated[said.cited[0].line] == wanted
    assert f"{word} of {len(stated):,} records that state how long. Scanned for" in said.text


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("[GC pause (G1 Evacuation Pause) (young), 0.3874752 secs]", [0.3874752]),
        ("slow query: 8,412 ms (limit 1000ms)", [8.412, 1.0]),
        ('{"durationMillis":120,"n":3}', [0.12]),
        ("elapsed_us=45 in 2 minutes", [120.0, 45e-6]),
        ("2016-12-20T00:08:16.899+0100: 22762.159: 5 MB/s, 3 of 4, s3, up", []),
        ("# Query_time: 0.011857  Lock_time: 0.25", [0.011857, 0.25]),
        ('{"duration":12,"request_time":"10:15:00"}', [12.0]),
    ],
)
def test_durations(line: str, seconds: list[float]) -> None:
    assert [d.value for d in durations(line)] == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("line", "of", "n_bytes"),
    [
        ('1.2.3.4 - - [17/May/2015] "GET /7 HTTP/1.1" 200 1,5 "-" "x"', "", []),
        ('1.2.3.4 - - [17/May/2015] "GET /7 HTTP/1.1" 200 185207 "-" "x"', "", [185207]),
        ("sent 14 kB, 2.5 MiB left", "file", [14_000, 2.5 * 2**20]),
        ("request_bytes=5 response_bytes=7", "response", [7]),
        ("request_bytes=5 response_bytes=7", "", [5, 7]),
        ('{"file_size": 12, "content_length": "90"}', "file", [12]),
        ("5 MB/s, 3 of 4, v2.0", "", []),
    ],
)
def test_sizes(line: str, of: str, n_bytes: list[float]) -> None:
    assert [size.value for size in sizes(line, of)] == pytest.approx(n_bytes)


def test_what_states_no_duration_is_no_answer(service: list[Chunk]) -> None:
    assert scanned("What was the slowest OutOfMemoryError?", service).tally.n_records == 0


def test_last_few_of_many(service: list[Chunk]) -> None:
    said = describe(scanned("show the last 3 errors", service))
    assert [match.line for match in said.cited] == grep(r"^\S+ (?:ERROR|FATAL) ")[-3:]


def test_scope_holds_for_each_record(service: list[Chunk]) -> None:
    at = datetime(2026, 3, 12, 10, 0, tzinfo=UTC).timestamp()
    result = scanned("How many errors were there?", service, Scope(until=at))
    assert result.tally.n_records == len(grep(r"^2026-03-(?:11|12T0\d)\S+ (?:ERROR|FATAL) "))
    result = scanned("How many OutOfMemoryError?", service, Scope(levels=frozenset({"WARN"})))
    assert result.tally.n_records == 0
    assert describe(result).text.startswith("0 records match.")


def test_nothing_found_stays_nothing(service: list[Chunk]) -> None:
    assert scanned("When did the payment-service crash?", service).tally.n_records == 0


def test_a_prefilter_changes_nothing(service: list[Chunk]) -> None:
    question = "How many failed logins were there for svc-report?"
    query = scan_intent(question)
    assert query is not None
    terms = prefilter_terms(query)
    assert terms == ("svc-report",)
    some = [c for c in service if all(term in c.text for term in terms)]
    assert 0 < len(some) < len(service) // 4
    assert scanned(question, some).tally.matches == scanned(question, service).tally.matches


def test_a_file_that_the_question_names(service: list[Chunk]) -> None:
    query = scan_intent("How many errors are in other.log?")
    assert query is not None and query.files == ("other.log",)
    result = run_scan(query, service, paths={0: "/x/service.log", 1: "/x/other.log"})
    assert result.tally.n_records == 0


# --- real logs -----------------------------------------------------------------------------------

REAL = [
    (
        "*auth.log",
        "How many times was an invalid user seen?",
        r"\binvalid\b.*\buser\b|\buser\b.*\binvalid\b",
    ),
    ("*auth.log", "How many lines contain 'Failed password'?", "Failed password"),
    ("*apache_logs", "How many 404 responses were there?", r'HTTP/\d\.\d" 404 '),
    ("*apache_logs", "How many requests came from 83.149.9.216?", r"(?<![\w.])83\.149\.9\.216\b"),
    ("*server.log.2016-12-19-20", "How many warnings?", r"^\[[^]]+\] WARN "),
    ("*server.log.2016-12-19-20", "How often was a segment rolled?", r"\bRolled\b.*\bsegment"),
    (
        "*state-change.log",
        "How many UpdateMetadata requests went to broker 2?",
        r"(?=.*\bUpdateMetadata\b)(?=.*\brequests?\b)(?=.*\bbroker\b)(?=.*\b2\b)",
    ),
]


@pytest.mark.skipif(not LOGS.is_dir(), reason="shared/data/logs is not here")
@pytest.mark.parametrize(("name", "question", "pattern"), REAL)
def test_counts_on_real_logs(name: str, question: str, pattern: str) -> None:
    (path,) = LOGS.glob(f"elastic/{name}")
    lines = path.read_text(encoding="utf-8").split("\n")
    expected = [n for n, line in enumerate(lines, 1) if re.search(pattern, line, re.I)]
    query = scan_intent(question)
    assert query is not None
    chunks = (c for c in chunk_log_records(path, OPTIONS) if isinstance(c, Chunk))
    tally = run_scan(query, chunks).tally
    assert tally.n_lines == len(expected) > 0


@pytest.mark.parametrize(
    ("field", "record", "values"),
    [
        ("address", "from 10.0.0.1 to 10.0.0.2, version 1.2.3", ["10.0.0.1", "10.0.0.2"]),
        ("user", "Failed password for invalid user bob from 1.2.3.4", ["bob"]),
        ("user", '{"user":"alice"}', ["alice"]),
        ("host", "Mar  1 10:00:00 web1 sshd[1]: x", ["web1"]),
        ("service", "2020-01-01 10:00:00 ERROR [billing] x", ["billing"]),
        ("status", '"GET / HTTP/1.1" 404 17', ["404"]),
        ("path", '"GET /a/b HTTP/1.1" 404 17', ["/a/b"]),
        ("exception", "Caused by: java.io.IOException: no", ["java.io.IOException"]),
        ("address", "nothing here at 2015:10:05:03", []),
        ("address", "from fe80::1ff:fe23:4567:890a and ::1", ["fe80::1ff:fe23:4567:890a", "::1"]),
        ("address", "from 2001:db8:0:0:0:0:2:1", ["2001:db8:0:0:0:0:2:1"]),
        ("address", "client: 10.0.0.2, server: 10.0.0.1", ["10.0.0.2"]),
        ("address", "DROP IN=eth0 SRC=10.0.0.2 DST=10.0.0.1", ["10.0.0.2"]),
        ("command", "sudo: ada : TTY=pts/0 ; COMMAND=/bin/cat /etc/x", ["/bin/cat /etc/x"]),
        ("address", '1.2.3.4 - - [17/May/2015] "GET /?from=10.0.0.9 HTTP/1.1" 200 1', ["1.2.3.4"]),
        ("address", "192.168.4.2 haproxy[7]: 87.1.2.3:50189 [25/Feb/2019:16:20:12]", ["87.1.2.3"]),
        ("user", "Failed password for invalid user  from 1.2.3.4", []),
        ("user", "Failed password for invalid user from 1.2.3.4", []),
        ("user agent", '"GET / HTTP/1.1" 200 17 "-" "Mozilla/5.0 (X11)"', ["Mozilla/5.0 (X11)"]),
        ("user agent", '{"user_agent":"curl/8.1"}', ["curl/8.1"]),
    ],
)
def test_fields(field: str, record: str, values: list[str]) -> None:
    assert values_of(field, record) == values


def test_operations_are_all_asked_for() -> None:
    assert {operation for _, operation, *_ in SCANS} == {str(o) for o in Operation}


def lines_of(*lines: str) -> list[Chunk]:
    return [chunk("\n".join(lines), doc_id=0, line=1, kind=BlockKind.RECORD)]


WEB = lines_of(
    '10.0.0.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 17 "-" "curl"',
    '10.0.0.7 - - [17/May/2015:11:05:03 +0000] "GET /a HTTP/1.1" 404 17 "-" "curl"',
    '10.0.0.8 - - [17/May/2015:11:06:03 +0000] "GET /last-request HTTP/1.1" 200 17 "-" "wget"',
)


@pytest.mark.parametrize(
    ("question", "first_line"),
    [
        ("How many requests are in the log?", "3 records"),
        ("Which IP made the most requests?", "10.0.0.7: 2 [1]"),
        ("How many unique visitors are in the log?", "2 different (address) in 3 records."),
        ("Which page had the most hits?", "/a: 2 [1]"),
        ("Which browser made the most requests?", "curl: 2 [1]"),
        ("Which status codes occur in the log?", "200: 2 [1]"),
        ("requests per hour in the log of the web server", "Most: 2015-05-17 11:00 with 2 [1]"),
        ("What is the busiest hour?", "Most: 2015-05-17 11:00 with 2 [1]"),
        ("What were the first and the last request?", "3 records"),
        ("How many cache hits are in the log?", "0 records match."),
        ("When was the last 404?", "Last: 2015-05-17 11:05:03 UTC"),
        ("Which address caused the most 404s?", "10.0.0.7: 1 [1]"),
        ("Which user agent shows up most often?", "curl: 2 [1]"),
        ("Which client address made most of the requests?", "10.0.0.7: 2 [1]"),
        ("Which addresses did 10.0.0.7 ask?", "2 records, none states a value"),
        ("What was the largest response?", "Largest: 17 bytes, 2015-05-17 10:05:03 UTC, line 1"),
    ],
)
def test_what_an_access_log_is_asked(question: str, first_line: str) -> None:
    result = scanned(question.replace(" of the web server", ""), WEB)
    assert describe(result).text.startswith(first_line)


IIS = [
    "#Software: Microsoft Internet Information Services 8.5",
    "#Fields: date time cs-method cs-uri-stem c-ip cs(User-Agent) sc-status sc-bytes time-taken",
    "2015-01-13 00:32:17 GET /a 10.0.0.7 Mozilla/5.0+(X11) 404 1405 283",
    "2015-01-13 01:32:17 GET /b 10.0.0.7 - 200 200 404",
    "2015-01-13 01:33:17 POST /b 10.0.0.8 curl/8 404 31 12",
]
ZEEK = [
    "#separator \\x09",
    "#fields\tts\tid.orig_h\tmethod\thost\turi\tstatus_code\tduration",
    "1320279566.452687\t10.0.0.7\tGET\ta.example\t/x\t200\t116.438679",
    "1320279567.452687\t10.0.0.8\tGET\tb.example\t/y\t-\t0.5",
    "1320279568.452687\t10.0.0.8\tGET\ta.example\t/z\t404\t-",
]


@pytest.mark.parametrize(
    ("lines", "question", "first_line"),
    [
        (IIS, "How many requests returned 404?", "2 records"),
        (IIS, "Which address made the most requests?", "10.0.0.7: 2 [1]"),
        (IIS, "Which path was requested most?", "/b: 2 [1]"),
        (IIS, "Which browser made the most requests?", "Mozilla/5.0 (X11): 1 [1]"),
        (IIS, "What was the slowest request?", "Longest: 404 ms, 2015-01-13 01:32:17 UTC, line 4"),
        (
            IIS,
            "What was the largest response?",
            "Largest: response_bytes=1405, 2015-01-13 00:32:17",
        ),
        (ZEEK, "To which host did the most requests go?", "a.example: 2 [1]"),
        (ZEEK, "Which status codes occur in the log?", "200: 1 [1]"),
        (ZEEK, "What was the longest duration?", "Longest: 116.438679 s, 2011-11-03"),
    ],
)
@pytest.mark.parametrize("is_below", [False, True])
def test_columns_that_only_a_header_names(
    lines: list[str], question: str, first_line: str, is_below: bool
) -> None:
    (whole,) = lines_of(*lines)
    if is_below:  # the header stands in an earlier chunk
        text = "\n".join(lines[2:])
        (whole,) = lines_of(text)
        place = replace(whole.span.locator, first=3, last=len(lines))
        whole = replace(whole, headings=(lines[1],), span=replace(whole.span, locator=place))
    assert describe(scanned(question, [whole])).text.startswith(first_line)


def test_the_slowest_of_a_log_is_found_beside_words_of_its_record() -> None:
    slow = lines_of(
        "2021-01-26 23:45:57 User@Host: owncloud[owncloud]",
        "  Query_time: 0.2",
        "2021-01-26 23:45:58 User@Host: owncloud[owncloud]",
        "  Query_time: 0.7",
    )
    said = describe(scanned("How long took the slowest query of owncloud in slow.log?", slow))
    assert said.text.startswith("Longest: Query_time: 0.7, 2021-01-26 23:45:58 UTC, line 4")


def test_success_has_several_names() -> None:
    result = scanned("How many successful password logins over ssh?", SSHD)
    assert result.tally.n_records == 1


@pytest.mark.parametrize(
    "question",
    [
        "On which day does the log of the pump that was repaired begin?",
        "What is the hourly rate of the consultant in this agreement?",
        "What day of the week is named in the log of the harbour master?",
    ],
)
def test_a_day_that_is_read_and_not_counted(question: str) -> None:
    query = scan_intent(question)
    assert query is None or query.operation is not Operation.HISTOGRAM


def test_two_levels() -> None:
    found = [scan_intent(f"How many {words} are there?") for words in ("warnings", "errors")]
    both = scan_intent("How many warnings and errors are there?")
    assert both is not None and all(found)
    assert both.levels == frozenset().union(*(query.levels for query in found if query))


@pytest.mark.parametrize(("file", "n_records"), [("auth.log", 1), ("uth.log", 2)])
def test_a_file_is_named_by_the_end_of_its_name_too(file: str, n_records: int) -> None:
    other = replace(SSHD[0], span=replace(SSHD[0].span, doc_id=1))
    query = scan_intent(f"How many lines with ada does {file} have?")
    assert query is not None
    paths = {0: "/logs/web1__auth.log", 1: "/logs/web1.log"}
    result = run_scan(query, [*SSHD, other], paths=paths)
    assert (result.tally.n_records, result.is_named) == (n_records, n_records == 1)


def test_the_last_ones_are_the_last_in_time() -> None:
    earlier = lines_of("Mar 28 10:00:00 web1 sshd[1]: Failed password for zoe from 10.0.0.1 port 1")
    second = [replace(c, span=replace(c.span, doc_id=1)) for c in earlier]
    query = scan_intent("What were the last 2 failed passwords?")
    assert query is not None
    text = describe(run_scan(query, [*SSHD, *second], paths={0: "/a.log", 1: "/b.log"})).text
    assert "eve" in text and "dan" in text and "zoe" not in text


SSHD = lines_of(
    "Mar 29 10:31:20 web1 sshd[1]: Accepted publickey for ada from 10.0.0.7 port 5",
    "Mar 29 10:43:01 web1 sshd[2]: Accepted password for bob from 10.0.0.8 port 6",
    "Mar 29 10:44:00 web1 sshd[3]: Failed password for eve from 10.0.0.9 port 7",
    "Mar 29 10:45:00 web1 sshd[3]: Failed password for eve from 10.0.0.9 port 8",
    "Mar 29 10:46:00 web1 sshd[4]: Failed password for dan from 10.0.0.6 port 9",
)


def test_words_that_no_line_has_are_given_up_beside_others() -> None:
    result = scanned("Which IP had the most failed ssh password attempts on web1?", SSHD)
    assert result.tally.values.most_common(1) == [("10.0.0.9", 2)]
    result = scanned("How many requests were answered with status 404?", SSHD)
    assert result.tally.n_records == 0  # a status is not given up
    result = scanned("How many failed attempts?", SSHD)
    assert result.tally.n_records == 0  # one plain word is not enough
    result = scanned("How many failed attempts per day are in auth.log?", SSHD)
    assert result.tally.values == {"1970-03-29": 3}  # but of a log that is named


@pytest.mark.parametrize(
    ("question", "is_status"),
    [
        ("How many requests returned 404 in the log?", True),
        ("How many requests were answered with 503?", True),
        ("When was the last 404 in the log?", True),
        ("show the last 500 lines", False),
        ("How many times did it end with 500 ms to go?", False),
        ("How many batches returned 200 rows?", False),
    ],
)
def test_a_status_by_what_is_done_with_it(question: str, is_status: bool) -> None:
    query = scan_intent(question)
    assert query is not None
    assert any(term.is_status for term in query.terms) == is_status


@pytest.mark.parametrize(
    "aside",
    ["(not publickey)", "(without publickey)", "excluding publickey", "other than publickey"],
)
def test_what_a_line_may_not_have(aside: str) -> None:
    question = f"When did sshd accept a login {aside} for the first time?"
    result = scanned(question, SSHD)
    assert result.tally.first is not None and result.tally.first.line == 2
    assert result.tally.n_records == 1
    assert describe(result).text.endswith('without "publickey".')
    assert scanned("How many requests were not accepted?", SSHD).query.without == ()


PATHS = {
    1: "/logs/shop_access_log.0",
    2: "/logs/access_log.1",
    3: "/logs/apache_logs",
    4: "/logs/postgres.log",
}


@pytest.mark.parametrize(
    ("question", "doc_ids", "terms"),
    [
        ("how many 404s in the shop access log", {1}, ["404"]),
        ("how many 404s in the zanbil shop access log", {1}, ["404"]),
        ("how many requests in apache_logs had status 500?", {3}, ["500"]),
        ("how many errors are in the postgres log?", {4}, []),
        ("how many 404s for 10.0.0.7 in the access log?", {1, 2}, ["404", "10.0.0.7"]),
        ("how many requests to /a/b did apache serve on mar 13", {3}, ["/a/b", "serve"]),
        ("How many restarts of the pump are in the postgres log?", {4}, ["restarts", "pump"]),
        ("how many lines are in the postgres log", {4}, []),
        ("how many 404s are in the shop's access log", {1}, ["404"]),
        ("what is the busiest hour in the apache log", {3}, []),
        ("requests per hour in the apache access log", {3}, ["requests"]),
        ("how many 404s in the apache access log", {3}, ["404"]),
        ("how many requests returned 404 in the log of apache?", {3}, ["404", "returned"]),
        ("the zanbil shop access log: busiest minute?", {1}, []),
        ("postgres log, 13 Mar 2016 - how many connections?", {4}, ["connections"]),
        ("which page had most 404s on the example apache server", {3}, ["404"]),
        ("which address had most 404s in the IIS 8.5 log (shop_access_log)?", {1}, ["404"]),
    ],
)
def test_the_words_that_name_a_log(question: str, doc_ids: set[int], terms: list[str]) -> None:
    query = scan_intent(question)
    assert query is not None
    named = named_logs(query, PATHS, lambda word, ids: word in ("zanbil", "requests", "had"))
    assert named is not None
    assert named.doc_ids == doc_ids
    assert [term.text for term in named.queries[-1].terms] == terms


@pytest.mark.parametrize(
    "question",
    [
        "When did postgres start?",  # no word of a log: perhaps its manual is meant
        "how many 404s in the nginx log",
        "when did postgres run the callback for broker 1?",
        "what time is in the postgres log",  # nothing is left to look for
    ],
)
def test_no_log_is_named(question: str) -> None:
    query = scan_intent(question)
    assert query is not None
    assert named_logs(query, PATHS, lambda word, ids: True) is None


def test_the_answer_names_the_log_that_was_meant() -> None:
    query = scan_intent("how many failed passwords in the auth log")
    assert query is not None
    paths = {0: "/x/auth.log"}
    named = named_logs(query, {**paths, 1: "/x/other.log"}, lambda word, ids: False)
    assert named is not None
    result = run_scan(named.queries[0], SSHD, paths=paths)
    text = describe(replace(result, is_named=True)).text
    assert text.startswith("3 records") and " in auth.log." in text
