"""What the screen knows of a conversation: one `Turn` a question. Lives on the UI's thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from docqa.events import (
    Answered,
    AnswerText,
    AskEvent,
    Packed,
    PrefillProgress,
    Retrieved,
)
from docqa.prompts import place
from docqa.types import Answer, Candidate, Citation, Evidence, Locator, PackedPrompt


class Phase(StrEnum):
    """How far a question has come."""

    SEARCHING = "searching"
    READING = "reading"  # prefill
    WRITING = "writing"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in a document that can be opened: a citation, or a source of the prompt."""

    marker: int
    path: str
    locator: Locator
    quote: str
    char_start: int
    char_end: int
    evidence: Evidence | None = None

    @property
    def where(self) -> str:
        """Return `page 3` or `lines 4-5`."""
        return place(self.locator)


@dataclass(slots=True)
class Turn:
    """A question, and what is known of its answer so far."""

    question: str
    text: str = ""
    phase: Phase = Phase.SEARCHING
    candidates: tuple[Candidate, ...] = ()
    prompt: PackedPrompt | None = None
    prefill: PrefillProgress | None = None
    answer: Answer | None = None
    error: str | None = None
    detail: str | None = None
    scope: tuple[str, ...] = ()  # names of the documents that it was limited to
    places: list[Place] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether the answer is still to come."""
        return self.phase in (Phase.SEARCHING, Phase.READING, Phase.WRITING)

    def apply(self, event: AskEvent) -> None:
        """Take in one event of `Workspace.ask`."""
        if isinstance(event, Retrieved):
            self.candidates = event.candidates
            self.phase = Phase.READING
        elif isinstance(event, Packed):
            self.prompt = event.prompt
            self.places = [place_of_evidence(e) for e in event.prompt.evidence]
        elif isinstance(event, PrefillProgress):
            self.prefill = event
            self.phase = Phase.WRITING if event.n_done >= event.n_total else Phase.READING
        elif isinstance(event, AnswerText):
            self.text += event.text
            self.phase = Phase.WRITING
        elif isinstance(event, Answered):
            self.finish(event.answer)

    def finish(self, answer: Answer) -> None:
        """Take in the whole answer."""
        self.answer = answer
        self.text = answer.text
        self.phase = Phase.DONE
        self.places = places_of(answer)

    def stop(self) -> None:
        """Keep what was written; the rest is not coming."""
        if self.is_open:
            self.phase = Phase.STOPPED

    def fail(self, error: str, detail: str | None) -> None:
        """Keep the error: it is shown as one, never as an answer."""
        self.error, self.detail, self.phase = error, detail, Phase.FAILED


def places_of(answer: Answer) -> list[Place]:
    """Return the citations of an answer; of a refusal the nearest passages."""
    if answer.citations:
        return [place_of_citation(c, answer.evidence) for c in answer.citations]
    return [place_of_evidence(e) for e in answer.evidence] if not answer.found else []


def place_of_citation(citation: Citation, evidence: tuple[Evidence, ...]) -> Place:
    """Return where a citation stands, with the passage of the prompt that holds it."""
    if citation.page is not None:
        locator = Locator("page", citation.page, citation.page_last or citation.page)
    else:
        first = citation.line or 1
        locator = Locator("line", first, citation.line_last or first)
    source = next((e for e in evidence if e.marker == citation.marker), None)
    return Place(
        citation.marker,
        citation.path,
        locator,
        citation.quote,
        citation.char_start,
        citation.char_end,
        source,
    )


def place_of_evidence(evidence: Evidence) -> Place:
    """Return where a source of the prompt stands; what the reader marked in it is the quote."""
    chunk = evidence.chunk
    start, end = 0, len(chunk.text)
    if evidence.marks:
        start, end = evidence.marks[0].start, evidence.marks[0].end
    return Place(
        evidence.marker,
        evidence.path,
        chunk.locate(start, end),
        chunk.text[start:end],
        chunk.span.start + start,
        chunk.span.start + end,
        evidence,
    )
