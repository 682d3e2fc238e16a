"""Earlier turns in the prompt, by budget: recent turns whole, older ones as a short note.

Turns are only ever added to the prompt, so that its KV is reused. When they outgrow the budget the
oldest are dropped at a turn boundary, down to half of it: what follows is computed once and then
reused again for many turns. A note on all that was dropped stands in the message of the next turn:
the session's first question, the facts that answers cited, each verbatim under the marker it had,
and the questions that found nothing. It is extracted; no model had a hand in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from docqa import prompts
from docqa.config import AnswerConfig, SessionConfig
from docqa.errors import ContextOverflow
from docqa.pack import follows, rejoin
from docqa.prompts import Frame, PastTurn, StateNote
from docqa.protocols import Engine
from docqa.session_rows import StoredNote, StoredTurn
from docqa.sessions import Sessions
from docqa.store import Store
from docqa.types import (
    AnswerKind,
    BlockKind,
    Chunk,
    Citation,
    Document,
    Evidence,
    Locator,
    Scope,
    Segment,
    Span,
)

PROTECTED_TURNS = 2  # the last ones, which follow-ups are about
KEPT_SHARE = 0.5  # of the budget, once something has to be dropped
QUESTION_TOKENS = 128  # left for a question and the template around it
PINNED_CHARS = 2_000  # of one pinned passage; chunks of one heading are joined up to it
PROBE = "\N{OBJECT REPLACEMENT CHARACTER}probe\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class View:
    """What the next prompt of a session holds before its turn."""

    frame: Frame
    note_id: int | None = None  # of `frame.note`
    documents: tuple[Document, ...] = ()  # whose text is in it


class History:
    """One session as a model sees it. `session_id` None: only pins, nothing is kept."""

    def __init__(
        self, store: Store, sessions: Sessions, session_id: int | None, pins: Sequence[int] = ()
    ) -> None:
        """Look at nothing yet. `pins`: documents pinned for a question without a session."""
        self._store, self._sessions = store, sessions
        self.session_id = session_id
        self._pins = tuple(pins)

    def view(self, engine: Engine, answer: AnswerConfig, settings: SessionConfig) -> View:
        """Return what stands in the next prompt; turns over the budget are dropped for good.

        Raises:
            ContextOverflow: what is pinned leaves no room for a question.
        """
        pinned = self._pinned()
        room = _room(engine, pinned, answer)
        if self.session_id is None:
            return self._seen(Frame(pinned, first_marker=_after(pinned)))
        turns = self._sessions.turns(self.session_id)
        note = self._sessions.note(self.session_id)
        past = _past(turns, note)
        budget = min(room, settings.history_tokens or engine.info.context_length // 2)
        n_dropped = _n_dropped([n_tokens(engine, p) for _, p in past], budget)
        if n_dropped:
            first = past[n_dropped][0] if n_dropped < len(past) else len(turns)
            note = self._new_note(turns, first, pinned, engine, settings)
            past = _past(turns, note)
        is_told = note is None or note.ordinal in {ordinal for ordinal, _ in past}
        shown = None if note is None or is_told else _resolved(note, turns)
        marker = max(self._sessions.next_marker(self.session_id), _after(pinned))
        frame = Frame(pinned, tuple(p for _, p in past), shown, marker)
        return self._seen(frame, None if note is None or is_told else note.note_id)

    def _new_note(
        self,
        turns: Sequence[StoredTurn],
        first: int,
        pinned: Sequence[Evidence],
        engine: Engine,
        settings: SessionConfig,
    ) -> StoredNote:
        """Keep and return the note on the turns before `first`."""
        assert self.session_id is not None
        dropped = [t for t in turns if t.ordinal < first]
        asked = [t.answer.question for t in dropped]
        open_ = [t.answer.question for t in dropped if t.answer.kind is AnswerKind.NOT_FOUND]
        return self._sessions.set_note(
            self.session_id,
            ordinal=len(turns),
            first_turn=first,
            goal=asked[0] if asked else "",
            open=open_[-3:],
            facts=_facts(dropped, {e.path for e in pinned}, engine, settings.note_tokens),
        )

    def _pinned(self) -> tuple[Evidence, ...]:
        """Return the passages of the pinned documents, numbered."""
        if self.session_id is None:
            found: list[Evidence] = []
            for doc_id in self._pins:
                found += passages(self._store, doc_id, _after(found))
            return tuple(found)
        found = []
        for pin in self._sessions.pins(self.session_id):
            plain = passages(self._store, pin.doc_id, 1)
            first = pin.first_marker
            if first is None:
                first = self._sessions.number_pin(self.session_id, pin.doc_id, len(plain))
            found += [replace(e, marker=first + i) for i, e in enumerate(plain)]
        return tuple(found)

    def _seen(self, frame: Frame, note_id: int | None = None) -> View:
        keys = {source.chunk.span.doc_id or source.path for source in frame.sources}
        found = [self._store.document(key) for key in sorted(keys, key=str)]
        return View(frame, note_id, tuple(document for document in found if document is not None))


def _past(turns: Sequence[StoredTurn], note: StoredNote | None) -> list[tuple[int, PastTurn]]:
    """Return (ordinal, turn) of what stands in the prompt, oldest first.

    What the model did not read (an exact scan), what was dropped, and what holds a document that
    was removed or has changed does not.
    """
    first = note.first_turn if note else 0
    found = []
    for turn in turns:
        if turn.ordinal < first or not turn.is_read or turn.is_outdated or turn.removed:
            continue
        has_note = note is not None and note.ordinal == turn.ordinal
        told = _resolved(note, turns) if note is not None and has_note else None
        answer = turn.answer
        past = PastTurn(answer.query, turn.sources, answer.text, turn.above, told)
        found.append((turn.ordinal, past))
    return found


def passages(store: Store, doc_id: int, first_marker: int) -> list[Evidence]:
    """Return the whole of a document as sources; neighbours under one heading are joined."""
    document = store.document(doc_id)
    if document is None:
        return []
    joined: list[Chunk] = []
    for chunk in store.iter_chunks(Scope(doc_ids=frozenset({doc_id})), embed_text=False):
        last = joined[-1] if joined else None
        if last is not None and _may_join(last, chunk):
            joined[-1] = rejoin(last, chunk)
        else:
            joined.append(chunk)
    return [
        Evidence(marker, chunk, document.path, document.title, 0.0, chunk.n_tokens)
        for marker, chunk in enumerate(joined, start=first_marker)
    ]


def _may_join(left: Chunk, right: Chunk) -> bool:
    return follows(left, right) and right.span.end - left.span.start <= PINNED_CHARS


def _after(sources: Sequence[Evidence]) -> int:
    return max((source.marker for source in sources), default=0) + 1


def _room(engine: Engine, pinned: Sequence[Evidence], answer: AnswerConfig) -> int:
    """Return the tokens that are left for earlier turns."""
    n_fixed = len(prefix_tokens(engine, Frame(tuple(pinned))))
    reserved = answer.max_tokens + QUESTION_TOKENS
    room = engine.info.context_length - n_fixed - reserved
    if pinned and room < 0:
        raise ContextOverflow(
            f"the pinned documents take {n_fixed:,} tokens, and the context of "
            f"{engine.info.context_length:,} has room for "
            f"{engine.info.context_length - reserved:,}: pin less, or give the model a longer "
            "context"
        )
    return max(0, room - answer.evidence_tokens)


def n_tokens(engine: Engine, past: PastTurn) -> int:
    """Return the tokens of an earlier turn, the template's around it left out."""
    segments = [segment for _, contents in prompts.past_turn(past) for segment in contents]
    return sum(map(len, engine.tokenize(segments)))


