import multiprocessing
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docqa.index import IndexMismatch
from docqa.index.dense import FILE, PER_VECTOR, DenseIndex, Place, VectorIndex
from docqa.types import Scope
from tests.fakes import HashEmbedder

LIBRARY = "library-1"


def unit(rng, n: int, dim: int = 32) -> np.ndarray:
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(n: int, dim: int = 32, seed: int = 0) -> tuple[VectorIndex, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(10, 10 + n)).astype(np.int64)
    vectors = unit(rng, n, dim)
    index = VectorIndex(dim)
    index.add(ids[: n // 2], vectors[: n // 2])
    index.add(ids[n // 2 :], vectors[n // 2 :])
    return index, ids, vectors


def by_hand(ids, vectors, query, k, allowed=None) -> list[int]:
    """Inner products of the float16 vectors, in float64, sorted."""
    scores = vectors.astype(np.float16).astype(np.float64) @ query.astype(np.float64)
    pairs = sorted(zip(-scores, ids, strict=True))
    return [int(i) for _, i in pairs if allowed is None or i in allowed][:k]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 300), st.integers(0, 40), st.integers(0, 2**31), st.integers(1, 60))
def test_equals_exact_inner_product(n, k, seed, share):
    index, ids, vectors = filled(n, seed=seed)
    rng = np.random.default_rng(seed + 1)
    query = unit(rng, 1)[0]
    assert [i for i, _ in index.search(query, k)] == by_hand(ids, vectors, query, k)
    allowed = np.concatenate([ids[rng.random(n) < 1 / share], [5, 10**12]]).astype(np.int64)
    expected = by_hand(ids, vectors, query, k, set(allowed.tolist()))
    assert [i for i, _ in index.search(query, k, allowed)] == expected


def test_scores_are_inner_products():
    index, ids, vectors = filled(50)
    found = dict(index.search(vectors[7], 50))
    for i, vector in zip(ids, vectors, strict=True):
        assert found[int(i)] == pytest.approx(float(vector @ vectors[7]), abs=2e-3)


def test_remove_and_add_again():
    index, ids, vectors = filled(200)
    assert index.remove([*ids[:50].tolist(), 999_999]) == 50
    assert index.add(ids[40:60], vectors[40:60]) == 10  # ten of them are still here
    kept = np.concatenate([ids[50:], ids[40:50]])
    query = vectors[3]
    expected = by_hand(kept, np.concatenate([vectors[50:], vectors[40:50]]), query, 20)
    assert [i for i, _ in index.search(query, 20)] == expected
    assert sorted(index.ids.tolist()) == sorted(kept.tolist())


def test_ties_are_broken_by_id():
    index = VectorIndex(8)
    same = np.repeat(unit(np.random.default_rng(0), 1, 8), 5, axis=0)
    index.add(np.array([9, 3, 7, 5, 1]), same)
    assert [i for i, _ in index.search(same[0], 5)] == [1, 3, 5, 7, 9]


def test_written_and_read_it_is_the_same(tmp_path):
    index, _, vectors = filled(300)
    place = Place(LIBRARY, "model:abc", 32, 12, 3)
    index.write(tmp_path / FILE, place)
    again, found = VectorIndex.read(tmp_path / FILE)
    assert found == place
    assert again.ids.tolist() == index.ids.tolist()
    assert again.search(vectors[5], 10) == index.search(vectors[5], 10)
    again.add(np.array([10**6]), vectors[:1])
    assert len(again) == 301
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    VectorIndex(32).write(tmp_path / FILE, place)
    assert len(VectorIndex.read(tmp_path / FILE)[0]) == 0


def test_a_damaged_file_is_never_used(tmp_path):
    index, _, _ = filled(40)
    file = tmp_path / FILE
    with pytest.raises(IndexMismatch, match="no vector file"):
        VectorIndex.read(file)
    place = Place(LIBRARY, "model:abc", 32, 12, 3)
    index.write(file, place)
    good = file.read_bytes()
    random_ = random.Random(3)
    bad = [b"", good[:5], good[:100], good[: len(good) // 2], good[:-1], good + b"\0", b"x" * 200]
    for _ in range(200):
        flipped = bytearray(good)
        flipped[random_.randrange(good.index(b"}"), len(good))] ^= 1 << random_.randrange(8)
        bad.append(bytes(flipped))
    for content in bad:
        if content == good:
            continue
        file.write_bytes(content)
        with pytest.raises(IndexMismatch):
            VectorIndex.read(file)
    for _ in range(200):  # in the header: refused, or read with another place that is then compared
        flipped = bytearray(good)
        flipped[random_.randrange(good.index(b"}"))] ^= 1 << random_.randrange(8)
        file.write_bytes(bytes(flipped))
        try:
            again, _ = VectorIndex.read(file)
        except IndexMismatch:
            continue
        assert again.ids.tolist() == index.ids.tolist()


@dataclass
class Batch:
    ids: np.ndarray
    vectors: np.ndarray
    last_seq: int


@dataclass
class FakeSource:
    """A vector table in memory: id -> (seq, text, chunks)."""

    name: str = "hash-64"
    dim: int = 64
    rows: dict[int, tuple[int, str, list[int]]] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    n_added: int = 0
    n_read: int = 0
    documents: dict[int, int] = field(default_factory=dict)

    def put(self, passage: int, text: str, chunks: list[int]) -> None:
        self.n_added += 1
        self.rows[passage] = (self.n_added, text, chunks)

    def drop(self, passage: int) -> None:
        del self.rows[passage]
        self.gone.append((len(self.gone) + 1, passage))

    def embedder(self):
        return (self.name, self.dim) if self.n_added else None

    def last_seq(self):
        return self.n_added

    def last_removal(self):
        return len(self.gone)

    def batches(self, after_seq=0):
        rows = sorted((s, i, t) for i, (s, t, _) in self.rows.items() if s > after_seq)
        for begin in range(0, len(rows), 2):
            part = rows[begin : begin + 2]
            self.n_read += len(part)
            vectors = HashEmbedder(self.dim).embed_documents([t for _, _, t in part])
            yield Batch(np.array([i for _, i, _ in part], np.int64), vectors, part[-1][0])

    def removals(self, after_seq):
        found = [(s, i) for s, i in self.gone if s > after_seq]
        return [i for _, i in found], found[-1][0] if found else after_seq

    def _in(self, chunk: int, scope: Scope) -> bool:
        return scope.doc_ids is None or chunk // 100 in scope.doc_ids

    def allowed(self, scope):
        if scope.is_open:
            return None
        kept = [i for i, (_, _, cs) in self.rows.items() if any(self._in(c, scope) for c in cs)]
        return np.array(sorted(kept), np.int64)

    def resolve(self, passage_ids, scope, per_vector=4):
        found = {}
        for i in passage_ids:
            chunks = [c for c in self.rows.get(i, (0, "", []))[2] if self._in(c, scope)]
            if chunks:
                found[i] = chunks[:per_vector]
        return found


def library(tmp_path, source: FakeSource, library_id: str = LIBRARY) -> DenseIndex:
    return DenseIndex(tmp_path, library_id, source, lambda: HashEmbedder(source.dim))


def stocked() -> FakeSource:
    source = FakeSource()
    source.put(1, "the pump seal is worn", [101])
    source.put(2, "the valve is stuck", [102, 201])
    source.put(3, "disk full on host", list(range(300, 350)))
    return source


def ids(index: DenseIndex, query: str, k: int = 10, scope: Scope | None = None) -> list[int]:
    return [hit.chunk_id for hit in index.search(query, k, scope or Scope())]


def test_search_maps_vectors_to_chunks(tmp_path):
    index = library(tmp_path, stocked())
    assert ids(index, "pump seal worn", 1) == [101]
    assert ids(index, "valve stuck", 2) == [102, 201]
    assert ids(index, "disk full", PER_VECTOR) == [300, 301, 302, 303]
    assert ids(index, "valve stuck", 9, Scope(doc_ids=frozenset({2}))) == [201]
    assert ids(index, "valve stuck", 9, Scope(doc_ids=frozenset({77}))) == []
    assert ids(index, "   ") == [] and ids(index, "x", 0) == []


def test_an_empty_library_finds_nothing(tmp_path):
    index = library(tmp_path, FakeSource())
    assert ids(index, "pump") == []
    assert index.count() == 0
    index.close()
    assert not (tmp_path / FILE).exists()


def test_it_follows_the_store(tmp_path):
    source = stocked()
    index = library(tmp_path, source)
    assert index.count() == 3
    source.put(4, "a pump seal of rubber", [104])
    source.drop(1)
    assert ids(index, "pump seal", 1) == [104]
    assert index.count() == 3
    assert source.n_read == 4  # each vector was read once


def test_what_was_published_is_not_read_again(tmp_path):
    source = stocked()
    first = library(tmp_path, source)
    before = first.search("valve", 5)
    first.close()
    source.put(5, "more valves", [105])
    source.drop(3)
    source.n_read = 0
    second = library(tmp_path, source)
    assert second.count() == 3
    assert source.n_read == 1
    assert second.search("valve", 1) == before[:1]


@pytest.mark.parametrize("change", ["embedder", "library", "restored", "damaged"])
def test_another_store_or_embedder_means_a_new_index(tmp_path, change):
    source = stocked()
    library(tmp_path, source).refresh()
    index = library(tmp_path, source)
    index.refresh()
    index.close()
    assert (tmp_path / FILE).exists()
    other = stocked()
    other.put(9, "entirely other words", [109])
    library_id = LIBRARY
    if change == "embedder":
        other.name, other.dim = "hash-32", 32
    elif change == "library":
        library_id = "library-2"
    elif change == "restored":
        del other.rows[9]
        other.n_added = 2
        del other.rows[3]
    else:
        content = bytearray((tmp_path / FILE).read_bytes())
        content[-1] ^= 1
        (tmp_path / FILE).write_bytes(content)
    again = library(tmp_path, other, library_id)
    assert again.count() == len(other.rows)
    assert other.n_read == len(other.rows)
    assert ids(again, "valve stuck", 1) == [102]


def test_passages_without_chunks_make_room_for_others(tmp_path):
    source = FakeSource()
    for i in range(1, 40):
        source.put(i, "pump seal", [])  # their documents died
    source.put(40, "pump seal of another kind", [140])
    assert ids(library(tmp_path, source), "pump seal", 1) == [140]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("docqa.index.dense.publish", full)
    index = library(tmp_path, stocked())
    assert ids(index, "valve stuck", 1) == [102]
    index.close()
    assert ids(library(tmp_path, stocked()), "valve stuck", 1) == [102]


def test_threads_may_share_it(tmp_path):
    source = stocked()
    index = library(tmp_path, source)
    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(ids(index, "valve stuck", 2)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[102, 201]] * 8


def _count_in_a_child(folder: str, queue) -> None:
    index, _ = VectorIndex.read(Path(folder) / FILE)
    queue.put(len(index))


def test_another_process_reads_the_file(tmp_path):
    index = library(tmp_path, stocked())
    assert ids(index, "valve stuck", 1) == [102]  # FAISS has searched: fork would hang
    index.publish()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_count_in_a_child, args=(str(tmp_path), queue))
    child.start()
    assert queue.get(timeout=60) == 3
    child.join()
