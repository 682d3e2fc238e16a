"""Saved KV: restored exactly, or refused with its reason; never a wrong answer, never a crash."""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import buffers, kv_file
from models.buffers import byte_buffer
from models.hardware import build_has_gpu
from models.kv_check import damaged
from models.kv_file import (
    BLOCK_BYTES,
    KvIdentity,
    KvRefused,
    enforce_quota,
    files_of_document,
    first_difference,
    read_header,
    read_kv,
    user_key,
    write_kv,
)

ROOT = Path(__file__).resolve().parents[2]
KEY = bytes(range(32))
IDENTITY = KvIdentity(
    model_sha256="a" * 64,
    architecture="llama",
    tokenizer="b" * 64,
    template="c" * 64,
    adapters=(("d" * 64, 1.0),),
    rope=(-1.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0),
    context_length=8192,
    kv_type_k="q8_0",
    kv_type_v="q8_0",
    flash_attention=True,
    rotation=True,
    unified=True,
    library="0.3.36-0123456789abcdef",
)
TOKENS = list(range(1000, 1300))


def payload_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n, np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "session.kv"
    write_kv(path, IDENTITY, TOKENS, payload_of(50_000), KEY, documents=["e" * 64])
    return path


@pytest.mark.parametrize("n", [1, 4096, BLOCK_BYTES, BLOCK_BYTES * 2 + 17])
def test_round_trip(tmp_path: Path, n: int) -> None:
    path = tmp_path / "deep" / "session.kv"
    n_written = write_kv(path, IDENTITY, TOKENS, payload_of(n), KEY, documents=["e"], n_sinks=7)
    header, payload = read_kv(path, IDENTITY, KEY)
    assert np.array_equal(payload, payload_of(n))
    assert np.frombuffer(header.tokens, "<i4").tolist() == TOKENS
    assert (header.documents, header.n_sinks) == (("e",), 7)
    assert path.stat().st_size == n_written
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["session.kv"]


CHANGES: dict[str, object] = {
    "format": 2,
    "model_sha256": "f" * 64,
    "architecture": "qwen3",
    "tokenizer": "f" * 64,
    "template": "f" * 64,
    "adapters": (("d" * 64, 0.5),),
    "rope": (2.0, 0.0, 0.25, 0.0, -1.0, -1.0, -1.0),
    "context_length": 8448,
    "kv_type_k": "f16",
    "kv_type_v": "f16",
    "flash_attention": False,
    "rotation": False,
    "unified": False,
    "library": "0.3.37-0123456789abcdef",
}


def test_every_field_of_the_identity_is_tested() -> None:
    assert set(CHANGES) == set(KvIdentity.__struct_fields__)


@pytest.mark.parametrize("field", list(CHANGES))
def test_any_other_identity_is_refused_by_name(saved: Path, field: str) -> None:
    here = msgspec.structs.replace(IDENTITY, **{field: CHANGES[field]})
    with pytest.raises(KvRefused, match=field.replace("_", " ")):
        read_kv(saved, here, KEY)
    assert first_difference(IDENTITY, here).startswith(field.replace("_", " "))


def test_another_users_key_is_refused(saved: Path) -> None:
    with pytest.raises(KvRefused, match="not written by this user"):
        read_kv(saved, IDENTITY, bytes(32))


