"""Why: how the last answer came about — candidates, what was packed, tokens, the prompt as sent."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import DataTable, Static, TabbedContent, TabPane

from docqa.prompts import place
from docqa.types import Candidate
from tui.key_hints import KeyHints
from tui.plain import assembled, cell, file_name, middle_cut, plain, shortened
from tui.status import layer_bar
from tui.turns import Turn

MAX_NAME_CELLS = 30
_COLUMNS = ("#", "words", "meaning", "fused", "rerank", "fate", "where", "passage")


def packed_markers(turn: Turn) -> dict[int, int]:
    """Return chunk id → source number in the prompt. A source may hold several neighbours."""
    found: dict[int, int] = {}
    for source in turn.prompt.evidence if turn.prompt else ():
        span = source.chunk.span
        for candidate in turn.candidates:
            other = candidate.chunk.span
            if other.doc_id == span.doc_id and span.start <= other.start and other.end <= span.end:
                found[candidate.chunk.chunk_id] = source.marker
    return found


def fates(turn: Turn) -> dict[int, str]:
    """Return chunk id → what became of it: `[2]`, or why it was dropped."""
    reasons = {c.chunk.chunk_id: c.dropped for c in turn.prompt.dropped} if turn.prompt else {}
    packed = packed_markers(turn)
    found = {}
    for candidate in turn.candidates:
        key = candidate.chunk.chunk_id
        reason = candidate.dropped or reasons.get(key) or "not packed"
        found[key] = f"[{packed[key]}]" if key in packed else reason
    return found


def row(number: int, candidate: Candidate, fate: str) -> list[Text]:
    """Return one line of the table; ranks count from 1, a dash: that index did not find it."""
    rerank = "-" if candidate.rerank_score is None else f"{candidate.rerank_score:.3f}"
    style = "bold green" if fate.startswith("[") else "dim"
    name = middle_cut(file_name(candidate.path), MAX_NAME_CELLS)
    where = f"{name}, {place(candidate.chunk.span.locator)}"
    return [
        cell(str(number)),
        cell(str(candidate.lexical_rank or "-")),
        cell(str(candidate.dense_rank or "-")),
        cell(f"{candidate.rrf_score:.4f}"),
        cell(rerank),
        cell(fate, style),
        cell(where),
        cell(shortened(candidate.chunk.text, 80), "dim"),
    ]


class WhyScreen(Screen[None]):
    """Three tabs over one turn."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,w,q", "dismiss", "Back")]

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn

    def compose(self) -> ComposeResult:
        """Lay out header and tabs."""
        yield Static(self._summary(), markup=False, id="why-summary")
        with TabbedContent():
            with TabPane(Content("Candidates")):
                yield DataTable(id="candidates", cursor_type="row", zebra_stripes=True)
            with TabPane(Content("Tokens")):
                yield Static(self._tokens(), markup=False, id="tokens")
            with TabPane(Content("Prompt as sent")), VerticalScroll():
                yield Static(self._prompt(), markup=False, id="prompt")
        yield KeyHints()

    def on_mount(self) -> None:
        """Fill the table."""
        if not self.query("#candidates"):
            return  # left before it was laid out
        table = self.query_one("#candidates", DataTable)
        table.add_columns(*[Text(name) for name in _COLUMNS])
        fate = fates(self.turn)
        for number, candidate in enumerate(self.turn.candidates, start=1):
            table.add_row(*row(number, candidate, fate[candidate.chunk.chunk_id]))
        table.focus()

    def _summary(self) -> Content:
        turn = self.turn
        parts: list[str | tuple[str, str]] = [("Why: ", "bold $accent"), (turn.question, "bold")]
        if turn.answer is None:
            parts.append((f"\n{turn.phase.value}", "$text-warning"))
            return assembled(*parts)
        usage = turn.answer.usage
        parts.append((f"\nsearched for: {turn.answer.query}", "$text-muted"))
        parts.append(
            (
                f"\nretrieve {usage.retrieve_s:.2f} s · rerank {usage.rerank_s:.2f} s · prefill "
                f"{usage.prefill_s:.2f} s ({usage.prompt_tokens} tokens, {usage.reused_tokens} "
                f"reused) · decode {usage.decode_s:.2f} s ({usage.generated_tokens} tokens)"
                + (f" · choose {usage.choose_s:.2f} s" if usage.choose_s else ""),
                "$text-muted",
            )
        )
        return assembled(*parts)

    def _tokens(self) -> Content:
        prompt = self.turn.prompt
        if prompt is None:
            return plain("No prompt was sent: nothing was evidence, or a scan answered.")
        layers = tuple(prompt.layer_tokens.items())
        answer = self.turn.answer
        engine = answer.engine if answer else None
        total = engine.context_length if engine else len(prompt.tokens)
        lines: list[Content] = [layer_bar(layers, total, 60), Content("")]
        lines += [plain(f"{name:<10} {n:>7,}") for name, n in layers]
        lines.append(plain(f"{'prompt':<10} {len(prompt.tokens):>7,}", "bold"))
        lines.append(plain(f"{'context':<10} {total:>7,}", "$text-muted"))
        return Content("\n").join(lines)

    def _prompt(self) -> Content:
        prompt = self.turn.prompt
        if prompt is None:
            return plain("No prompt was sent.")
        parts = [
            (segment.text, "bold $text-accent" if segment.is_control else "")
            for segment in prompt.segments
        ]
        return assembled(*parts)
