"""Saved KV of a library, verified to the last byte: for `docqa check`.

A file is verified whenever it is restored, and computed again where it is damaged; this finds out
before anybody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from models.kv_file import SUFFIX, KvRefused, read_header, read_kv, user_key


def damaged(folder: Path, key: bytes | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the files below `folder` that would be refused whatever they were asked for, and why.

    `key`: that of this user, as it is kept.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        key = key or user_key()
        try:
            read_kv(path, read_header(path, key).identity, key)
        except KvRefused as refused:
            yield path, str(refused)
