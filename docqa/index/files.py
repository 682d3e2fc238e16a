"""Files of the indexes: published whole or not at all, and checked before they are used.

A manifest names the files of a folder with size, time of change and BLAKE3. A file whose size and
time are as recorded is believed; any other is hashed, so that opening stays cheap and a changed
byte is found before native code reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from docqa.index import IndexMismatch

MANIFEST = "manifest.json"


def publish(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file and put it in place of `file`, durably.

    After a crash the folder holds the old file or the new one. Raises OSError.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; where folders cannot be synced (Windows) do nothing."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(file: Path) -> str:
    """Return the BLAKE3 hash of a file in hex."""
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(file)
    return str(hasher.hexdigest())


def write_manifest(folder: Path, files: Iterable[Path]) -> None:
    """Record `files` of `folder`; hashes of files that are already recorded are kept."""
    known = _read(folder / MANIFEST)
    entries: dict[str, dict[str, int | str]] = {}
    for file in files:
        stamp = _stamp(file)
        old = known.get(file.name, {})
        if any(old.get(key) != value for key, value in stamp.items()):
            old = {**stamp, "blake3": digest(file)}
        entries[file.name] = old
    if entries != known:
        content = json.dumps(entries).encode()
        publish(folder / MANIFEST, lambda out: out.write(content))


def check_manifest(folder: Path) -> None:
    """Compare the files of `folder` with its manifest.

    Files that are not recorded, or are gone because a later commit replaced them, are no error.

    Raises:
        IndexMismatch: a recorded file has another size or content.
    """
    for name, entry in _read(folder / MANIFEST).items():
        file = folder / name
        try:
            stamp = _stamp(file)
        except FileNotFoundError:
            continue
        is_as_recorded = all(entry.get(key) == value for key, value in stamp.items())
        if not is_as_recorded and (
            stamp["n_bytes"] != entry.get("n_bytes") or digest(file) != entry.get("blake3")
        ):
            raise IndexMismatch(f"{name} was changed by something else")


def _stamp(file: Path) -> dict[str, int | str]:
    stat = file.stat()
    return {"n_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _read(manifest: Path) -> dict[str, dict[str, int | str]]:
    try:
        found = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise IndexMismatch(f"{manifest.name} cannot be read") from error
    if not isinstance(found, dict) or not all(isinstance(e, dict) for e in found.values()):
        raise IndexMismatch(f"{manifest.name} cannot be read")
    return found
