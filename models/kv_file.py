"""KV on disk: a file that is restored exactly, or refused with its reason.

llama.cpp checks little of a saved state (another model, other rope settings, a flipped byte load
"successfully", or abort the process), so nothing reaches it before the whole file is verified:

    magic (8) | length of the header (8) | header | tag of all before (32) | zeros to 4096 | payload

The header (MessagePack) names everything that the numbers depend on, the tokens that they belong
to, and a BLAKE3 digest of each block of the payload; the tag is BLAKE3 keyed with a secret of this
user, so that a planted file is refused like a damaged one. Written as temp file → fsync → rename →
fsync of the folder, mode 0600. A cache: whatever is wrong, the answer is to compute it again.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import platformdirs

from models.buffers import byte_buffer

MAGIC = b"DOCQAKV1"
FORMAT = 1
ALIGNMENT = 4096
BLOCK_BYTES = 1 << 22
MAX_HEADER_BYTES = 1 << 26
MAX_PAYLOAD_BYTES = 1 << 40
SUFFIX = ".kv"
KEY_BYTES = 32

_SEEKING = threading.Lock()

Payload = npt.NDArray[np.uint8]


class KvRefused(Exception):
    """The file is not restored; the message says why. Compute again."""


class KvIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides whether KV numbers mean the same here as where they were computed."""

    format: int = FORMAT
    model_sha256: str
    architecture: str
    tokenizer: str  # digest of the vocabulary
    template: str  # digest of the chat template
    adapters: tuple[tuple[str, float], ...]  # (SHA-256, scale)
    rope: tuple[float, ...]  # as set; what the file says is in its hash
    context_length: int
    kv_type_k: str
    kv_type_v: str
    flash_attention: bool  # decides how V lies in memory
    rotation: bool  # llama.cpp's Hadamard rotation of quantised K and V
    unified: bool
    library: str  # build of llama.cpp: its state format is not stable


class KvHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    identity: KvIdentity
    tokens: bytes  # int32, little-endian
    n_sinks: int  # leading tokens that were kept when others were dropped; 0: none were dropped
    documents: tuple[str, ...]  # SHA-256 of each document whose text is in the tokens
    n_bytes: int  # of the payload
    digests: bytes  # 32 a block
    created: float  # UTC seconds


# -- the secret -----------------------------------------------------------------------------------


def user_key(path: Path | None = None) -> bytes:
    """Return this user's secret, made at first use; 0600.

    Raises:
        KvRefused: it can be read by others, or is damaged.
    """
    path = path or Path(platformdirs.user_data_dir("docqa", appauthor=False)) / "kv.key"
    if not os.path.lexists(path):  # else a file would be synced at each use
        _make_key(path)
    descriptor = _open_own(path)
    try:
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise KvRefused(f"{path}: is not a key; delete it, and saved KV with it")
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)  # unlike rename, never over a key that another process just made
    finally:
        Path(name).unlink()


def _open_own(path: Path) -> int:
    """Open a regular file that belongs to this user and that nobody else may write or read."""
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise KvRefused(f"{path}: cannot be read: {error.strerror}") from error
    found = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = "is no regular file"
    elif hasattr(os, "getuid") and found.st_uid != os.getuid():
        problem = "belongs to another user"
    elif os.name == "posix" and found.st_mode & 0o077:
        problem = "is open to other users"
    if problem:
        os.close(descriptor)
        raise KvRefused(f"{path}: {problem}")
    return descriptor


# -- writing --------------------------------------------------------------------------------------


