"""The Textual app over a Workspace: `docqa` with no arguments, or `docqa tui [PATH…]`.

The app owns what runs in threads (one answer, one indexing, the model) and the state that screens
share. Threads post messages; only handlers touch widgets.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import thread_time
from typing import ClassVar

from textual import events, on
from textual._xterm_parser import XTermParser
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from docqa.errors import DocqaError
from docqa.parse.render import PageRenderer
from docqa.sanitize import sanitize
from docqa.types import Document
from docqa.workspace import NO_MODEL_NAME, Workspace
from tui.answering import Answering
from tui.conversation import Conversation
from tui.feed import EventRun, RunEnded, RunProgressed
from tui.gpu import PERIOD_S, gpu_line
from tui.indexing import Indexing
from tui.library import LibraryAsked, LibraryScreen
from tui.listing import Listing
from tui.main_screen import MainScreen
from tui.messages import (
    DocumentsRead,
    DocumentsRemoved,
    GpuAsked,
    MainReady,
    ModelFailed,
    ModelLoaded,
    PathsDropped,
    PinAsked,
    QuestionAsked,
    ScopeChanged,
    WorkDone,
)
from tui.model_screen import ModelChosen, ModelScreen
from tui.pacing import Pacing
from tui.page_view import HALF_BLOCKS, Graphics
from tui.plain import EdgeFilter, counted
from tui.sessions import SessionKeeper
from tui.sessions_panel import SessionAsked
from tui.status import Status
from tui.themes import THEMES
from tui.tidying import Tidying
from tui.watching import Watching

SWITCH_S = 0.0005  # a thread that computes hands the interpreter over so often; Python's is 0.005


class DocqaApp(App[int]):
    """Ask, see the evidence, keep the library."""

    TITLE = "docqa"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual's own declaration)
        (0, "-narrow"),
        (110, "-middle"),
        (150, "-wide"),
        (220, "-huge"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+r", "reload_model", "Reload model", show=False),
        Binding("f1", "help", "Help", show=False),
        Binding("f2", "library", "Library", show=False),
        Binding("f3", "why", "Why", show=False),
        Binding("f4", "model", "Model", show=False),
        Binding("ctrl+o", "add", "Add", show=False),
        Binding("ctrl+t", "add_samples", "Sample documents", show=False),
        Binding("ctrl+n", "new_session", "New session", show=False),
    ]

    def __init__(
        self,
        workspace: Workspace,
        paths: Sequence[Path] = (),
        graphics: Graphics = HALF_BLOCKS,
        typed: str = "",
    ) -> None:
        super().__init__()
        self._typed = typed
        self._filters.append(EdgeFilter())
        self.workspace = workspace
        self.status = Status(workspace.config.model.path)
        self.renderer = PageRenderer(workspace.config.parse)
        self.documents: list[Document] = []
        self._paths = tuple(paths)
        is_plain = workspace.config.tui.mode == "plain"
        graphics = HALF_BLOCKS if is_plain else graphics
        self.main = MainScreen(workspace, self.status, self.renderer, graphics)
        self.conversation = Conversation(self, SessionKeeper(workspace))
        self.answering = Answering(self)
        self.indexing = Indexing(self)
        self.watching = Watching(self)
        self.tidying = Tidying(self)
        self.pacing = Pacing(self)
        self._listing = Listing(self)
        for theme in THEMES:
            self.register_theme(theme)
        if is_plain:
            self.animation_level = "none"
            self.main.add_class("-plain")

    def get_default_screen(self) -> Screen[None]:
        """Return the main screen."""
        return self.main

    @on(MainReady)
    def _begin(self) -> None:
        theme = self.workspace.config.tui.theme
        if theme in self.available_themes:
            self.theme = theme
        sys.setswitchinterval(SWITCH_S)
        self.tidying.begin()
        self.refresh_documents()
        self.conversation.show()
        self.load_model()
        self.watching.begin()
        self._ask_gpu()
        if self._paths:
            self.indexing.add(self._paths)
        for event in XTermParser().feed(self._typed):
            self.post_message(event)

    def _ask_gpu(self) -> None:
        def ask() -> None:
            self.post_message(GpuAsked(gpu_line()))

        self.run_worker(ask, thread=True, group="gpu", exit_on_error=False)

    @on(GpuAsked)
    def _show_gpu(self, message: GpuAsked) -> None:
        if message.line:  # where there is none, nobody asks again
            self.show_status(replace(self.status, gpu=message.line))
            self.set_timer(PERIOD_S, self._ask_gpu)

    def notify_plain(self, text: str, *, is_error: bool = False) -> None:
        """Show a notification: sanitised, never markup."""
        severity = "error" if is_error else "information"
        self.notify(sanitize(text), severity=severity, markup=False)  # type: ignore[arg-type]

    def show_status(self, status: Status) -> None:
        """Keep and show another status."""
        self.status = status
        if self.main.is_laid_out:
            self.main.show_status(status)

    # Threads

    @on(RunProgressed)
    def _on_run_progressed(self, message: RunProgressed) -> None:
        if self.main.is_laid_out:
            self.answering.progressed(message.run)
            self.indexing.progressed(message.run)
            self.watching.progressed(message.run)

    @on(RunEnded)
    def _on_run_ended(self, message: RunEnded) -> None:
        self.pacing.gently(partial(self._end_run, message.run))

    def _end_run(self, run: EventRun[object]) -> None:
        if self.main.is_laid_out:
            self.answering.ended(run)
            self.indexing.ended(run)
            self.watching.ended(run)

    # Documents

    def refresh_documents(self) -> None:
        """Read the list of documents in a thread and show it, now or soon."""
        self._listing.refresh()

    @on(DocumentsRead)
    def _on_documents_read(self, message: DocumentsRead) -> None:
        self.pacing.gently(partial(self._take_documents, message))

    def _take_documents(self, message: DocumentsRead) -> None:
        began_s = thread_time()
        if message.error:
            self.notify_plain(message.error, is_error=True)
        elif message.documents is not None:
            self._show_documents(message.documents)
        self._listing.shown(began_s)

    def _show_documents(self, documents: list[Document]) -> None:
        self.documents = documents
        if not self.main.is_laid_out:
            return
        self.main.show_documents(documents)
        self.conversation.keep_pins(frozenset(d.path for d in documents))
        if isinstance(self.screen, LibraryScreen):
            self.screen.show_documents(documents)

    @on(PathsDropped)
    def _on_paths_dropped(self, message: PathsDropped) -> None:
        names = ", ".join(p.name for p in message.paths[:3])
        self.notify_plain(f"adding {names}")
        self.indexing.add(message.paths)

    @on(ScopeChanged)
    def _on_scope_changed(self, message: ScopeChanged) -> None:
        self.main.show_marks(message.doc_ids)

    @on(PinAsked)
    def _on_pin_asked(self, message: PinAsked) -> None:
        self.conversation.toggle_pin(message.path)

    @on(LibraryAsked)
    def _on_library_asked(self, message: LibraryAsked) -> None:
        if message.what == "stop":
            self.indexing.stop()
        elif message.what == "sync":
            self.indexing.add(self.workspace.roots())
        elif message.what == "reindex":
            self.indexing.add(message.paths, again=True)
        elif message.what == "watch":
            for path in message.paths:
                self.watching.toggle(path)
        elif message.what == "remove":
            self._remove(message.paths)

    def _remove(self, paths: Sequence[Path]) -> None:
        def remove() -> None:
            try:
                self.post_message(DocumentsRemoved(len(self.workspace.remove(paths)), None))
            except DocqaError as error:
                self.post_message(DocumentsRemoved(0, str(error)))

        self.run_worker(remove, thread=True, group="remove", exit_on_error=False)

    @on(DocumentsRemoved)
    def _on_documents_removed(self, message: DocumentsRemoved) -> None:
        self.refresh_documents()
        self.conversation.documents_removed()
        text = message.error or f"{counted(message.n_removed, 'document')} removed"
        self.notify_plain(text, is_error=message.error is not None)

    @on(SessionAsked)
    def _on_session_asked(self, message: SessionAsked) -> None:
        self.conversation.do(message.what, message.title)

    @on(WorkDone)
    def _on_work_done(self, message: WorkDone) -> None:
        if self.main.is_laid_out:
            message.then()

    def show_pins(self, paths: frozenset[str]) -> None:
        """Show which documents are pinned in the open session."""
        self.main.show_pins(paths)
        if isinstance(self.screen, LibraryScreen):
            self.screen.show_pins(paths)

    # The model

    def load_model(self) -> None:
        """Wait in a thread until the model is there."""

        def load() -> None:
            try:
                self._tell_model()
            except DocqaError as error:
                self.post_message(ModelFailed(str(error)))

        self._show_loading(self.workspace.config.model.path)
        self.run_worker(load, thread=True, group="model", exit_on_error=False)

    def _show_loading(self, path: str) -> None:
        now = self.status
        is_none = path == NO_MODEL_NAME
        status = Status(path, model_state="answers are quotes" if is_none else "loading")
        kept = replace(status, gpu=now.gpu, watcher=now.watcher, activity=now.activity)
        self.show_status(kept)

    def _tell_model(self) -> None:
        """Wait for the model, in a thread, and tell what it is."""
        from docqa.wiring import kv_bytes_of

        if self.workspace.config.model.path == NO_MODEL_NAME:
            return
        info = self.workspace.engine.info
        self.post_message(ModelLoaded(info, kv_bytes_of(self.workspace.config.model, info)))

    @on(ModelLoaded)
    def _on_model_loaded(self, message: ModelLoaded) -> None:
        self.main.show_banner("")
        self.show_status(replace(self.status, engine=message.info, kv_bytes=message.kv_bytes))
        self.tidying.model_loaded()

    @on(ModelFailed)
    def _on_model_failed(self, message: ModelFailed) -> None:
        self.show_status(replace(self.status, engine=None, model_state="not loaded"))
        self.main.show_banner(f"✗ {message.error}   Ctrl+R loads it again, F4 chooses another")

    @on(ModelChosen)
    def _on_model_chosen(self, message: ModelChosen) -> None:
        self.answering.stop()
        self._show_loading(message.model.path)

        def change() -> None:
            from docqa.wiring import change_model

            try:
                with self.answering.lock:
                    change_model(self.workspace, message.model)
                self._tell_model()
            except DocqaError as error:
                self.post_message(ModelFailed(str(error)))

        self.run_worker(change, thread=True, group="model", exit_on_error=False)

    # What the user does

    @on(QuestionAsked)
    def _on_question_asked(self, message: QuestionAsked) -> None:
        self.answering.ask(message.question)

    async def on_event(self, event: events.Event) -> None:
        """Note that somebody types, and go on."""
        if isinstance(event, events.InputEvent):
            self.tidying.typed()
        if isinstance(event, events.Key):
            self.pacing.typed()
        await super().on_event(event)

    async def action_quit(self) -> None:
        """Stop what runs and leave; what was committed is there on reopening."""
        self._cancel_all()
        self.exit(0)

    def _cancel_all(self) -> None:
        self.answering.cancel()
        self.indexing.cancel()
        self.watching.cancel()

    async def on_unmount(self) -> None:
        """End what runs, however the app ends."""
        self.tidying.end()
        self._cancel_all()
        await asyncio.to_thread(self.answering.wait)
        await asyncio.to_thread(self.watching.wait)
        await asyncio.to_thread(self.indexing.wait)
        self.renderer.close()

    def action_reload_model(self) -> None:
        """Load the same model anew."""
        self._on_model_chosen(ModelChosen(self.workspace.config.model))

    def action_new_session(self) -> None:
        """Begin an empty session."""
        self.conversation.new()

    def action_add(self) -> None:
        """Ask for a path to add."""
        from tui.dialogs import AddScreen

        self.push_screen(AddScreen(), lambda paths: self.indexing.add(paths or ()))

    def action_add_samples(self) -> None:
        """Add the sample documents."""
        from tui.welcome import sample_paths

        paths = sample_paths()
        if paths:
            self.indexing.add(paths)
        else:
            self.notify_plain("the sample documents are in the source tree only", is_error=True)

    def action_library(self) -> None:
        """Show the library."""
        if not isinstance(self.screen, LibraryScreen):
            marked = self.main.marked
            pins = frozenset(str(pin) for pin in self.conversation.pins)
            screen = LibraryScreen(self.documents, marked, self.indexing.state, pins)
            self.push_screen(screen)

    def action_why(self) -> None:
        """Show how the chosen answer came about."""
        from tui.why import WhyScreen

        if self.main.chosen is None:
            self.notify_plain("ask a question first")
        elif not isinstance(self.screen, WhyScreen):
            self.push_screen(WhyScreen(self.main.chosen))

    def action_model(self) -> None:
        """Choose and load a model."""
        if not isinstance(self.screen, ModelScreen):
            self.push_screen(ModelScreen(self.workspace.config))

    def action_help(self) -> None:
        """Show every key."""
        from tui.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_toggle_dark(self) -> None:
        """Change between the dark and the light theme."""
        is_dark = self.current_theme.dark
        self.theme = "docqa-light" if is_dark else "docqa-dark"

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer everything by name."""
        yield from super().get_system_commands(screen)
        yield SystemCommand("Add", "a file or folder to the library", self.action_add)
        yield SystemCommand("Add the sample documents", "", self.action_add_samples)
        yield SystemCommand("Library", "documents, states, errors", self.action_library)
        yield SystemCommand(
            "Sync",
            "look at every added path again",
            lambda: self.post_message(LibraryAsked("sync")),
        )
        yield SystemCommand("Stop indexing", "what was committed stays", self.indexing.stop)
        yield SystemCommand("Stop the answer", "", lambda: self.answering.stop())
        yield SystemCommand("New session", "", self.conversation.new)
        yield SystemCommand("Why", "how the answer came about", self.action_why)
        yield SystemCommand("Model", "choose, plan, load", self.action_model)
        yield SystemCommand("Reload the model", "", self.action_reload_model)
        yield SystemCommand("Light or dark", "", self.action_toggle_dark)
        yield SystemCommand("Help", "every key", self.action_help)
