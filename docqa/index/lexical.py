"""BM25 over chunks, in tantivy. A cache: what it holds comes from the store and goes back to it.

Every chunk is indexed with its document's title and heading path in a field of their own, so that a
passage is found by what it is about. Filters (documents, time, level) are part of the query, never
applied afterwards. The question is turned into terms by `docqa.index.words`; tantivy's query parser
never sees it, so that any text is a valid question.

One commit makes a batch visible together with `seq`, the number of the store's change up to which
the index is complete: both survive a kill, or neither. One process writes; any number read, and see
a commit at their next search.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docqa.errors import LibraryBusy, LibraryError
from docqa.index import IndexMismatch
from docqa.index.files import META, WRITING, check_head, check_manifest, write_manifest
from docqa.index.words import (
    ANALYSER_VERSION,
    QueryTerms,
    TermSplitter,
    extra_terms,
    new_analyser,
    phrase_terms,
    query_terms,
    rarest,
    split_analyser,
)
from docqa.types import Chunk, Hit, Scope

if TYPE_CHECKING:
    import tantivy

SCHEMA_VERSION = 1
CONTEXT_BOOST = 0.5  # of a term in title or headings, against one in the text
PHRASE_BOOST = 1.5  # of a whole identifier or quoted string, on top of its terms
MAX_QUERY_TERMS = 32  # of a pasted page, the rarest are looked for

EVERYTHING = Scope()
UNBEGUN = "the lexical index has no first commit: whoever made it was killed"

_ANALYSER = "words"
_HEAP_BYTES = 64_000_000  # of one writer thread, before it writes a segment


class LexicalIndex:
    """The lexical index of one library; a SearchIndex. Use `open`, else `create` and fill."""

    def __init__(self, folder: Path, index: tantivy.Index) -> None:
        """Take an open tantivy index; callers use `open` or `create`."""
        self.folder = folder
        self._index = index
        self._analyser = new_analyser()
        self._splitter = TermSplitter(self._analyser)
        index.register_tokenizer(_ANALYSER, split_analyser())
        index.config_reader("manual")
        self._writer: tantivy.IndexWriter | None = None
        self._seen: tuple[int, int] | None = None
        self._marker: dict[str, Any] = {}
        self._searcher()

    @classmethod
    def create(cls, folder: Path, library_id: str) -> LexicalIndex:
        """Return an empty index in `folder`, whose former content is deleted."""
        import tantivy

        with _writing(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            made = cls(folder, tantivy.Index(_schema(), path=str(folder), reuse=False))
        made._marker = {"fingerprint": _fingerprint(library_id), "seq": 0}
        made.commit(0)
        return made

    @classmethod
    def open(cls, folder: Path, library_id: str, *, is_thorough: bool = False) -> LexicalIndex:
        """Return the index in `folder`; `is_thorough` reads every byte of a large one too.

        Raises:
            IndexMismatch: there is none, its files are damaged, or it is of another library or
                version; `create` a new one and fill it from the store.
        """
        import tantivy

        if not (folder / META).is_file():
            raise IndexMismatch("there is no lexical index yet")
        check_head(folder, META)
        with _damage():
            check_manifest(folder, _segment_files(folder), is_thorough=is_thorough)
            opened = cls(folder, tantivy.Index.open(str(folder)))
        if not opened._marker and opened._searcher().num_docs == 0:
            raise IndexMismatch(UNBEGUN)
        if opened._marker.get("fingerprint") != _fingerprint(library_id):
            raise IndexMismatch("the lexical index is of another library or version")
        return opened

    @property
    def seq(self) -> int:
        """The number of the last change of the store that this index holds."""
        self._searcher()
        return int(self._marker["seq"])

    def count(self) -> int:
        """Return the number of chunks."""
        return max(0, int(self._searcher().num_docs) - 1)  # the marker is a document too

    # Writing

    def add(self, chunks: Sequence[Chunk], title: str = "") -> None:
        """Index chunks that have ids, of a document with this title. Visible after `commit`."""
        import tantivy

        writer, split = self._open_writer(), self._splitter.split
        for chunk in chunks:
            row = tantivy.Document()
            row.add_unsigned("chunk_id", chunk.chunk_id)
            row.add_unsigned("doc_id", chunk.span.doc_id)
            row.add_text("body", split(chunk.text))
            if extra := extra_terms(chunk.text):
                row.add_text("body", extra)
            if context := "\n".join(filter(None, (title, *chunk.headings))):
                row.add_text("context", split(context))
            if chunk.time_first is not None and chunk.time_last is not None:
                row.add_float("time_first", chunk.time_first)
                row.add_float("time_last", chunk.time_last)
            for level in chunk.levels:
                row.add_text("level", level)
            with _writing(self.folder):
                writer.add_document(row)

    def remove(self, doc_id: int) -> None:
        """Forget every chunk of a document. Visible after `commit`."""
        import tantivy

        # By query: `delete_documents_by_term` takes the number for a signed one and finds nothing.
        rows = tantivy.Query.term_query(self._index.schema, "doc_id", doc_id)
        writer = self._open_writer()
        with _writing(self.folder):
            writer.delete_documents_by_query(rows)

    def remove_after(self, doc_id: int, chunk_id: int) -> None:
        """Forget the chunks of a document with greater ids: the end of a log that has grown."""
        import tantivy

        schema, must = self._index.schema, tantivy.Occur.Must
        number = tantivy.FieldType.Unsigned
        later = tantivy.Query.range_query(schema, "chunk_id", number, chunk_id + 1, None)
        rows = tantivy.Query.term_query(schema, "doc_id", doc_id)
        both = tantivy.Query.boolean_query([(must, rows), (must, later)])
        writer = self._open_writer()
        with _writing(self.folder):
            writer.delete_documents_by_query(both)

    def commit(self, seq: int | None = None) -> None:
        """Make everything added and removed visible, durably; `seq` None leaves it as it is.

        About 20 ms: call it per document or batch, not per chunk.
        """
        import tantivy

        writer = self._open_writer()
        marker = dict(self._marker) | ({} if seq is None else {"seq": seq})
        row = tantivy.Document()
        row.add_text("marker", "marker")
        row.add_text("state", json.dumps(marker))
        with _writing(self.folder):
            writer.delete_documents_by_term("marker", "marker")
            writer.add_document(row)
            writer.commit()
            self._searcher()
            self._record()

    def release(self) -> None:
        """Let go of the write lock: uncommitted work is lost, merges under way are finished."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with _writing(self.folder):
                writer.wait_merging_threads()
                self._record()
                (self.folder / WRITING).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Let go of the write lock at once: uncommitted work and merges under way are lost."""
        self._writer = None

    close = release

    def _record(self) -> None:
        write_manifest(self.folder, [*_segment_files(self.folder), self.folder / META])

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            with _writing(self.folder):
                self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
                (self.folder / WRITING).touch()
                _drop_unfinished_deletes(self.folder)
        return self._writer

    # Reading

    def search(self, query: str, k: int, scope: Scope = EVERYTHING) -> list[Hit]:
        """Return at most `k` hits inside `scope` by BM25, best first, ties by chunk_id."""
        searcher = self._searcher()
        asked = self._query(query_terms(self._analyser, query), searcher)
        if asked is None or k <= 0:
            return []
        with _damage():
            found = searcher.search(self._within(asked, scope), k, count=False).hits
            ids = searcher.fast_field_values("chunk_id", [address for _, address in found])
        hits = [
            Hit(int(i), float(s)) for (s, _), i in zip(found, ids, strict=True) if i is not None
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def chunk_ids_containing(
        self,
        terms: Sequence[str],
        scope: Scope = EVERYTHING,
        n_most: int | None = None,
    ) -> Iterator[int]:
        """Yield the ids of all chunks inside `scope` with every one of `terms`, ascending.

        A prefilter for exact scans: a superset of the chunks in which the terms occur as whole
        words or identifiers, in any case and ending. Terms without a letter or digit are no
        condition. A term inside a longer word (`out` in `timeout`) is not found. Where there are
        more than `n_most`, the first of them.
        """
        import tantivy

        searcher = self._searcher()
        conditions = [
            (tantivy.Occur.Must, self._phrase(found))
            for term in terms
            if (found := phrase_terms(self._analyser, term))
        ]
        if not conditions:
            conditions = [(tantivy.Occur.Must, tantivy.Query.exists_query("chunk_id"))]
        asked = self._within(tantivy.Query.boolean_query(conditions), scope)
        with _damage():
            found = searcher.search(
                asked,
                max(1, n_most or int(searcher.num_docs)),
                count=False,
                order_by_field="chunk_id",
                order=tantivy.Order.Asc,
            ).hits
        yield from (int(chunk_id) for chunk_id, _ in found)

    def _query(self, terms: QueryTerms, searcher: tantivy.Searcher) -> tantivy.Query | None:
        import tantivy

        make, schema = tantivy.Query, self._index.schema
        seen = [
            (t, searcher.doc_freq("body", t) + searcher.doc_freq("context", t)) for t in terms.words
        ]
        words = rarest(seen, MAX_QUERY_TERMS)
        parts = [make.term_query(schema, "body", word) for word in words]
        parts += [
            make.boost_query(make.term_query(schema, "context", word), CONTEXT_BOOST)
            for word in words
        ]
        known = {word for word, frequency in seen if frequency}
        parts += [
            make.boost_query(self._phrase(phrase), PHRASE_BOOST)
            for phrase in terms.phrases[:MAX_QUERY_TERMS]
            if known.issuperset(set(phrase) & set(terms.words))
        ]
        if not parts:
            return None
        return make.boolean_query([(tantivy.Occur.Should, part) for part in parts])

    def _phrase(self, terms: Sequence[str]) -> tantivy.Query:
        import tantivy

        if len(terms) == 1:  # tantivy's phrase query panics on a single term
            return tantivy.Query.term_query(self._index.schema, "body", terms[0])
        return tantivy.Query.phrase_query(self._index.schema, "body", list(terms))

    def _within(self, asked: tantivy.Query, scope: Scope) -> tantivy.Query:
        """Return `asked` and the filters of `scope`, which add nothing to the score."""
        import tantivy

        make, schema = tantivy.Query, self._index.schema
        number = tantivy.FieldType.Float
        filters = []
        if scope.doc_ids is not None:
            filters.append(make.term_set_query(schema, "doc_id", sorted(scope.doc_ids)))
        if scope.levels is not None:
            filters.append(make.term_set_query(schema, "level", sorted(scope.levels)))
        # A chunk passes that overlaps [since, until]. Chunks without a time have no value to match.
        if scope.since is not None:
            filters.append(make.range_query(schema, "time_last", number, scope.since, None))
        if scope.until is not None:
            filters.append(make.range_query(schema, "time_first", number, None, scope.until))
        if not filters:
            return asked
        must = tantivy.Occur.Must
        silent = [(must, make.const_score_query(part, 0.0)) for part in filters]
        return make.boolean_query([(must, asked), *silent])

    def _searcher(self) -> tantivy.Searcher:
        """Return a searcher of the last commit of any process."""
        try:
            stat = os.stat(self.folder / META)  # noqa: PTH116 (called per search)
        except OSError as error:
            raise IndexMismatch("the lexical index is gone") from error
        version = (stat.st_mtime_ns, stat.st_ino)
        with _damage():
            if version != self._seen:
                self._index.reload()
                self._seen = version
                self._marker = self._read_marker() or self._marker
            return self._index.searcher()

    def _read_marker(self) -> dict[str, Any]:
        import tantivy

        searcher = self._index.searcher()
        query = tantivy.Query.term_query(self._index.schema, "marker", "marker")
        hits = searcher.search(query, 1, count=False).hits
        if not hits:
            return {}
        (state,) = searcher.doc(hits[0][1])["state"]
        found = json.loads(state)
        return found if isinstance(found, dict) else {}


def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk_id", fast=True)
    builder.add_unsigned_field("doc_id", indexed=True)
    builder.add_text_field("body", tokenizer_name=_ANALYSER)
    builder.add_text_field("context", tokenizer_name=_ANALYSER, index_option="freq")
    builder.add_float_field("time_first", fast=True)
    builder.add_float_field("time_last", fast=True)
    builder.add_text_field("level", tokenizer_name="raw", index_option="basic")
    # One document that carries what a commit has to carry: fingerprint and seq.
    builder.add_text_field("marker", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("state", tokenizer_name="raw", stored=True, index_option="basic")
    return builder.build()


def _fingerprint(library_id: str) -> str:
    return f"schema {SCHEMA_VERSION}, analyser {ANALYSER_VERSION}, library {library_id}"


def _segment_files(folder: Path) -> list[Path]:
    """Return the files that the last commit refers to; they never change once written."""
    segments, deletes = _committed(folder)
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.partition(".")[0] in segments
        and (file.suffix != ".del" or file.name in deletes)
    )


def _committed(folder: Path) -> tuple[set[str], set[str]]:
    """Return the segments of the last commit, and the names of their lists of deleted rows."""
    meta = json.loads((folder / META).read_bytes())
    segments, deletes = set(), set()
    for segment in meta["segments"]:
        name = segment["segment_id"].replace("-", "")
        segments.add(name)
        if segment.get("deletes"):
            deletes.add(f"{name}.{segment['deletes']['opstamp']}.del")
    return segments, deletes


def _drop_unfinished_deletes(folder: Path) -> None:
    """Delete the lists of deleted rows that a killed writer did not commit.

    The next one would give its own the same name, and tantivy refuses to write over a file. The
    caller holds the write lock.
    """
    _, kept = _committed(folder)
    for file in folder.glob("*.del"):
        if file.name not in kept:
            file.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what writing raises into what can be done about it.

    Raises:
        LibraryBusy: another process writes.
        LibraryError: the disk is full, fails, or may not be written.
        IndexMismatch: the index itself is damaged.
    """
    try:
        with _damage():
            yield
    except IndexMismatch as mismatch:
        text = mismatch.reason
        if "LockBusy" in text:
            raise LibraryBusy(
                f"{folder}: another process is writing; try again when it is done"
            ) from mismatch
        is_missing = any(sign in text for sign in _SIGNS_OF_DAMAGE)
        if is_missing or not any(sign in text for sign in _SIGNS_OF_THE_DISK):
            raise
        raise LibraryError(
            f"{folder}: the word index cannot be written ({_system_error(text)}). What was indexed "
            "before is intact and still answers; free some space or check the disk and the "
            "folder's permissions, and repeat the command."
        ) from mismatch


_SIGNS_OF_DAMAGE = ("NotFound", "FileDoesNotExist", "No such file")
_SIGNS_OF_THE_DISK = ("[Errno", "IoError", "io_error", "io::Error", "Os {", "os error")
_SYSTEM_ERROR = re.compile(r'message: "([^"]*)"|\[Errno \d+\] ([^:]*)')


def _system_error(text: str) -> str:
    found = _SYSTEM_ERROR.search(text)
    return next(filter(None, found.groups()), "input or output failed") if found else text[:200]


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what tantivy raises on a damaged index into IndexMismatch."""
    try:
        yield
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise IndexMismatch(f"the lexical index is damaged: {error}") from error
    except BaseException as error:
        # A panic in Rust arrives as a BaseException of a class that cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise IndexMismatch(f"the lexical index is damaged: {error}") from error
