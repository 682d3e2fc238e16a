"""The header reader: what it reads, and that every broken file is refused by name."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from docqa.errors import ModelNotFound, ModelRefused
from models.gguf import StringArray, read_header
from models.model_file import ModelFile, read_model
from tests.models.tiny import write_model


def test_reads_the_packaged_model(default_model: ModelFile) -> None:
    assert default_model.architecture == "llama"
    assert (default_model.n_layers, default_model.n_embd) == (30, 576)
    assert default_model.n_heads == (9,) * 30
    assert default_model.n_kv_heads == (3,) * 30
    assert (default_model.head_dim_k, default_model.head_dim_v) == (64, 64)
    assert default_model.context_length == 8192
    assert default_model.n_vocab == 49152
    assert default_model.quantisation == "Q4_1"
    assert default_model.n_params == 134_515_008
    assert default_model.rope.freq_base == 100_000.0
    assert not default_model.rope.is_extended
    assert default_model.vocabulary.pre == "smollm"
    assert default_model.chat_template is not None
    last = default_model.tensors[-1]
    assert last.offset + last.n_bytes == default_model.n_bytes


def test_agrees_with_gguf_py(tiny_models: dict[str, Path]) -> None:
    from gguf import GGUFReader

    path = tiny_models["lfm2"]
    header, other = read_header(path), GGUFReader(path)
    assert [t.name for t in header.tensors] == [t.name for t in other.tensors]
    assert [t.offset for t in header.tensors] == [t.data_offset for t in other.tensors]
    assert [t.n_bytes for t in header.tensors] == [t.n_bytes for t in other.tensors]
    for key, value in header.metadata.items():
        expected = other.fields[key].contents()
        if isinstance(value, StringArray):
            assert value.strings() == expected
        elif isinstance(value, np.ndarray):
            assert value.tolist() == expected
        else:
            assert value == expected


def _header(n_tensors: int, *entries: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, len(entries)) + b"".join(entries)


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int = 0) -> bytes:
    return (
        struct.pack("<Q", len(name))
        + name.encode()
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b"GG", "truncated"),
        (b"%PDF-1.7 and more of it than a header", "not a GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "metadata entries"),
        (_header(0, _entry("a", 8, struct.pack("<Q", 2**62))), "string of"),
        (_header(0, _entry("a", 13, b"")), "unknown type 13"),
        (_header(0, _entry("a", 9, struct.pack("<IQ", 9, 1))), "unknown type 9"),
        (_header(0, _entry("a", 9, struct.pack("<IQ", 4, 2**61))), "array of"),
        (_header(0, _entry("a", 9, struct.pack("<IQ", 8, 2**23))), "truncated"),
        (_header(0, _entry("a", 7, b"\x02")), "truth value"),
        (_header(0, _entry("a", 4, b"\0" * 4), _entry("a", 4, b"\0" * 4)), "there twice"),
        (_header(1, _entry("general.alignment", 4, struct.pack("<I", 24))), "power of two"),
        (_header(1, _entry("general.alignment", 4, struct.pack("<I", 0))), "alignment 0"),
        (_header(1, _tensor("w", (32,), 28)) + b"\0" * 512, "unsupported type 28"),
        (_header(1, _tensor("w", (33,), 8)) + b"\0" * 512, "whole blocks"),
        (_header(1, _tensor("w", (32, 0), 0)) + b"\0" * 512, "impossible shape"),
        (_header(1, _tensor("w", (2**32, 2**32), 0)) + b"\0" * 512, "impossible shape"),
        (_header(1, _tensor("w", (1,) * 5, 0)) + b"\0" * 512, "5 dimensions"),
        (_header(1, _tensor("w", (1024,), 0)) + b"\0" * 512, "beyond the end"),
        (_header(1, _tensor("w", (32,), 0, 64)) + b"\0" * 512, "where the one before it ends"),
        (_header(2, *[_tensor("w", (32,), 0)]) + _tensor("w", (32,), 0, 128) + b"\0" * 512, "same"),
        (_header(1, _tensor("w" * 64, (32,), 0)) + b"\0" * 512, "string of 64"),
    ],
)
def test_refuses(tmp_path: Path, content: bytes, problem: str) -> None:
    # Tensors are no metadata: the count that `_header` wrote for them is put right.
    if b"w" in content[24:] and content[4:8] == struct.pack("<I", 3):
        content = content[:16] + struct.pack("<Q", 0) + content[24:]
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=problem) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="cannot be read"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelNotFound, match="folder"):
        read_header(tmp_path)


def test_mutated_headers_are_read_or_refused(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    whole = tiny_models["qwen3"].read_bytes()
    n_header = min(t.offset for t in read_header(tiny_models["qwen3"]).tensors)
    rng = random.Random(7)
    path = tmp_path / "mutated.gguf"
    n_refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(n_header)
            if rng.random() < 0.5:
                content[at] = rng.randrange(256)
            else:
                content[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\x80" + b"\0" * 7])
        if rng.random() < 0.15:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        try:
            read_model(path)
        except ModelRefused as error:
            assert str(path) in str(error)
            n_refused += 1
    assert n_refused > 100


def test_truncated_anywhere_is_refused(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    whole = tiny_models["mistral"].read_bytes()
    path = tmp_path / "short.gguf"
    for size in [*range(0, len(whole), 24_989), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelRefused, match=r"truncated|not a GGUF"):
            read_model(path)


def test_split_models_need_their_parts(tmp_path: Path) -> None:
    import gguf

    path = write_model(tmp_path / "m-00002-of-00003.gguf", "qwen3")
    assert read_model(path).parts == (path,)
    part = tmp_path / "big-00001-of-00002.gguf"
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_uint16("split.count", 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelNotFound, match="big-00002-of-00002"):
        read_model(part)
    part.rename(tmp_path / "big-00002-of-00002.gguf")
    with pytest.raises(ModelRefused, match="name the first"):
        read_model(tmp_path / "big-00002-of-00002.gguf")


def test_a_vocabulary_without_weights_is_refused(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "bert.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(2)
    writer.add_context_length(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelRefused, match="no weights"):
        read_model(path)


def test_what_llama_cpp_would_abort_on_is_refused(tmp_path: Path) -> None:
    """The header is sound and the numbers are possible, but not together."""
    path = write_model(tmp_path / "m.gguf", "qwen3")
    whole = path.read_bytes()
    key = b"qwen3.rope.dimension_count" + struct.pack("<I", 4)
    assert whole.count(key + struct.pack("<I", 64)) == 1
    path.write_bytes(whole.replace(key + struct.pack("<I", 64), key + struct.pack("<I", 66)))
    with pytest.raises(ModelRefused, match="turns 66 numbers of heads that have 64"):
        read_model(path)
    token = struct.pack("<Q", 1) + b"A"
    assert whole.count(token) == 1
    path.write_bytes(whole.replace(token, struct.pack("<Q", 1) + b"B"))
    with pytest.raises(ModelRefused, match="same token twice"):
        read_model(path)
