"""Vectors of passages, searched exactly. A cache: the store's vector table is the truth.

`VectorIndex` holds (ids, vectors) and searches them: FAISS's flat index over float16, the precision
of the store, one thread a query. It is exact, takes half the memory of float32 and, being bound by
memory, half the time (100,000 x 384: docqa/bench/retrieval.py). `DenseIndex` makes it a SearchIndex
of one library: before each search it takes over what the store gained and lost, and it maps vectors
to chunks. A vector may stand for many chunks: equal `embed_text` is embedded once.

The file is a header (JSON: schema, library, embedder, D, count, how far it follows the store, and
the BLAKE3 hash of the rest), then ids (N,) int64 and vectors (N, D) float16, little-endian. It is
checked before use, replaced as a whole, and its loss costs only time.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from docqa.index import IndexMismatch
from docqa.index.files import publish
from docqa.types import Chunk, Hit, Scope

if TYPE_CHECKING:
    from docqa.protocols import Embedder

Ids = npt.NDArray[np.int64]  # (N,)
Vector = npt.NDArray[np.float32]  # (D,)
Vectors = npt.NDArray[np.float32]  # (N, D)

SCHEMA_VERSION = 1
FILE = "vectors.bin"
PER_VECTOR = 4  # chunks that one vector may bring: log templates would fill the list
EVERYTHING = Scope()

_MAGIC = b"docqavec"
_PREFIX = struct.Struct("<8sI")
_MAX_HEADER_BYTES = 65_536
_PUBLISH_SHARE = 0.02  # of the vectors must have changed: the next process catches up faster


class VectorBatch(Protocol):
    """Vectors in the order of addition."""

    @property
    def ids(self) -> Ids:
        """(N,)."""
        ...

    @property
    def vectors(self) -> Vectors:
        """(N, D), rows of unit length."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the last addition in this batch."""
        ...


class VectorSource(Protocol):
    """What the index needs of the store; docqa.vectors.VectorTable is one.

    Ids are never used twice. Additions and removals are numbered, each in its own sequence.
    """

    def embedder(self) -> tuple[str, int] | None:
        """Return (name, D) of the embedder whose vectors are current."""
        ...

    def last_seq(self) -> int:
        """Return the number of the last addition."""
        ...

    def last_removal(self) -> int:
        """Return the number of the last removal."""
        ...

    def batches(self, after_seq: int = 0) -> Iterator[VectorBatch]:
        """Yield the vectors of the current embedder added after `after_seq`, in order."""
        ...

    def removals(self, after_seq: int) -> tuple[list[int], int]:
        """Return (ids removed after `after_seq`, number of the last removal)."""
        ...

    def allowed(self, scope: Scope) -> Ids | None:
        """Return the ids of vectors with a chunk inside `scope`; None: all of them."""
        ...

    def resolve(
        self, passage_ids: Sequence[int], scope: Scope, per_vector: int = ...
    ) -> Mapping[int, Sequence[int]]:
        """Return id → at most `per_vector` of its chunks inside `scope`; without one: left out."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Whose vectors these are, and how far they follow the store."""

    library: str
    embedder: str
    dim: int
    seq: int = 0
    removal: int = 0


def _faiss() -> Any:
    """Return the library: loaded at the first use, and typed as what its wrappers accept."""
    import faiss

    return faiss


