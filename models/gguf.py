"""Read the header of a GGUF file before llama.cpp does: bounds-checked, pure Python.

`read_header(path)` walks magic, metadata and tensor table and refuses (`ModelRefused`, naming file
and problem) whatever is truncated, oversized, of an unknown type, misaligned or outside the file.
llama.cpp's own loader has had memory bugs for each of these, and some files that it accepts crash
it at the first decode (weights in F64). Nothing is mapped: a file that shrinks while it is read is
a short read, not a SIGBUS.

The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 2 and 3, little-endian).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from docqa.errors import ModelNotFound, ModelRefused

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 1 << 28
MAX_STRING_BYTES = 1 << 24
MAX_ENTRIES = 1 << 16  # of the metadata, and tensors
MAX_ARRAY = 1 << 24
MAX_KEY_BYTES = 1 << 10
MAX_SHOWN_CHARS = 80
MAX_TENSOR_NAME = 63  # GGML_MAX_NAME, with its terminating zero
READ_BYTES = 1 << 22

# ggml type → (name, elements of a block, bytes of a block): the types that a weight may have, since
# every backend multiplies by them. Not here: F64 and the integers, which load and then crash, and
# Q8_1 and Q8_K, which are types of activations.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}

# metadata type → NumPy's; 7 is a bool of one byte, 8 a string, 9 an array.
_SCALARS: dict[int, str] = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "|b1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class StringArray:
    """Strings of the metadata, decoded when asked for. `ends` counts bytes in `data`."""

    data: bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self) -> Iterator[bytes]:
        """Yield the strings as they are in the file."""
        data = self.data
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield data[start:end]

    def strings(self) -> list[str]:
        """Return the strings; bytes that are not UTF-8 become U+FFFD."""
        return [raw.decode("utf-8", "replace") for raw in self.raw()]


Value = int | float | bool | str | npt.NDArray[np.generic] | StringArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of the file. `shape` is ggml's: the contiguous dimension first."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int  # in the file
    n_bytes: int

    @property
    def type_name(self) -> str:
        """The name of the type, such as `Q4_1`."""
        return TENSOR_TYPES[self.type_id][0]


@dataclass(frozen=True, slots=True)
class Header:
    """All that stands before the weights."""

    path: Path
    n_bytes: int  # of the file
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]


def read_header(path: Path) -> Header:
    """Return the checked header of the GGUF file at `path`.

    Raises:
        ModelNotFound: no such file, or not readable.
        ModelRefused: not GGUF, or broken in a way that the message names.
    """
    try:
        with open(_opened(path), "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError
            if not stat.S_ISREG(status.st_mode):
                raise ModelRefused(f"{path}: is a pipe or a device; name a .gguf file")
            return _Reader(path, file, status.st_size).header()
    except IsADirectoryError as error:
        raise ModelNotFound(f"{path}: is a folder; name a .gguf file in it") from error
    except OSError as error:
        raise ModelNotFound(f"{path}: cannot be read: {error.strerror}") from error


def _shown(name: str) -> str:
    """Return a name out of the file for a message: it may be of any length and any bytes."""
    return repr(name if len(name) <= MAX_SHOWN_CHARS else name[:MAX_SHOWN_CHARS] + "…")


def _opened(path: Path) -> int:
    """Return a descriptor of the file; a named pipe must not hold us up until somebody writes."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))


