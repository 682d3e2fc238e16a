"""One question of a session: what stands before it, its KV restored, its turn kept, its KV saved.

The order is the point. KV is restored before the prompt is read; the turn is in the database before
its answer is shown as finished; only then, with nobody waiting, the model reads the turn as later
prompts will have it and its KV goes to disk. A kill between any two steps leaves the session as it
was before or after the turn, and at worst KV that is computed again.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from docqa.config import Config
from docqa.errors import LibraryError, ModelError
from docqa.events import PrefillProgress
from docqa.history import History, View, prefix_tokens
from docqa.prompts import Frame
from docqa.protocols import Engine, Prefill, Stop
from docqa.session_kv import KvShelf
from docqa.session_rows import NewTurn
from docqa.sessions import Sessions
from docqa.store import Store
from docqa.types import Answer, Document, PackedPrompt, Usage

KV_REFUSED = "saved KV was not used, its text is read again"


class Talk:
    """A question in the session `name`, or, without a name, one with pinned documents."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        shelf: KvShelf,
        config: Config,
        name: str | None,
        pins: Sequence[int] = (),
    ) -> None:
        """Pin `pins` in the session; without one they are pinned for this question."""
        self._store, self._sessions, self._shelf, self._config = store, sessions, shelf, config
        self._name, self._pins = name, tuple(pins)
        if name is not None and pins:
            sessions.pin(name, pins)
        self._session = None if name is None else sessions.find(name)
        self._view: View | None = None
        self._restored = 0
        self._refusal = ""
        self._boundary: Stop | None = None  # what reading the pinned documents cost, if it was now
        self.is_kept = False  # a turn that the model read is in the session, its KV not saved yet

    @property
    def earlier(self) -> tuple[str, ...]:
        """The questions of the session so far, oldest first."""
        if self._session is None:
            return ()
        return tuple(self._sessions.questions(self._session.session_id))

    @property
    def pinned(self) -> frozenset[int]:
        """The documents that are pinned."""
        if self._session is None:
            return frozenset(self._pins)
        return frozenset(pin.doc_id for pin in self._sessions.pins(self._session.session_id))

    def view(self, engine: Engine) -> View:
        """Return what stands in the prompt before this question; raise ContextOverflow."""
        if self._view is None:
            config = self._config
            self._view = self._history().view(engine, config.answer, config.session)
        return self._view

    def _history(self) -> History:
        session_id = None if self._session is None else self._session.session_id
        return History(self._store, self._sessions, session_id, self._pins)

    def restore(
        self, engine: Engine, cancel: threading.Event | None = None
    ) -> Iterator[PrefillProgress]:
        """Bring saved KV back; what is pinned and was never saved is read now, and saved."""
        if not self._config.session.keep_kv:
            return
        frame = self.view(engine).frame
        if self._session is not None:
            path = self._shelf.session_path(self._session.session_id)
            self._restored, self._refusal = self._shelf.load(engine, path)
        if self._restored or not frame.pinned:
            return
        tokens = prefix_tokens(engine, Frame(frame.pinned))
        path = self._shelf.prefix_path(engine, tokens)
        self._restored, refusal = self._shelf.load(engine, path)
        self._refusal = self._refusal or refusal
        if self._restored:
            return
        self._boundary = yield from _read(engine, tokens, cancel)
        if self._boundary is not None:
            self._shelf.save(engine, path, self._pinned_documents())

    def _pinned_documents(self) -> list[Document]:
        found = (self._store.document(doc_id) for doc_id in sorted(self.pinned))
        return [document for document in found if document is not None]

    def keep(self, answer: Answer, prompt: PackedPrompt | None) -> Answer:
        """Keep the turn; return its answer with what it may cite and what it cost.

        `prompt`: as the model read it; None where no model was asked.
        """
        view = self._view
        if prompt is None or view is None:
            if self._name is not None:
                self._sessions.append(self._name, NewTurn(answer))
            return answer
        first = view.frame.first_marker
        own = tuple(e for e in prompt.evidence if e.marker >= first)
        cited = {citation.marker for citation in answer.citations}
        named = [e for e in prompt.evidence if e.marker < first]
        above = tuple(e for e in named if e.marker in prompt.above or e.marker in cited)
        notes = answer.notes
        if self._refusal:
            notes = (*notes, f"{KV_REFUSED}: {self._refusal}")
        answer = replace(answer, evidence=(*above, *own), usage=self._cost(answer), notes=notes)
        if self._name is not None:
            last = max((e.marker for e in own), default=first - 1)
            turn = NewTurn(answer, own, prompt.above, True, view.note_id, first, last + 1)
            self._sessions.append(self._name, turn)
            self.is_kept = True
        return answer

    def _cost(self, answer: Answer) -> Usage:
        """Return what the question cost, with the reading of what is pinned."""
        usage = replace(answer.usage, restored_tokens=self._restored)
        stop = self._boundary
        if stop is None:
            return usage
        return replace(
            usage,
            reused_tokens=usage.reused_tokens - (stop.n_prompt - stop.n_reused),
            prefill_s=usage.prefill_s + stop.prefill_s,
        )

    def settle(self, engine: Engine, cancel: threading.Event | None = None) -> None:
        """Have the model read the finished turn as later prompts have it, and save its KV.

        The turn is kept and shown: what fails here costs time only; `KvShelf.problem` says it.
        """
        try:
            self._settle(engine, cancel)
        except (ModelError, LibraryError) as error:
            self._shelf.problem = str(error)

    def _settle(self, engine: Engine, cancel: threading.Event | None) -> None:
        if self._name is None or not self._config.session.keep_kv:
            return
        self._session = self._sessions.find(self._name)
        if self._session is None:
            return  # deleted in the meantime
        config = self._config
        view = self._history().view(engine, config.answer, config.session)
        tokens = prefix_tokens(engine, view.frame)
        if _result(_read(engine, tokens, cancel)) is not None:
            session_id = self._session.session_id
            path = self._shelf.session_path(session_id)
            self._shelf.save(engine, path, view.documents, session_id)


def _read(
    engine: Engine, tokens: Sequence[int], cancel: threading.Event | None
) -> Generator[PrefillProgress, None, Stop | None]:
    """Have the model read `tokens`; return what that cost, None where it was stopped."""
    stop: Stop | None = None
    for event in engine.generate(tokens, max_tokens=0, cancel=cancel, may_shift=True):
        if isinstance(event, Prefill):
            yield PrefillProgress(event.n_done, event.n_total, event.n_reused)
        elif isinstance(event, Stop):
            stop = event if event.reason != "cancelled" else None
    return stop


def _result(reading: Generator[PrefillProgress, None, Stop | None]) -> Stop | None:
    while True:
        try:
            next(reading)
        except StopIteration as end:
            found: Stop | None = end.value
            return found
