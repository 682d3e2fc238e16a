"""The status line: model, context by layer, reuse, KV, speed, indexing, offline."""

from __future__ import annotations

from dataclasses import dataclass, replace

from textual.content import Content
from textual.widgets import Static

from docqa.types import Answer, EngineInfo, PackedPrompt
from tui.plain import assembled, file_name

# layer → (letter, style): the letter says it without colour
_LAYERS = {
    "template": ("t", "$text-muted"),
    "system": ("s", "$text-secondary"),
    "pinned": ("p", "$text-warning"),
    "history": ("h", "$text-primary"),
    "evidence": ("e", "$text-success"),
    "question": ("q", "$text-accent"),
}
_BAR_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the status line shows. None: not known yet."""

    model: str
    engine: EngineInfo | None = None
    layers: tuple[tuple[str, int], ...] = ()
    n_reused: int | None = None
    n_prompt: int | None = None
    tokens_per_s: float | None = None
    kv_bytes: int | None = None
    gpu: str | None = None
    watcher: str = "not watching"
    activity: str = ""
    model_state: str = ""  # why there is no engine: loading, not loaded

    @property
    def n_used(self) -> int:
        """Tokens of the context that are in use."""
        return sum(n for _, n in self.layers)

    def with_prompt(self, prompt: PackedPrompt) -> Status:
        """Return the status while `prompt` is read."""
        return replace(self, layers=tuple(prompt.layer_tokens.items()))

    def with_answer(self, answer: Answer) -> Status:
        """Return the status after an answer."""
        usage = answer.usage
        speed = usage.generated_tokens / usage.decode_s if usage.decode_s > 0 else None
        return replace(
            self,
            engine=answer.engine or self.engine,
            n_reused=usage.reused_tokens if usage.prompt_tokens else self.n_reused,
            n_prompt=usage.prompt_tokens or self.n_prompt,
            tokens_per_s=speed or self.tokens_per_s,
        )


def layer_bar(layers: tuple[tuple[str, int], ...], total: int, width: int = _BAR_WIDTH) -> Content:
    """Return a bar of `width` cells: a letter of each layer for its share, dots for what is free.

    A layer that holds anything has at least one cell, as long as there is room.
    """
    parts: list[tuple[str, str]] = []
    left = width
    for name, n in layers:
        if n <= 0 or left == 0:
            continue
        cells = min(left, max(1, round(width * n / max(1, total))))
        letter, style = _LAYERS.get(name, ("?", "$text-muted"))
        parts.append((letter * cells, f"{style} bold"))
        left -= cells
    return assembled(*parts, ("·" * left, "$text-disabled"))


def status_content(status: Status, width: int) -> Content:
    """Return the line, what matters less left out where it is narrow."""
    model = file_name(status.engine.model if status.engine else status.model)
    state = "" if status.engine or not status.model_state else f", {status.model_state}"
    sign = ("● " if status.engine else "○ ", "$text-success")
    parts: list[Content] = [assembled(sign, model, (state, "$text-warning"))]
    if status.engine is not None:
        total = status.engine.context_length
        parts.append(
            assembled(layer_bar(status.layers, total), f" {status.n_used:,}/{total:,} tokens")
        )
        kv = f"KV {status.engine.kv_type_k}/{status.engine.kv_type_v}"
        size = f" {status.kv_bytes / 2**20:.0f} MB" if status.kv_bytes else ""
        if status.n_reused is not None:
            parts.append(assembled(f"{status.n_reused:,} of {status.n_prompt or 0:,} reused"))
        if status.tokens_per_s is not None:
            parts.append(assembled(f"{status.tokens_per_s:.1f} tok/s"))
        parts.append(assembled(kv + size))
    parts += [assembled(text) for text in (status.gpu, status.watcher) if text]
    first = [assembled((status.activity, "$text-warning"))] if status.activity else []
    last = assembled(("offline", "bold $text-success"))
    shown = [*first, *parts]
    while len(shown) > 1 and _length([*shown, last]) > width:
        shown.pop()
    return Content(" │ ").join([*shown, last])


def _length(parts: list[Content]) -> int:
    return sum(part.cell_length for part in parts) + 3 * (len(parts) - 1) + 2


class StatusLine(Static):
    """Draws a Status in one line."""

    def __init__(self, status: Status, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.status = status

    def show(self, status: Status) -> None:
        """Draw another status."""
        if status != self.status:
            self.status = status
            self.refresh()

    def render(self) -> Content:
        """Draw the line at the width that there is."""
        return status_content(self.status, self.size.width)
