"""SHA-256 of model files, computed once: remembered by device, inode, size and modification time.

The memory is a small JSON file in the user's cache folder; it is a cache, so anything unexpected in
it is ignored and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import platformdirs

MAX_ENTRIES = 256


def default_cache() -> Path:
    """Return the file in which hashes are remembered."""
    return Path(platformdirs.user_cache_dir("docqa", appauthor=False)) / "model-sha256.json"


def sha256_of(path: Path, cache: Path | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    cache = cache or default_cache()
    key = identity(path)
    known = _load(cache)
    if key in known:
        return known[key]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if identity(path) == key:  # not replaced while it was read
        kept = list(known.items())[-(MAX_ENTRIES - 1) :]
        _store(cache, {**dict(kept), key: found})
    return found


def identity(path: Path) -> str:
    """Return what changes when a file is replaced or written: device, inode, size, mtime."""
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def _load(cache: Path) -> dict[str, str]:
    try:
        known = json.loads(cache.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, str) and len(v) == 64}


def _store(cache: Path, known: dict[str, str]) -> None:
    """Replace the cache whole. A cache that cannot be written costs time, nothing else."""
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file)
        Path(name).replace(cache)
