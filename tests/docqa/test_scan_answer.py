"""Questions to a library of several logs and a text, as an administrator puts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from docqa.library import Library
from docqa.scan_answer import answer_by_scan
from docqa.types import Scope
from tests.docqa.durability import small

FILES = {
    "zanbil_access_log": """\
10.0.0.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 17 "-" "curl"
10.0.0.7 - - [17/May/2015:11:05:03 +0000] "GET /gone HTTP/1.1" 404 170 "http://zanbil.ir/" "curl"
10.0.0.8 - - [18/May/2015:11:06:03 +0000] "GET /gone HTTP/1.1" 404 9 "-" "wget"
10.0.0.8 - - [18/Jun/2015:11:06:03 +0000] "POST /a HTTP/1.1" 503 17 "-" "wget"
""",
    "kiosk_access_log": """\
10.1.0.7 - - [22/Jan/2019:03:56:31 +0330] "GET /x HTTP/1.1" 404 17 "-" "curl"
10.1.0.7 - - [22/Jan/2019:03:58:31 +0330] "GET /x HTTP/1.1" 404 17 "-" "curl"
10.1.0.8 - - [22/Jan/2019:03:58:41 +0330] "GET /y HTTP/1.1" 200 17 "-" "curl"
""",
    "u_ex150113.log": """\
#Software: Microsoft Internet Information Services 8.5
#Fields: date time cs-method cs-uri-stem c-ip sc-status time-taken
2015-01-13 00:32:17 GET /a 10.1.0.7 404 283
2015-01-13 01:32:17 GET /b 10.1.0.7 200 404
2015-01-13 01:33:17 GET /b 10.1.0.8 404 12
""",
    "conn.log": """\
#separator \\x09
#fields\tts\tid.orig_h\tid.resp_h\tservice\tduration
1320279566.452687\t10.2.0.7\t10.2.9.1\tdns\t116.438679
1320279567.452687\t10.2.0.7\t10.2.9.2\t-\t0.5
1320279568.452687\t10.2.0.7\t10.2.9.1\tdns\t1.5
""",
    "auth.log": """\
Mar 29 10:31:20 web1 sudo:   ada : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls /x
Mar 29 10:32:20 web1 sudo:   ada : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls /x
Mar 29 10:33:20 web1 sudo:   bob : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/cat /y
Mar 29 10:43:01 web1 sshd[2]: Accepted password for bob from 10.0.0.8 port 6 ssh2
Mar 29 10:44:00 web1 sshd[3]: Failed password for eve from 10.0.0.9 port 7 ssh2
Mar 29 10:45:00 web2 sshd[3]: Failed password for dan from 10.0.0.9 port 7 ssh2
""",
    "broker.log": """\
[2016-12-19 20:40:20,325] INFO Rolled new log segment for 'test-2' in 12 ms. (kafka.log.Log)
[2016-12-19 20:41:20,325] ERROR Connection to broker 2 was unsuccessful (kafka.Controller)
""",
    "broker.log.2016-12-19-18": """\
[2016-12-19 18:40:20,325] INFO Rolled new log segment for 'test-1' in 122 ms. (kafka.log.Log)
[2016-12-19 18:41:20,325] WARN Connection to broker 1 was unsuccessful (kafka.Controller)
[2016-12-19 18:42:20,325] WARN Connection to broker 1 was unsuccessful (kafka.Controller)
""",
    "manual.txt": "The broker has 12 vanes. A sudo command is never needed. It opened in 2015.",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("logs")
    (folder / "docs").mkdir()
    for name, text in FILES.items():
        (folder / "docs" / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("docqa.library.WorkerReader", small.InProcess)
        with small.open_library(folder) as library:
            small.sync(library, [folder / "docs"])
            yield library


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("How many 404s are in the zanbil access log?", "2 records"),
        ("Which minute was the busiest in the access log of the shop (example.com)?", "Most: "),
        (
            "zanbil access log: what is the file people most often couldn't find (404)?",
            "/gone: 2 [1]",
        ),
        ('On which day did web1 turn away most with "Failed password"?', "Most: 20"),
        ("When was the oldest entry in the auth log?", "First: 20"),
        (
            "Which topic took the longest to roll a new segment, by the broker log?",
            "Longest: 122 ms",
        ),
        ("zanbil access log: which page was missing (404) most often?", "/gone: 2 [1]"),
        ("How many requests does the zanbil access log have from May 2015?", "4 records"),
        ("How many requests were there in May 2015 in the zanbil access log?", "3 records"),
        ("How many 5xx errors are in the zanbil access log?", "1 record"),
        ("What was the largest response in the zanbil access log?", "Largest: 170 bytes"),
        ("In the IIS 8.5 log (u_ex150113.log) - which address got the most 404s?", "10.1.0."),
        ("What was the slowest request in u_ex150113.log?", "Longest: 404 ms"),
        # People type the clock that they see in the lines.
        ("How many 404 did the kiosk access log have from 03:56 to 03:57?", "1 record."),
        ("How many 404 in the kiosk access log from 00:26 to 00:27 UTC?", "1 record."),
        ("how many 404s did the kiosk give out on 22 January, kiosk_access_log", "2 records"),
        ("kiosk access log: busiest minute?", "Most: 2019-01-22 03:58 +0330 with 2"),
        ("Connection log: what was the longest duration?", "Longest: 116.438679 s"),
        ("conn log - to which address did 10.2.0.7 connect most often?", "10.2.9.1: 2 [1]"),
        ("How many failed passwords are in the auth log?", "2 records"),
        ("How many failed passwords are in the web2 auth log?", "1 record."),
        ("How many failed passwords are in the auth log of the host web2?", "1 record."),
        ("How many failed passwords are in the auth log (user eve)?", "1 record."),
        ("How many failed passwords are in the auth log of our IIS 8.5 host?", "2 records"),
        ("Who used sudo most often in auth.log?", "ada: 2 [1]"),
        ("Which command was run most often with sudo on web1?", "/bin/ls /x: 2 [1]"),
        ("How many successful password logins are in auth.log?", "1 record"),
        ("how many WARN entries in broker.log.2016-12-19-18", "2 records"),
        ("How many warnings are in broker.log between 18:00 and 19:00?", "2 records"),
        ("broker log: last ERROR?", "Last: 2016-12-19 20:41:20.325 UTC"),
        ("broker log, 19 Dec 2016 between 18:00 and 19:00: how many unsuccessful", "2 records"),
        ("slowest roll of a new segment in the broker log, in ms?", "Longest: 122 ms"),
        ('How many lines with "disk full" does broker.log have?', "0 records match."),
        ("How many fatal errors are in the broker log?", "0 records match."),
    ],
)
def test_what_is_answered(library: Library, question: str, first: str) -> None:
    answer = answer_by_scan(question, library, Scope())
    assert answer is not None, question
    assert answer.text.startswith(first)
    assert all(citation.quote for citation in answer.citations)


@pytest.mark.parametrize(
    "question",
    [
        "How many vanes does the broker have?",
        "Who opened the shop most often?",
        "How many fatal errors are in the zanbil access log?",  # it has no levels
        "Which user agent made most requests in auth.log?",  # it names none
        "How many 404 in the kiosk access log from 00:26 to 00:27?",  # by its own clock none
        "How many timeouts are in the broker log?",  # other words may mean the same
        "Which address made the most requests in the nginx log?",
        "From which address did the user jenkins log in, according to auth.log?",
    ],
)
def test_what_has_to_be_read(library: Library, question: str) -> None:
    assert answer_by_scan(question, library, Scope()) is None
