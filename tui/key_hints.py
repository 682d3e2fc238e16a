"""The keys of what has the focus, in the last line.

Textual's own Footer takes its widgets away and makes others whenever the focus moves: two layouts
of the whole screen after a key. Here the line is drawn anew, and nothing is laid out.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from tui.plain import assembled

Hint = tuple[str, str, str, bool]  # its key, how that is written, what it does, whether it can


class KeyHints(Static):
    """One line of hints, the palette's at its right end; a click on one presses its key."""

    DEFAULT_CSS = """
    KeyHints {
        dock: bottom; height: 1; text-wrap: nowrap;
        color: $footer-foreground; background: $footer-background;
    }
    """
    ALLOW_SELECT: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._hints: list[Hint] = []
        self._palette: Hint | None = None

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, self._show)

    def _show(self, screen: Screen[object]) -> None:
        active = screen.active_bindings
        by_action: dict[str, Hint] = {}  # of several keys that do the same, the first
        for found in active.values():
            if found.binding.show:
                by_action.setdefault(found.binding.action, self._hint(found))
        palette = active.get(self.app.COMMAND_PALETTE_BINDING)
        shown = list(by_action.values()), self._hint(palette) if palette else None
        if shown != (self._hints, self._palette):
            self._hints, self._palette = shown
            self.refresh()

    def _hint(self, found: ActiveBinding) -> Hint:
        binding = found.binding
        display = self.app.get_key_display(binding)
        return binding.key, display, binding.description, found.enabled

    def render(self) -> Content:
        """Draw the hints at the width that there is; those that do not fit are cut."""
        line = assembled(*[_drawn(hint, " ") for hint in self._hints])
        if self._palette is None:
            return line
        last = assembled(("▏", "$foreground 20%"), _drawn(self._palette, ""))
        room = max(0, self.size.width - last.cell_length)
        return assembled(line.truncate(room, pad=True), last)

    def on_click(self, event: events.Click) -> None:
        """Press the key of the hint that was clicked."""
        hint = self._at(event.x)
        if hint is not None and hint[3]:
            self.app.simulate_key(hint[0])

    def _at(self, x: int) -> Hint | None:
        if self._palette and x >= self.size.width - _drawn(self._palette, " ").cell_length:
            return self._palette
        end = 0
        for hint in self._hints:
            end += _drawn(hint, " ").cell_length
            if x < end:
                return hint
        return None


def _drawn(hint: Hint, gap: str) -> Content:
    _, display, description, is_enabled = hint
    text = assembled((f"{gap}{display} ", "bold $footer-key-foreground"), f"{description} ")
    return text if is_enabled else text.stylize("dim")