def write_kv(
    path: Path,
    identity: KvIdentity,
    tokens: Sequence[int],
    payload: Payload,
    key: bytes,
    *,
    documents: Sequence[str] = (),
    n_sinks: int = 0,
) -> int:
    """Write a state; return the size of the file in bytes.

    Raises:
        OSError: no room, no permission. The file that was there before is still there, whole.
    """
    header = msgspec.msgpack.encode(
        KvHeader(
            identity=identity,
            tokens=np.asarray(tokens, "<i4").tobytes(),
            n_sinks=n_sinks,
            documents=tuple(documents),
            n_bytes=payload.nbytes,
            digests=b"".join(_digests(payload, key)),
            created=time.time(),
        )
    )
    head = MAGIC + len(header).to_bytes(8, "little") + header
    head += _tag(head, key)
    head += b"\0" * (-len(head) % ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".saving-", suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in (memoryview(head), memoryview(payload.data)):
                _write_all(file.fileno(), part)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)
    return len(head) + payload.nbytes


def _write_all(descriptor: int, data: memoryview) -> None:
    at = 0
    while at < len(data):
        at += os.write(descriptor, data[at : at + (1 << 26)])


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tag(head: bytes, key: bytes) -> bytes:
    from blake3 import blake3

    digest: bytes = blake3(head, key=key).digest()
    return digest


def _block_digest(index: int, block: memoryview, key: bytes) -> bytes:
    """Return the digest of a block. Its index is in it, so that blocks cannot change places."""
    from blake3 import blake3

    digest: bytes = blake3(index.to_bytes(8, "little"), key=key).update(block).digest()
    return digest


def _digests(payload: Payload, key: bytes) -> Iterator[bytes]:
    whole = memoryview(payload.data)
    starts = range(0, len(whole), BLOCK_BYTES)
    with ThreadPoolExecutor(_n_workers()) as pool:
        yield from pool.map(
            lambda i: _block_digest(i, whole[starts[i] : starts[i] + BLOCK_BYTES], key),
            range(len(starts)),
        )


def _n_workers() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(16, usable or 1))


# -- reading --------------------------------------------------------------------------------------


