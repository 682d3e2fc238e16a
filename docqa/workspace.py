"""The application service: one library, its indexes and models, behind a dozen verbs.

Front ends talk to this and to the records, nothing else. The core is synchronous: `sync` and `ask`
are generators of events; stopping is to stop iterating. Models are loaded when first needed, the
language model in a thread beside retrieval, so that neither waits for the other.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from docqa import pack
from docqa.answer import NO_MODEL, Draft, generate_answer, not_found, quote_answer
from docqa.config import Config
from docqa.errors import UnsupportedFile
from docqa.events import (
    Answered,
    AnswerText,
    AskEvent,
    FileDone,
    Packed,
    PrefillProgress,
    Retrieved,
    SyncDone,
    SyncEvent,
)
from docqa.followup import effective_query
from docqa.library import Library
from docqa.passage import PassageView, read_passage
from docqa.protocols import Engine, Reranker
from docqa.records import WatchedFolder
from docqa.retrieve import Retrieval, retrieve
from docqa.scan_answer import answer_by_scan
from docqa.session_desk import SessionDesk
from docqa.session_kv import Evict
from docqa.talk import Talk
from docqa.types import (
    Answer,
    AnswerKind,
    Candidate,
    Document,
    FileReport,
    Locator,
    PackedPrompt,
    PageInfo,
    Scope,
    State,
    Usage,
)

_WHOLE_DOCUMENT = re.compile(
    r"\b(summar(y|ise|ize|ising|izing)|overview|everything|whole (document|report|manual|contract)|"
    r"entire (document|report|manual|contract)|main (points|ideas|topics)|key (points|takeaways))\b"
    r"|\bcompare all\b",
    re.IGNORECASE,
)
NO_MODEL_NAME = "none"  # as `model.path`: answers are quotes
ONLY_PASSAGES = "only the passages listed were read, not the whole document"


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What a question or search is limited to. No paths: the whole library."""

    paths: tuple[Path, ...] = ()
    since: float | None = None  # UTC seconds
    until: float | None = None
    levels: frozenset[str] | None = None
    earlier: tuple[str, ...] = ()  # the questions before, oldest first: for follow-ups
    session: str | None = None  # its name: the question and its answer are kept in it
    pins: tuple[Path, ...] = ()  # documents that stand whole in the prompt; a session keeps them