@pytest.mark.parametrize("n_files", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_are_all_refused(saved: Path, n_files: int) -> None:
    whole = saved.read_bytes()
    rng = random.Random(n_files)
    for n in range(n_files):
        content = bytearray(whole)
        kind = rng.random()
        if kind < 0.6:
            at = rng.randrange(len(content) if n % 2 else 1500)
            content[at] ^= 1 << rng.randrange(8)
        elif kind < 0.75:
            del content[rng.randrange(len(content)) :]
        elif kind < 0.85:
            content += rng.randbytes(rng.randint(1, 5000))
        else:
            i, j = rng.randrange(len(content)), rng.randrange(len(content))
            content[i : i + 64], content[j : j + 64] = content[j : j + 64], content[i : i + 64]
            if content == whole:
                continue
        saved.write_bytes(content)
        with pytest.raises(KvRefused):
            read_kv(saved, IDENTITY, KEY)


def test_check_finds_what_is_damaged_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.kv"
    write_kv(other, IDENTITY, TOKENS, payload_of(2 * BLOCK_BYTES + 9), KEY)
    assert list(damaged(tmp_path, KEY)) == []
    with other.open("r+b") as file:  # in the last of three blocks
        file.seek(-3, os.SEEK_END)
        file.write(b"abc")
    assert [(path, "block 2 is damaged" in why) for path, why in damaged(tmp_path, KEY)] == [
        (other, True)
    ]
    saved.write_bytes(saved.read_bytes()[:-1])
    assert [path for path, _ in damaged(tmp_path, KEY)] == [other, saved]
    assert list(damaged(tmp_path / "none", KEY)) == []


def test_blocks_cannot_change_places(tmp_path: Path) -> None:
    path = tmp_path / "session.kv"
    write_kv(path, IDENTITY, TOKENS, payload_of(2 * BLOCK_BYTES), KEY)
    content = path.read_bytes()
    start = len(content) - 2 * BLOCK_BYTES
    first, second = content[start : start + BLOCK_BYTES], content[start + BLOCK_BYTES :]
    path.write_bytes(content[:start] + second + first)
    with pytest.raises(KvRefused, match="block 0"):
        read_kv(path, IDENTITY, KEY)


def test_planted_and_odd_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(KvRefused, match="cannot be read"):
        read_kv(tmp_path / "none.kv", IDENTITY, KEY)
    link = tmp_path / "link.kv"
    link.symlink_to(saved)
    with pytest.raises(KvRefused, match="cannot be read"):
        read_kv(link, IDENTITY, KEY)
    folder = tmp_path / "folder.kv"
    folder.mkdir()
    with pytest.raises(KvRefused, match="no regular file"):
        read_kv(folder, IDENTITY, KEY)
    saved.chmod(0o644)
    with pytest.raises(KvRefused, match="other users"):
        read_kv(saved, IDENTITY, KEY)


def test_a_failed_save_leaves_the_old_file_and_no_remains(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kv_file, "_write_all", full)
    with pytest.raises(OSError, match="No space"):
        write_kv(saved, IDENTITY, [1], payload_of(100), KEY)
    assert read_kv(saved, IDENTITY, KEY)[1].nbytes == 50_000
    assert [p.name for p in saved.parent.iterdir()] == ["session.kv"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_while_saving_leaves_the_old_or_the_new_file(tmp_path: Path, n_kills: int) -> None:
    path = tmp_path / "session.kv"
    write_kv(path, IDENTITY, [0], np.full(3_000_000, 0, np.uint8), KEY)
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from pathlib import Path
from tests.models.test_kv_file import IDENTITY, KEY, write_kv
print("ready", flush=True)
for n in range(1, 1000):
    write_kv(Path({str(path)!r}), IDENTITY, [n], np.full(3_000_000, n % 256, np.uint8), KEY)
"""
    rng = random.Random(n_kills)
    last = 0
    for _ in range(n_kills):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        header, payload = read_kv(path, IDENTITY, KEY)
        (n,) = np.frombuffer(header.tokens, "<i4").tolist()
        assert (payload == n % 256).all()
        last = max(last, n)
    assert last > 0


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "kv.key"
    key = user_key(path)
    assert len(key) == 32
    assert user_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(KvRefused, match="other users"):
        user_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(KvRefused, match="not a key"):
        user_key(path)


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    for n in range(4):
        path = tmp_path / f"{n}.kv"
        write_kv(path, IDENTITY, [n], payload_of(10_000), KEY)
        os.utime(path, (1000 + n, 1000 + n))
    kv_file.touch(tmp_path / "0.kv")
    remains = tmp_path / ".saving-abc.kv"
    remains.write_bytes(b"x")
    os.utime(remains, (1000, 1000))
    size = (tmp_path / "0.kv").stat().st_size
    evicted = enforce_quota(tmp_path, 2 * size, keep=tmp_path / "1.kv")
    assert [p.name for p in evicted] == ["2.kv", "3.kv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.kv", "1.kv"]


def test_files_of_a_document_are_found_for_its_purge(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.kv"
    write_kv(other, IDENTITY, [1], payload_of(10), KEY, documents=["f" * 64])
    broken = tmp_path / "broken.kv"
    broken.write_bytes(b"who knows")
    broken.chmod(0o600)
    assert files_of_document(tmp_path, "e" * 64, KEY) == [broken, saved]
    assert read_header(other, KEY).documents == ("f" * 64,)


def test_reading_where_the_system_cannot_read_at_a_position(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv")
    assert np.array_equal(read_kv(saved, IDENTITY, KEY)[1], payload_of(50_000))


@pytest.mark.parametrize("n", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5])
def test_buffers_are_writable_and_of_the_size_asked_for(n: int) -> None:
    buffer = byte_buffer(n)
    buffer[:] = 7
    assert (buffer.nbytes, int(buffer.astype(np.int64).sum())) == (n, 7 * n)


class FakeCuda:
    """Counts what is locked; refuses from the second time on."""

    def __init__(self) -> None:
        self.locked: dict[int, int] = {}
        self.n_errors = 0

    def cudaHostRegister(self, address, size, flags: int) -> int:
        if self.locked or flags != 1:
            return 2
        self.locked[address.value] = size.value
        return 0

    def cudaHostUnregister(self, address) -> int:
        del self.locked[address.value]
        return 0

    def cudaGetLastError(self) -> int:
        self.n_errors += 1
        return 2


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="of Linux")
def test_memory_that_comes_and_goes_is_locked_as_long_as_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(buffers, "cuda_runtime", lambda: cuda)
    n = buffers.HUGE_BYTES + 5
    first = buffers.byte_buffer(n, is_locked=True)
    assert cuda.locked == {first.ctypes.data: n}
    first[:] = 7
    kept = first[3:]
    del first
    second = buffers.byte_buffer(n, is_locked=True)  # refused: it works all the same
    second[:] = 8
    assert (len(cuda.locked), cuda.n_errors) == (1, 1)
    assert buffers.byte_buffer(n)[0] == 0  # one that is not to be locked is not
    assert kept[-1] == 7
    del kept, second
    assert cuda.locked == {}


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="of Linux")
def test_memory_that_was_filled_is_locked_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(buffers, "cuda_runtime", lambda: cuda)
    memory = buffers.byte_buffer(buffers.HUGE_BYTES)
    for part in (memory[5:9], memory, np.zeros(8, np.uint8)):
        buffers.lock(part)
    assert cuda.locked == {memory.ctypes.data: buffers.HUGE_BYTES}
    assert cuda.n_errors == 0


def test_no_cuda_no_lock() -> None:
    assert buffers.cuda_runtime() is None or build_has_gpu()