def read_kv(path: Path, identity: KvIdentity, key: bytes) -> tuple[KvHeader, Payload]:
    """Return header and payload, every byte verified.

    Raises:
        KvRefused: missing, damaged, planted, or of another identity; the first difference is named.
    """
    descriptor = _open_own(path)
    try:
        header, start = _read_header(path, descriptor, key)
        difference = first_difference(header.identity, identity)
        if difference:
            raise KvRefused(f"{path.name}: saved with {difference}")
        return header, _read_payload(path, descriptor, start, header, key)
    except OSError as error:
        raise KvRefused(f"{path.name}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def read_header(path: Path, key: bytes) -> KvHeader:
    """Return the verified header alone; the payload is not looked at.

    Raises:
        KvRefused: missing, damaged or planted.
    """
    descriptor = _open_own(path)
    try:
        return _read_header(path, descriptor, key)[0]
    except OSError as error:
        raise KvRefused(f"{path.name}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def first_difference(saved: KvIdentity, here: KvIdentity) -> str:
    """Return `field value (here: value)` of the first field that differs; "" where none does."""
    for field in KvIdentity.__struct_fields__:
        was, now = getattr(saved, field), getattr(here, field)
        if was != now:
            return f"{field.replace('_', ' ')} {_short(was)} (here: {_short(now)})"
    return ""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def _read_header(path: Path, descriptor: int, key: bytes) -> tuple[KvHeader, int]:
    """Return the header and where the payload begins, the tag verified first."""
    size = os.fstat(descriptor).st_size
    start = _read_at(descriptor, 16, 0)
    n = int.from_bytes(start[8:], "little")
    if len(start) < 16 or start[:8] != MAGIC or n > min(MAX_HEADER_BYTES, size):
        raise KvRefused(f"{path.name}: is no saved KV of this version")
    head = start + _read_at(descriptor, n + 32, 16)
    if len(head) != 16 + n + 32 or not hmac.compare_digest(head[-32:], _tag(head[:-32], key)):
        raise KvRefused(f"{path.name}: is damaged, or was not written by this user's docqa")
    try:
        header = msgspec.msgpack.decode(head[16:-32], type=KvHeader)
    except msgspec.MsgspecError as error:  # of an older format, since the tag is ours
        raise KvRefused(f"{path.name}: is of another version: {error}") from error
    begin = len(head) + -len(head) % ALIGNMENT
    padding = _read_at(descriptor, begin - len(head), len(head))
    n_blocks = -(-header.n_bytes // BLOCK_BYTES)
    if (
        not 0 < header.n_bytes <= MAX_PAYLOAD_BYTES
        or size != begin + header.n_bytes
        or len(header.digests) != 32 * n_blocks
        or padding.strip(b"\0")
    ):
        raise KvRefused(f"{path.name}: is damaged: {size} bytes long")
    return header, begin


def _read_payload(path: Path, descriptor: int, start: int, header: KvHeader, key: bytes) -> Payload:
    """Read and verify block by block, several at a time: the disk and every core are kept busy."""
    payload = byte_buffer(header.n_bytes)
    whole = memoryview(payload.data)

    def read_block(index: int) -> bool:
        at = index * BLOCK_BYTES
        block = whole[at : at + BLOCK_BYTES]
        filled = 0
        while filled < len(block):
            n = _read_into(descriptor, block[filled:], start + at + filled)
            if n == 0:
                return False
            filled += n
        expected = header.digests[32 * index : 32 * index + 32]
        return hmac.compare_digest(_block_digest(index, block, key), expected)

    n_blocks, n_lanes = len(header.digests) // 32, _n_workers()

    def damaged(lane: int) -> int | None:
        """Return the first damaged block of those that one thread reads."""
        return next((i for i in range(lane, n_blocks, n_lanes) if not read_block(i)), None)

    with ThreadPoolExecutor(n_lanes) as pool:
        found = [index for index in pool.map(damaged, range(n_lanes)) if index is not None]
    if found:
        raise KvRefused(f"{path.name}: block {min(found)} is damaged")
    return payload


def _read_at(descriptor: int, n: int, at: int) -> bytes:
    buffer = bytearray(n)
    return bytes(buffer[: _read_into(descriptor, memoryview(buffer), at)])


def _read_into(descriptor: int, target: memoryview, at: int) -> int:
    """Read into `target` from position `at`; return the bytes read, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], at)
    with _SEEKING:  # Windows: no read at a position
        os.lseek(descriptor, at, os.SEEK_SET)
        found = os.read(descriptor, len(target))
    target[: len(found)] = found
    return len(found)


# -- the folder -----------------------------------------------------------------------------------


def enforce_quota(folder: Path, quota_bytes: int, keep: Path | None = None) -> list[Path]:
    """Delete the least recently used files until the folder holds `quota_bytes`; return them.

    Remains of a save that was killed are deleted, too, once they are an hour old. `keep` stays.
    """
    files = []
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            found = path.stat()
        except OSError:
            continue
        if path.name.startswith(".saving-"):
            if time.time() - found.st_mtime > 3600:
                path.unlink(missing_ok=True)
            continue
        files.append((found.st_mtime_ns, found.st_size, path))
    files.sort(key=lambda entry: entry[0])
    total = sum(size for _, size, _ in files)
    evicted = []
    for _, size, path in files:
        if total <= quota_bytes:
            break
        if keep is not None and path == keep:
            continue
        path.unlink(missing_ok=True)
        total -= size
        evicted.append(path)
    return evicted


def touch(path: Path) -> None:
    """Note that a file was used: eviction is by modification time, since access times are off."""
    with contextlib.suppress(OSError):
        os.utime(path)


def files_of_document(folder: Path, sha256: str, key: bytes) -> list[Path]:
    """Return the files that hold text of a document; unreadable ones too, for they may."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            documents = read_header(path, key).documents
        except KvRefused:
            found.append(path)
            continue
        if sha256 in documents:
            found.append(path)
    return found
