"""Files of the indexes: published whole or not at all, and checked before they are used.

A manifest names the files of a folder with size, time of change and BLAKE3, so that a changed byte
is found before native code reads it. To keep opening cheap, files beyond the first `HASHED_BYTES`
are believed where size and time are as recorded (`docqa check` hashes them too). What a killed
writer left unrecorded is checked by the CRC-32 that tantivy writes at the end of its files.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from docqa.index import IndexMismatch

META = "meta.json"  # tantivy's list of segments, replaced by every commit
MANIFEST = "manifest.json"
WRITING = "writing"  # there while a writer is at it, and after one was killed: no manifest keeps up
HASHED_BYTES = 128_000_000  # 60 ms

_FOOTER = struct.Struct("<II")  # of tantivy's files: length of the JSON before it, magic number
_FOOTER_MAGIC = 1337
_MAX_FOOTER_BYTES = 4_096
_BLOCK_BYTES = 1 << 20


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
    """Record `files` of `folder`; hashes of files that are already recorded are kept.

    Files that are gone meanwhile are left out: merged into another by a thread of the index.
    """
    known = _read(folder / MANIFEST)
    entries: dict[str, dict[str, int | str]] = {}
    for file in files:
        try:
            stamp = _stamp(file)
            old = known.get(file.name, {})
            if any(old.get(key) != value for key, value in stamp.items()):
                old = {**stamp, "blake3": digest(file)}
        except FileNotFoundError:
            continue
        entries[file.name] = old
    if entries != known:
        content = json.dumps(entries).encode()
        publish(folder / MANIFEST, lambda out: out.write(content))


def check_manifest(folder: Path, files: Iterable[Path], *, is_thorough: bool = False) -> None:
    """Compare `files` of `folder` with its manifest; those that are gone are no error.

    Raises:
        IndexMismatch: a file has another size or content than recorded, or is not recorded and has
            no right checksum of its own.
    """
    known = _read(folder / MANIFEST)
    n_left = HASHED_BYTES
    for file in files:
        try:
            is_right = _is_right(file, known.get(file.name), n_left > 0 or is_thorough)
            n_left -= file.stat().st_size
        except FileNotFoundError:
            continue
        if not is_right:
            raise IndexMismatch(f"{file.name} was changed by something else")


def _is_right(file: Path, entry: dict[str, int | str] | None, is_hashed: bool) -> bool:
    if entry is None:
        return _is_sealed(file)
    stamp = _stamp(file)
    if not is_hashed and all(entry.get(key) == value for key, value in stamp.items()):
        return True
    return stamp["n_bytes"] == entry.get("n_bytes") and digest(file) == entry.get("blake3")


def check_head(folder: Path, name: str) -> None:
    """Compare the file that names all others with the manifest.

    A writer replaces it before the manifest: what differs is believed while there is one.

    Raises:
        IndexMismatch: it differs, and nobody is writing or was killed at it.
    """
    while True:
        known = _read(folder / MANIFEST)
        entry = known.get(name)
        if entry is None or digest(folder / name) == entry.get("blake3"):
            return
        if (folder / WRITING).exists():
            return
        if _read(folder / MANIFEST) == known:  # else a writer has just finished
            raise IndexMismatch(f"{name} was changed by something else")


def _is_sealed(file: Path) -> bool:
    """Whether the checksum at the end of one of tantivy's files is that of its content."""
    with file.open("rb") as source:
        n_bytes = source.seek(0, os.SEEK_END)
        if n_bytes < _FOOTER.size:
            return False
        source.seek(n_bytes - _FOOTER.size)
        n_footer, magic = _FOOTER.unpack(source.read(_FOOTER.size))
        n_left = n_bytes - _FOOTER.size - n_footer
        if magic != _FOOTER_MAGIC or n_footer > _MAX_FOOTER_BYTES or n_left < 0:
            return False
        source.seek(n_left)
        try:
            footer = json.loads(source.read(n_footer))
        except ValueError:
            return False
        source.seek(0)
        checksum = 0
        while n_left and (block := source.read(min(n_left, _BLOCK_BYTES))):
            checksum = zlib.crc32(block, checksum)
            n_left -= len(block)
    return isinstance(footer, dict) and footer.get("crc") == checksum


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