class Workspace:
    """A library with the models that read it. Close it, or use it as a context manager."""

    def __init__(
        self,
        library: Library,
        config: Config,
        *,
        open_engine: Callable[[], Engine],
        open_reranker: Callable[[], Reranker | None],
        evict_kv: Evict = lambda folder, n_bytes, keep: None,
        forget_kv: Callable[[], object] = lambda: None,
    ) -> None:
        """Load nothing yet.

        `evict_kv` keeps the folder of saved KV within its quota; `forget_kv` has the engines of
        this user that run drop what they keep in memory.
        """
        self.library = library
        self.desk = SessionDesk(library.store, config, evict_kv)
        self.config = config
        self._open_engine = open_engine
        self._open_reranker = open_reranker
        self._forget_kv = forget_kv
        self._threads = ThreadPoolExecutor(1, "engine-start")
        self._engine: Future[Engine] | None = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free models and files. What was committed stays."""
        if self._engine is not None and not self._engine.cancel():
            if self._engine.exception() is None:
                self._engine.result().close()
            self._engine = None
        self._threads.shutdown()
        self.library.close()

    # Documents

    def sync(
        self,
        paths: Sequence[Path],
        *,
        password: str | None = None,
        cancel: threading.Event | None = None,
        again: bool = False,
    ) -> Iterator[SyncEvent]:
        """Bring the library up to date with files and folders; see `Library.sync`."""
        for event in self.library.sync(paths, password=password, cancel=cancel, again=again):
            if isinstance(event, SyncDone):
                self._purge(event.reports)
            yield event

    def remove(self, paths: Sequence[Path]) -> tuple[FileReport, ...]:
        """Purge documents under `paths` and everything derived from them."""
        reports = self.library.remove(paths)
        self._purge(reports)
        return reports

    def _purge(self, reports: Sequence[FileReport]) -> None:
        """Take documents that were removed out of the traces and out of the engines' memory."""
        if any(report.state is State.REMOVED for report in reports):
            self.desk.purge_traces(reports)
            self._forget_kv()
            engine = self._engine
            if engine is not None and engine.done() and engine.exception() is None:
                engine.result().forget_kv()

    def watch(self, paths: Sequence[Path] = (), *, stop: threading.Event) -> Iterator[SyncEvent]:
        """Keep the library in step with watched folders until `stop` is set; see `docqa.watch`.

        Yields what changes, and FolderState where a folder is watched, polled or away. Without
        `paths`, all folders that are remembered, also those that `set_watched` adds later.
        """
        for event in self.library.watch(stop, paths):
            if isinstance(event, FileDone):
                self._purge((event.report,))
            yield event

    def watched(self) -> list[WatchedFolder]:
        """Return the folders that are to be watched."""
        return self.library.store.roots.watched()

    def set_watched(
        self,
        path: Path,
        is_on: bool = True,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        """Remember that a folder is to be watched, and with which globs; or not any more.

        A watcher that runs follows within a moment. Documents stay in the library either way.
        """
        self.library.set_watched(path, is_on, tuple(include), tuple(exclude))

    def roots(self) -> list[Path]:
        """Return the paths that were added: what `docqa sync` looks at."""
        return self.library.roots()

    def documents(self) -> list[Document]:
        """Return the documents of the library, by path."""
        return self.library.store.documents()

    def document(self, path: str) -> Document | None:
        """Return the document at an absolute path, or None."""
        return self.library.store.document(path)

    def pages(self, doc_id: int) -> list[PageInfo]:
        """Return how each page of a document was read."""
        return self.library.store.pages(doc_id)

    def passage(
        self, path: str, locator: Locator, start: int, end: int, n_neighbours: int = 0
    ) -> PassageView | None:
        """Return characters [start, end) of a document with what stands around them."""
        return read_passage(self.library.store, path, locator, start, end, n_neighbours)

    def reports(self) -> list[FileReport]:
        """Return one report a document: `docqa list`."""
        return [
            FileReport(
                path=document.path,
                state=document.state,
                n_pages=document.n_pages,
                n_lines=document.n_lines,
                n_chunks=document.n_chunks,
                error=document.error,
                warnings=document.warnings,
            )
            for document in self.documents()
        ]

    def text(self, path: Path) -> str:
        """Return the extracted text of a document: what citations' offsets count in.

        Raises:
            UnsupportedFile: no document of that path is in the library.
        """
        document = self.library.store.document(path.absolute())
        if document is None:
            raise UnsupportedFile(path, "not in the library; `docqa add` puts it there")
        return self.library.store.text(document.doc_id)

    @contextmanager
    def spooled(self, stream: BinaryIO) -> Iterator[Path]:
        """Copy `stream` (standard input) to a file for one question; it is purged afterwards."""
        with TemporaryDirectory(prefix="docqa-stdin-") as folder:
            path = Path(folder) / "stdin.log"
            try:
                with path.open("xb") as file:
                    shutil.copyfileobj(stream, file)
                yield path
            finally:
                self.remove([path])

    # Questions

    def warm_up(self) -> None:
        """Begin to load the language model in the background."""
        if self._engine is None and self.config.model.path != NO_MODEL_NAME:
            self._engine = self._threads.submit(self._open_engine)

    @property
    def engine(self) -> Engine:
        """The language model, loaded now if it was not.

        Raises:
            ModelError: it cannot be loaded; the next call tries again.
        """
        self.warm_up()
        assert self._engine is not None
        try:
            return self._engine.result()
        except BaseException:
            self._engine = None
            raise

    def change_engine(self, open_engine: Callable[[], Engine], config: Config) -> None:
        """Close the language model and begin to load another, or the same one anew.

        Blocks until the old one is closed: its last question must be over.
        """
        old, self._engine = self._engine, None
        if old is not None and not old.cancel() and old.exception() is None:
            old.result().close()
        self._open_engine, self.config = open_engine, config
        self.warm_up()

    @cached_property
    def reranker(self) -> Reranker | None:
        """The reranker, loaded at its first use."""
        return self._open_reranker()

    def search(
        self,
        query: str,
        k: int,
        options: AskOptions = AskOptions(),
        *,
        is_reranked: bool = True,
    ) -> list[Candidate]:
        """Return the `k` best passages for `query`, best first; those below the threshold too."""
        scope = self.scope(options)
        found = self._retrieve(query, scope, is_reranked=is_reranked)
        return list(found.candidates[:k])

    def ask(
        self,
        question: str,
        options: AskOptions = AskOptions(),
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[AskEvent]:
        """Answer `question`: yields Retrieved, Packed, progress, checked text, and Answered last.

        In a session the turn is kept before Answered is yielded; go on to the end of the iterator,
        or its KV is not saved.

        Raises:
            ModelError: the language model is missing or died; retrieval still works.
            LibraryError: the library cannot be read.
        """
        talk = self.desk.talk(self.config, options.session, options.pins)
        prompt: PackedPrompt | None = None
        for event in self._answer(question, options, talk, cancel):
            if isinstance(event, Packed):
                prompt = event.prompt
            is_wanted = cancel is None or not cancel.is_set()
            if isinstance(event, Answered) and talk is not None and is_wanted:
                event = Answered(talk.keep(event.answer, prompt))  # one that was stopped is not
            yield event
        if talk is not None and talk.is_kept:
            talk.settle(self.engine, cancel)

    def _answer(
        self,
        question: str,
        options: AskOptions,
        talk: Talk | None,
        cancel: threading.Event | None,
    ) -> Iterator[AskEvent]:
        scope = self.scope(options)
        if scope.doc_ids is not None and talk is not None:
            scope = replace(scope, doc_ids=scope.doc_ids | talk.pinned)
        scanned = answer_by_scan(question, self.library, scope)
        if scanned is not None:
            yield AnswerText(scanned.text)
            yield Answered(scanned)
            return
        is_quoting = self.config.model.path == NO_MODEL_NAME
        if not is_quoting:
            self.warm_up()
        earlier = options.earlier or (talk.earlier if talk is not None else ())
        query = effective_query(question, earlier)
        found = self._retrieve(query, scope)
        if not (is_quoting or found.kept) and self.engine.info.refusal_threshold is not None:
            found = found.with_doubtful()
        yield Retrieved(query, found.candidates, found.retrieve_s, found.rerank_s)
        usage = Usage(retrieve_s=found.retrieve_s, rerank_s=found.rerank_s)
        notes = (ONLY_PASSAGES,) if _WHOLE_DOCUMENT.search(question) else ()
        if not found.kept:
            nearest = pack.nearest(found.candidates)
            yield Answered(not_found(question, query, nearest, usage))
            return
        if is_quoting:
            yield from self._quoted(question, query, found, usage, notes)
            return
        frame = pack.ALONE if talk is None else talk.view(self.engine).frame
        prompt = pack.pack(
            query, found.candidates, engine=self.engine, settings=self.config.answer, frame=frame
        )
        yield Packed(prompt)
        if talk is not None:
            yield from talk.restore(self.engine, cancel)
        draft: Draft | None = None
        for event in generate_answer(
            query,
            prompt,
            self.engine,
            self.config.answer,
            quote_score=self._quote_score(),
            cancel=cancel,
            may_shift=talk is not None,
        ):
            if isinstance(event, PrefillProgress | AnswerText):
                yield event
            else:
                draft = event
        assert draft is not None
        usage = replace(
            draft.usage,
            retrieve_s=found.retrieve_s,
            rerank_s=found.rerank_s,
            layer_tokens=prompt.layer_tokens,
        )
        yield Answered(
            Answer(
                question=question,
                query=query,
                found=draft.kind is not AnswerKind.NOT_FOUND,
                kind=draft.kind,
                text=draft.text,
                citations=draft.citations,
                evidence=prompt.evidence,
                usage=usage,
                engine=self.engine.info,
                notes=(*draft.notes, *notes),
            )
        )

    def _quoted(
        self, question: str, query: str, found: Retrieval, usage: Usage, notes: tuple[str, ...]
    ) -> Iterator[AskEvent]:
        """Answer with the best verbatim sentence: no model is loaded or asked."""
        evidence = pack.nearest(found.kept, self.config.answer.k)
        quote = quote_answer(query, evidence, self._quote_score())
        if quote is None:
            nearest = pack.nearest(found.candidates)
            yield Answered(not_found(question, query, nearest, usage))
            return
        yield AnswerText(quote.text)
        yield Answered(
            Answer(
                question=question,
                query=query,
                found=True,
                kind=quote.kind,
                text=quote.text,
                citations=quote.citations,
                evidence=evidence,
                usage=usage,
                engine=None,
                notes=(NO_MODEL, *notes),
            )
        )

    def scope(self, options: AskOptions) -> Scope:
        """Return what `options` limit a search to, paths resolved to documents."""
        doc_ids = self.library.doc_ids(options.paths) if options.paths else None
        return Scope(doc_ids, options.since, options.until, options.levels)

    def _retrieve(self, question: str, scope: Scope, *, is_reranked: bool = True) -> Retrieval:
        return retrieve(
            question,
            lexical=self.library.lexical,
            dense=self.library.dense,
            load=self.library.store.load,
            reranker=self.reranker if is_reranked else None,
            scope=scope,
            settings=self.config.retrieve,
            heads=self.library.headed,
        )

    def _quote_score(self) -> float:
        return self.reranker.threshold if self.reranker is not None else 0.0