class VectorIndex:
    """Ids and vectors of unit length; exact nearest neighbours by inner product."""

    def __init__(self, dim: int) -> None:
        """Make an empty index of D = `dim`."""
        faiss = _faiss()
        self.dim = dim
        self.ids: Ids = np.empty(0, np.int64)
        self._order: Ids | None = None
        half = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(dim, half, faiss.METRIC_INNER_PRODUCT)
        self._index.is_trained = True  # float16 has nothing to train

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Ids, vectors: Vectors) -> int:
        """Add vectors (N, D); ids that are already here are left out. Return how many were new."""
        _, first = np.unique(ids, return_index=True)
        fresh = np.sort(first[~np.isin(ids[first], self.ids)])
        self._add_halves(ids[fresh], np.ascontiguousarray(vectors[fresh], np.float16))
        return len(fresh)

    def _add_halves(self, ids: Ids, halves: npt.NDArray[np.float16]) -> None:
        if halves.shape != (len(ids), self.dim):
            raise ValueError(f"vectors of shape {halves.shape} for {len(ids)} ids, D {self.dim}")
        if len(ids):
            self._index.add_sa_codes(halves.view(np.uint8))
            self.ids = np.concatenate([self.ids, ids])
            self._order = None

    def remove(self, ids: Sequence[int]) -> int:
        """Remove vectors; unknown ids are left out. Return how many were removed."""
        gone = np.isin(self.ids, np.asarray(ids, np.int64))
        if gone.any():
            self._index.remove_ids(np.flatnonzero(gone))  # keeps the order of the rest
            self.ids = self.ids[~gone]
            self._order = None
        return int(gone.sum())

    def halves(self) -> npt.NDArray[np.float16]:
        """Return a view (N, D) of the vectors, valid until the next change."""
        faiss = _faiss()
        if not len(self):
            return np.empty((0, self.dim), np.float16)
        codes: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(
            self._index.codes.data(), len(self) * self.dim * 2
        )
        return codes.view(np.float16).reshape(len(self), self.dim)

    def search(self, vector: Vector, k: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
        """Return at most `k` (id, inner product), best first, ties by id.

        `allowed` (any order, unknown ids are no error) limits the search; None does not.
        """
        if vector.shape != (self.dim,):
            raise ValueError(f"a query of shape {vector.shape} for D {self.dim}")
        k = min(k, len(self))
        if k <= 0:
            return []
        at = None if allowed is None else self._positions(allowed)
        positions, scores = self._scan(vector, k, at)
        ids = self.ids[positions]
        best = np.lexsort((ids, -scores))[:k]
        return [(int(ids[i]), float(scores[i])) for i in best]

    def _scan(self, vector: Vector, k: int, at: Ids | None) -> tuple[Ids, Vector]:
        faiss = _faiss()
        # One query is one thread's work; more only wait for each other (measured 2-4 x slower).
        faiss.omp_set_num_threads(1)
        query = np.ascontiguousarray(vector, np.float32)[None]
        if at is None:
            scores, positions = self._index.search(query, k)
        else:
            # Also for few vectors this beats gathering them (3,000 of 100,000: 1.8 against 12 ms).
            mask = np.zeros(len(self), bool)
            mask[at] = True
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            scores, positions = self._index.search(
                query, k, params=faiss.SearchParameters(sel=selector)
            )
        found = positions[0] >= 0
        return positions[0][found], scores[0][found]

    def _positions(self, ids: Ids) -> Ids:
        """Return where `ids` are; those that are not here are left out."""
        if self._order is None:
            self._order = np.argsort(self.ids, kind="stable")
        place = np.searchsorted(self.ids, ids, sorter=self._order)
        found = self._order[np.minimum(place, len(self) - 1)]
        return np.unique(found[self.ids[found] == ids])

    # The file

    def write(self, file: Path, place: Place) -> None:
        """Publish the vectors with their place. Raises OSError; the old file is then untouched."""
        from blake3 import blake3

        ids, halves = self.ids.astype("<i8"), self.halves().astype("<f2", copy=False)
        digest = blake3(max_threads=blake3.AUTO)
        digest.update(ids.view(np.uint8).data)
        digest.update(halves.reshape(-1).view(np.uint8).data)
        header = json.dumps(
            {
                "schema": SCHEMA_VERSION,
                **asdict(place),
                "count": len(ids),
                "blake3": digest.hexdigest(),
            }
        ).encode()

        def fill(out: IO[bytes]) -> None:
            out.write(_PREFIX.pack(_MAGIC, len(header)) + header)
            out.write(ids.tobytes())
            halves.tofile(out)

        file.parent.mkdir(parents=True, exist_ok=True)
        publish(file, fill)

    @classmethod
    def read(cls, file: Path) -> tuple[VectorIndex, Place]:
        """Return what `write` wrote.

        Raises:
            IndexMismatch: the file is absent, of another version, or not as it was written.
        """
        try:
            with file.open("rb") as source:
                header = _read_header(source)
                count, dim = int(header["count"]), int(header["dim"])
                place = Place(
                    str(header["library"]),
                    str(header["embedder"]),
                    dim,
                    int(header["seq"]),
                    int(header["removal"]),
                )
                if count < 0 or not 0 < dim <= 65_536:
                    raise ValueError("impossible sizes")
                payload = np.fromfile(source, np.uint8)
        except FileNotFoundError as error:
            raise IndexMismatch("there is no vector file yet") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexMismatch(f"the vector file is damaged: {error}") from error
        if len(payload) != count * (8 + 2 * dim):
            raise IndexMismatch("the vector file has the wrong length")
        if _digest(payload) != header.get("blake3"):
            raise IndexMismatch("the vector file was changed by something else")
        index = cls(dim)
        halves = payload[8 * count :].view("<f2").reshape(count, dim)
        index._add_halves(payload[: 8 * count].view("<i8").astype(np.int64), halves)
        return index, place


def _digest(payload: npt.NDArray[np.uint8]) -> str:
    from blake3 import blake3

    digest = blake3(max_threads=blake3.AUTO)
    digest.update(payload.data)
    return str(digest.hexdigest())


def _read_header(source: IO[bytes]) -> dict[str, Any]:
    prefix = source.read(_PREFIX.size)
    if len(prefix) != _PREFIX.size:
        raise ValueError("it is too short")
    magic, size = _PREFIX.unpack(prefix)
    if magic != _MAGIC or size > _MAX_HEADER_BYTES:
        raise ValueError("it is no vector file")
    header = json.loads(source.read(size))
    if not isinstance(header, dict) or header.get("schema") != SCHEMA_VERSION:
        raise ValueError("it is of another version")
    return header


class DenseIndex:
    """The dense index of one library; a SearchIndex that follows the store by itself.

    Safe to share between threads; each process has its own, and all follow the same store.
    """

    def __init__(
        self,
        folder: Path,
        library_id: str,
        source: VectorSource,
        open_embedder: Callable[[], Embedder],
    ) -> None:
        """Start nothing yet.

        Args:
            folder: where the file is kept.
            library_id: of the store; a file of another library is not used.
            source: the store's vectors.
            open_embedder: returns the embedder for queries; called at the first search.
        """
        self._file = folder / FILE
        self._library = library_id
        self._source = source
        self._open_embedder = open_embedder
        self._lock = threading.Lock()
        self._index: VectorIndex | None = None
        self._place = Place(library_id, "", 0)
        self._n_unpublished = 0

    def count(self) -> int:
        """Return the number of vectors as of now."""
        with self._lock:
            self._follow()
            return len(self._index) if self._index is not None else 0

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Take over what the store gained. Vectors reach it through the store, not from here."""
        self.refresh()

    def remove(self, doc_id: int) -> None:
        """Take over what the store lost."""
        self.refresh()

    def refresh(self) -> None:
        """Bring the index up to date with the store; cheap where nothing changed."""
        with self._lock:
            self._follow()

    def search(self, query: str, k: int, scope: Scope = EVERYTHING) -> list[Hit]:
        """Return at most `k` chunks inside `scope` by cosine, best first, ties by chunk_id.

        Equal passages (log templates) bring at most PER_VECTOR chunks each.
        """
        if k <= 0 or not query.strip():
            return []
        with self._lock:
            self._follow()
            if self._index is None or not len(self._index):
                return []
        return self.search_vector(self._open_embedder().embed_query(query), k, scope)

    def search_vector(self, vector: Vector, k: int, scope: Scope = EVERYTHING) -> list[Hit]:
        """Return what `search` does for a query that is embedded already."""
        allowed = self._source.allowed(scope)
        n_asked = k
        while True:
            with self._lock:
                self._follow()
                if self._index is None or vector.shape != (self._index.dim,):
                    return []
                found = self._index.search(vector, n_asked, allowed)
            chunks = self._source.resolve([i for i, _ in found], scope, PER_VECTOR)
            hits = [Hit(c, score) for i, score in found for c in chunks.get(i, ())]
            # Passages whose chunks are gone bring none: then more are asked for.
            if len(hits) >= k or len(found) < n_asked:
                return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:k]
            n_asked *= 4

    def publish(self) -> None:
        """Write the file if enough changed that the next process is better off with it.

        A cache that cannot be written (full disk, no permission) is no error: the store has it all.
        """
        with self._lock:
            if self._index is None or self._n_unpublished <= len(self._index) * _PUBLISH_SHARE:
                return
            with contextlib.suppress(OSError):
                self._index.write(self._file, self._place)
                self._n_unpublished = 0

    def close(self) -> None:
        """Publish and let go of the memory."""
        self.publish()
        with self._lock:
            self._index = None

    def _follow(self) -> None:
        """Load or make the index, then apply what happened in the store since."""
        current = self._source.embedder()
        if current is None:
            self._index = None
            return
        name, dim = current
        if self._index is None:
            self._load()
        last_seq, last_removal = self._source.last_seq(), self._source.last_removal()
        place = self._place
        is_ours = (place.library, place.embedder, place.dim) == (self._library, name, dim)
        # A store that is behind the index was restored from a backup.
        is_ahead = place.seq > last_seq or place.removal > last_removal
        if self._index is None or not is_ours or is_ahead:
            self._index = VectorIndex(dim)
            place = Place(self._library, name, dim, 0, last_removal)
        self._apply(place, last_seq, last_removal)

    def _load(self) -> None:
        try:
            self._index, self._place = VectorIndex.read(self._file)
            self._n_unpublished = 0
        except IndexMismatch:
            self._index = None

    def _apply(self, place: Place, last_seq: int, last_removal: int) -> None:
        assert self._index is not None
        seq, removal, n_changed = place.seq, place.removal, 0
        # Additions first: an id never comes back once it was removed.
        if last_seq > seq:
            for batch in self._source.batches(seq):
                n_changed += self._index.add(batch.ids, batch.vectors)
                seq = batch.last_seq
            seq = max(seq, last_seq)
        if last_removal > removal:
            gone, removal = self._source.removals(removal)
            n_changed += self._index.remove(gone)
        self._n_unpublished += n_changed
        self._place = Place(place.library, place.embedder, place.dim, seq, removal)