class _Reader:
    """A cursor over the first bytes of the file, which grow as they are needed."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path, self.file, self.n_bytes = path, file, n_bytes
        self.data = bytearray()
        self.at = 0

    def header(self) -> Header:
        if self.take(4) != MAGIC:
            raise self.refused("not a GGUF file")
        version = self.u32()
        if version not in VERSIONS:
            kind = "a big-endian one" if version in (1 << 24, 2 << 24, 3 << 24) else f"{version}"
            raise self.refused(f"GGUF version {kind} is not supported (2 and 3 are)")
        n_tensors, n_entries = self.count("tensors"), self.count("metadata entries")
        metadata = self.metadata(n_entries)
        tensors = self.tensors(n_tensors, metadata)
        return Header(self.path, self.n_bytes, version, metadata, tensors)

    # -- primitives -------------------------------------------------------------------------------

    def refused(self, problem: str) -> ModelRefused:
        return ModelRefused(f"{self.path}: {problem}; download or convert the model again")

    def need(self, n: int) -> None:
        """See that `n` bytes stand at the cursor."""
        end = self.at + n
        if end <= len(self.data):
            return
        if end > self.n_bytes:
            raise self.refused("truncated: the file ends inside its header")
        if end > MAX_HEADER_BYTES:
            raise self.refused(f"header of more than {MAX_HEADER_BYTES >> 20} MiB")
        self.data += self.file.read(max(READ_BYTES, end - len(self.data)))
        if end > len(self.data):
            raise self.refused("truncated: the file ends inside its header")

    def take(self, n: int) -> bytes:
        self.need(n)
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def count(self, what: str) -> int:
        n = self.u64()
        if n > MAX_ENTRIES:
            raise self.refused(f"{n} {what}: more than a model has")
        return n

    def string(self, limit: int = MAX_STRING_BYTES) -> bytes:
        n = self.u64()
        if n > limit:
            raise self.refused(f"a string of {n} bytes in the header")
        return self.take(n)

    # -- metadata ---------------------------------------------------------------------------------

    def metadata(self, n_entries: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for _ in range(n_entries):
            key = self.string(MAX_KEY_BYTES).decode("utf-8", "replace")
            if not key or key in found:
                raise self.refused(f"metadata key {_shown(key)} is empty or there twice")
            found[key] = self.value(key)
        return found

    def value(self, key: str) -> Value:
        kind = self.u32()
        if kind == _STRING:
            return self.string().decode("utf-8", "replace")
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise self.refused(f"metadata {_shown(key)} has the unknown type {kind}")
        value: int | float | bool = self.numbers(_SCALARS[kind], 1, key)[0].item()
        return value

    def numbers(self, dtype: str, n: int, key: str) -> npt.NDArray[np.generic]:
        raw = self.take(n * np.dtype(dtype).itemsize)
        if dtype == "|b1":
            if raw.strip(b"\0\1"):
                raise self.refused(f"metadata {_shown(key)}: a truth value that is neither 0 nor 1")
            return np.frombuffer(raw, np.uint8).astype(bool)
        return np.frombuffer(raw, dtype)

    def array(self, key: str) -> Value:
        kind, n = self.u32(), self.u64()
        if n > MAX_ARRAY:
            raise self.refused(f"metadata {_shown(key)}: an array of {n} elements")
        if kind == _STRING:
            return self.string_array(n)
        if kind not in _SCALARS:
            raise self.refused(f"metadata {_shown(key)}: an array of the unknown type {kind}")
        return self.numbers(_SCALARS[kind], n, key)

    def string_array(self, n: int) -> StringArray:
        """Walk `n` strings: the one loop here whose speed matters (a vocabulary, its merges)."""
        begin = self.at
        self.need(8 * n)
        starts = np.empty(n, np.int64)
        ends = np.empty(n, np.int64)
        at, size, unpack = self.at, len(self.data), _U64.unpack_from
        for i in range(n):
            if at + 8 > size:
                self.at = at
                self.need(8)
                size = len(self.data)
            (length,) = unpack(self.data, at)
            end = at + 8 + length
            if end > size:
                if length > MAX_STRING_BYTES:
                    raise self.refused(f"a string of {length} bytes in the header")
                self.at = at
                self.need(8 + length)
                size = len(self.data)
            starts[i] = at + 8 - begin
            ends[i] = end - begin
            at = end
        self.at = at
        return StringArray(bytes(self.data[begin:at]), starts, ends)

    # -- tensors ----------------------------------------------------------------------------------

    def tensors(self, n: int, metadata: Mapping[str, Value]) -> tuple[TensorInfo, ...]:
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self.refused(f"alignment {alignment!r}")
        if alignment & (alignment - 1):
            raise self.refused(f"alignment {alignment} is not a power of two")
        table = [self.tensor() for _ in range(n)]
        if len({t.name for t in table}) != n:
            raise self.refused("two tensors have the same name")
        base = self.at + -self.at % alignment
        expected = 0
        placed = []
        for tensor in table:
            if tensor.offset != expected:  # llama.cpp's loader demands it too
                raise self.refused(f"tensor {tensor.name!r} is not where the one before it ends")
            expected += tensor.n_bytes + -tensor.n_bytes % alignment
            if base + tensor.offset + tensor.n_bytes > self.n_bytes:
                raise self.refused(f"truncated: tensor {tensor.name!r} lies beyond the end")
            placed.append(_moved(tensor, base))
        return tuple(placed)

    def tensor(self) -> TensorInfo:
        name = self.string(MAX_TENSOR_NAME).decode("utf-8", "replace")
        n_dims = self.u32()
        if not name or not 1 <= n_dims <= 4:
            raise self.refused(f"tensor {_shown(name)} has {n_dims} dimensions")
        shape = tuple(self.u64() for _ in range(n_dims))
        type_id, offset = self.u32(), self.u64()
        if type_id not in TENSOR_TYPES:
            raise self.refused(f"tensor {_shown(name)} is of the unsupported type {type_id}")
        _, block, block_bytes = TENSOR_TYPES[type_id]
        n_elements = 1
        for size in shape:
            n_elements *= size
            if size < 1 or n_elements >= 1 << 48:
                raise self.refused(f"tensor {_shown(name)} has the impossible shape {shape}")
        if shape[0] % block:
            raise self.refused(f"tensor {_shown(name)}: rows of {shape[0]} are not whole blocks")
        return TensorInfo(name, shape, type_id, offset, n_elements // block * block_bytes)


def _moved(tensor: TensorInfo, base: int) -> TensorInfo:
    return TensorInfo(
        tensor.name, tensor.shape, tensor.type_id, base + tensor.offset, tensor.n_bytes
    )
