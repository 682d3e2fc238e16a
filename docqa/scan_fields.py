"""Fields of log records whose values a question may ask for: addresses, hosts, users, services.

Each field is a list of patterns with one group; the first pattern that finds anything in a record
gives its values. Nothing is configured: the patterns cover the usual ways of writing a field.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_KEY = r"[\"']?\s*[=:]\s*[\"']?"
_HEX = r"[0-9a-f]{1,4}"
_IP = r"(?<![\w.])((?:\d{1,3}\.){3}\d{1,3})(?![\w.]*\d)"

FIELDS: dict[str, tuple[re.Pattern[str], ...]] = {
    "address": (
        re.compile(  # the client's, of two
            rf"\b(?:client|remote|source|src)(?:_?(?:ip|addr(?:ess)?))?{_KEY}((?:\d{{1,3}}\.){{3}}\d{{1,3}})",
            re.I,
        ),
        re.compile(r"^(\S+) \S+ \S+ \[[^\]]+\] \"[A-Z]+ "),  # the client's, of an access log
        re.compile(_IP.removesuffix(r"(?![\w.]*\d)") + r":\d{2,5} \["),  # the client's, of HAProxy
        re.compile(_IP),
        re.compile(
            rf"(?<![\w:])({_HEX}(?::{_HEX}){{7}}|(?:{_HEX}(?::{_HEX})*)?::(?:{_HEX}:)*{_HEX})(?![\w:])",
            re.I,
        ),
    ),
    "host": (
        re.compile(rf"\b(?:host(?:name)?|node|server){_KEY}([\w.-]+)", re.I),
        re.compile(r"^(?:<\d+>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)? ([\w.-]+) "),
        re.compile(r"\b(?:on|from|at) (?:host |node )?([a-z][\w-]*-?\d+)\b"),
    ),
    "user": (
        re.compile(r"\bsudo(?:\[\d+\])?: +([\w.@$-]+) : "),  # who ran it, not as whom
        re.compile(rf"\b(?:user(?:name)?|login|account|acct){_KEY}([\w.@$-]+)", re.I),
        re.compile(
            r"\b(?:for|invalid|illegal) (?:invalid |illegal )?user (?!from\b)([\w.@$-]+)", re.I
        ),
        re.compile(
            r"\b(?:password|publickey|login(?: failed)?|session opened) for (?:user )?"
            r"(?!invalid\b|illegal\b)([\w.@$-]+)",
            re.I,
        ),
        re.compile(r"\buser (?!from\b)'?([\w.@$-]+)", re.I),
    ),
    "service": (
        re.compile(
            rf"\b(?:service|logger|component|app(?:lication)?|module){_KEY}([\w./-]+)", re.I
        ),
        re.compile(
            r"\b(?:TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\s*\]?\s+\[([^\]\s]+)\]"
        ),
        re.compile(r"^(?:<\d+>)?[A-Z][a-z]{2} [ \d]\d [\d:.]+ [\w.-]+ ([\w./-]+?)(?:\[\d+\])?:"),
        re.compile(r"\(([a-z][\w$]*(?:\.[\w$]+)+)\)$", re.M),
        re.compile(
            r"\b(?:TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|CRITICAL)[\s:|\]-]+([\w$]+(?:\.[\w$]+)+)[\s:|]"
        ),
    ),
    "status": (
        re.compile(r"HTTP/[\d.]+\" (\d{3})\b"),
        re.compile(rf"\b(?:status(?:_?code)?|code){_KEY}(\d{{3}})\b", re.I),
        re.compile(r"\b(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) \S+ (\d{3})\b"),
    ),
    "path": (
        re.compile(r"\b(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) (\S+)"),
        re.compile(rf"\b(?:path|uri|url){_KEY}([^\s\"',]+)", re.I),
    ),
    "method": (re.compile(r"\b(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS)\b"),),
    "user agent": (
        re.compile(r"HTTP/[\d.]+\" \d{3} \S+ \"[^\"]*\" \"([^\"]*)\""),
        re.compile(r"\buser[_-]?agent[\"']?\s*[=:]\s*[\"']?([^\"']+)", re.I),
    ),
    "command": (re.compile(rf"\b(?:command|cmd(?:line)?){_KEY}([^\n\"']+)", re.I),),
    "exception": (re.compile(r"((?:[\w$]+\.)*[A-Z][\w$]*(?:Exception|Error|Throwable|Fault))\b"),),
    "level": (),  # known of the record itself
    "message": (),  # its template
}

_NOUNS = {
    "address": "ip ips address addresses client clients visitor visitors",
    "host": "host hosts node nodes server servers machine machines hostname hostnames",
    "user": "user users username usernames account accounts",
    "service": "service services component components logger loggers module modules process "
    "processes application applications app apps program programs daemon daemons",
    "status": "code codes status statuses",
    "path": "path paths url urls endpoint endpoints page pages file files",
    "method": "method methods",
    "user agent": "agent agents browser browsers crawler crawlers",
    "command": "command commands",
    "exception": "exception exceptions",
    "level": "level levels",
    "message": "message messages error errors warning warnings",
}
_PHRASES = {
    "user agent": ("user agent", "user agents"),
    "address": tuple(
        f"{whose}{what}"
        for whose in ("ip ", "client ", "visitor ", "source ", "remote ", "client ip ")
        for what in ("ip", "ips", "address", "addresses")
    ),
    "status": (
        "status code",
        "status codes",
        "http status",
        "http code",
        "http codes",
        "response codes",
    ),
    "host": ("host name", "host names"),
    "level": ("log level", "log levels"),
    "message": ("error message", "error messages", "log messages"),
}
FIELD_OF_NOUN: dict[str, str] = {
    noun: field for field, nouns in _NOUNS.items() for noun in nouns.split()
} | {phrase: field for field, phrases in _PHRASES.items() for phrase in phrases}


def values_of(field: str, record: str, known: Collection[str] = ()) -> list[str]:
    """Return the distinct values of a field in a record's text, in order; maybe none.

    Those that the question has are `known`: of a connection it asks for the other address.
    """
    for pattern in FIELDS[field]:
        found = dict.fromkeys(value.rstrip(".") for value in pattern.findall(record))
        values = [value for value in found if value not in known]
        if values:
            return values
    return []
