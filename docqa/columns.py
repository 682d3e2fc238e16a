"""The columns of logs whose header names them, and their rows as keys and values.

    header_in(text) -> "#Fields: date time s-ip cs-method cs-uri-stem sc-status"
    columns_of(header).named(row) -> "GET /robots.txt status=404 server_ip=10.0.0.1"

Two formats have such a header: the W3C extended log file format (IIS, CDNs;
https://www.w3.org/TR/WD-logfile.html) and the tables of Zeek, before 2018 Bro
(https://docs.zeek.org/en/master/log-formats.html). A header holds until the next one.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_HEADER = re.compile(r"^#fields(?::[ \t]*|\t)\S.*", re.IGNORECASE | re.MULTILINE)
_VALUE = re.compile(r'"[^"\n]*"|\S+')
_METHODS = frozenset(("cs-method", "method"))
_PATHS = frozenset(("cs-uri-stem", "cs-uri", "uri"))
_KEYS = {
    "sc-status": "status", "status_code": "status",
    "c-ip": "client_ip", "id.orig_h": "client_ip",
    "s-ip": "server_ip", "id.resp_h": "server_ip",
    "cs(user-agent)": "user_agent", "cs-username": "user", "cs-host": "host", "cs(host)": "host",
    "s-computername": "server", "sc-bytes": "response_bytes", "cs-bytes": "request_bytes",
    "response_body_len": "response_bytes", "resp_bytes": "response_bytes",
    "request_body_len": "request_bytes", "orig_bytes": "request_bytes",
}  # fmt: skip
"""What other logs call the same."""
_UNITS = {"time-taken": "ms", "duration": "s"}  # of IIS; of Zeek
_UNSET = frozenset(("", "-", "(empty)", '"-"', '""'))


@dataclass(frozen=True, slots=True)
class Columns:
    """Names in the order of a row's values; `is_tabbed`: values are parted by tabs only."""

    names: tuple[str, ...]
    is_tabbed: bool

    def named(self, row: str) -> str:
        """Return the row's values with their names, as other logs write them; "" if they differ.

        A request comes first (`GET /robots.txt`). What is not set is left out.
        """
        values = row.split("\t") if self.is_tabbed else _VALUE.findall(row)
        if len(values) != len(self.names) or row.startswith("#"):
            return ""
        request = {"method": "", "path": ""}
        pairs = []
        for name, value in zip(self.names, values, strict=True):
            if value in _UNSET:
                continue
            if name in _METHODS or name in _PATHS:
                request["method" if name in _METHODS else "path"] = value
            else:
                unit = f" {_UNITS[name]}" if name in _UNITS else ""
                pairs.append(f"{_KEYS.get(name, name)}={_quoted(value, name)}{unit}")
        return " ".join(filter(None, (*request.values(), *pairs)))


def _quoted(value: str, name: str) -> str:
    if name == "cs(user-agent)":
        value = value.replace("+", " ")  # a W3C value has no spaces
    return f'"{value}"' if " " in value and not value.startswith('"') else value


def header_in(text: str) -> str:
    """Return the last header line of `text`; "" where there is none."""
    if "#" not in text:
        return ""
    found = ""
    for match in _HEADER.finditer(text):
        found = match[0]
    return found.rstrip()


def header_before(text: str) -> str:
    """Return the header that stands above the first row of `text`; "" where there is none."""
    if not text.startswith("#"):
        return ""
    row = re.search(r"^[^#\n]", text, re.MULTILINE)
    return header_in(text[: row.start()] if row else text)


@functools.lru_cache(maxsize=64)
def columns_of(header: str) -> Columns | None:
    """Return the columns that a header line names; None where it is none."""
    if not _HEADER.match(header):
        return None
    names = header[len("#fields") :].lstrip(":").strip()
    is_tabbed = "\t" in names
    parts = names.split("\t") if is_tabbed else names.split()
    return Columns(tuple(name.strip().lower() for name in parts), is_tabbed)