def _n_dropped(sizes: Sequence[int], budget: int) -> int:
    """Return how many of the oldest turns go: none, or so many that half of the budget is free.

    The last turns are protected as long as they fit the budget by themselves.
    """
    if sum(sizes) <= budget:
        return 0
    n = 0
    while n < len(sizes) and sum(sizes[n:]) > budget * KEPT_SHARE:
        is_protected = len(sizes) - n <= PROTECTED_TURNS and sum(sizes[n:]) <= budget
        if is_protected:
            break
        n += 1
    return n


def _facts(
    dropped: Sequence[StoredTurn], pinned: set[str], engine: Engine, budget: int
) -> list[tuple[int, int]]:
    """Return the citations to remember, oldest first; where there are too many the newest stay."""
    kept: list[tuple[int, int]] = []
    seen: set[tuple[str, int, int]] = set()
    for turn in reversed(dropped):
        if turn.is_outdated or turn.removed or not turn.answer.found:
            continue
        for n, citation in enumerate(turn.answer.citations):
            key = (citation.path, citation.char_start, citation.char_end)
            if key in seen or citation.path in pinned:
                continue
            fact = _fact(turn, citation)
            (ids,) = engine.tokenize([Segment(prompts.source_block(fact), False)])
            budget -= len(ids)
            if budget < 0:
                return sorted(kept)
            seen.add(key)
            kept.append((turn.ordinal, n))
    return sorted(kept)


def _resolved(note: StoredNote, turns: Sequence[StoredTurn]) -> StateNote:
    """Return a note with its facts; those of documents that were removed or changed are gone."""
    by_ordinal = {turn.ordinal: turn for turn in turns}
    facts = []
    for ordinal, n in note.facts:
        turn = by_ordinal.get(ordinal)
        if turn is not None and not turn.is_outdated and not turn.removed:
            facts.append(_fact(turn, turn.answer.citations[n]))
    return StateNote(note.goal, note.open, tuple(facts))


def _fact(turn: StoredTurn, citation: Citation) -> Evidence:
    """Return a cited quote as a source of its own."""
    is_page = citation.page is not None
    first = (citation.page if is_page else citation.line) or 1
    last = (citation.page_last if is_page else citation.line_last) or first
    source = next((e for e in turn.answer.evidence if e.marker == citation.marker), None)
    chunk = Chunk(
        chunk_id=0,
        span=Span(
            source.chunk.span.doc_id if source else 0,
            citation.char_start,
            citation.char_end,
            Locator("page" if is_page else "line", first, last),
        ),
        ordinal=0,
        text=citation.quote,
        embed_text="",
        kind=BlockKind.PARAGRAPH,
        headings=source.chunk.headings if source else (),
    )
    title = source.title if source else ""
    return Evidence(citation.marker, chunk, citation.path, title, 0.0, 0)


def prefix_tokens(engine: Engine, frame: Frame) -> list[int]:
    """Return the tokens of everything before a turn's message: what every next prompt begins with.

    A note is left out: it stands in the message.
    """
    messages = prompts.messages(PROBE, (), frame.history(), pinned=frame.pinned)
    messages[-1] = ("user", [Segment(PROBE, False)])
    segments = engine.chat(messages)
    at = next(i for i, s in enumerate(segments) if PROBE in s.text)
    return [token for ids in engine.tokenize(segments[:at]) for token in ids]
