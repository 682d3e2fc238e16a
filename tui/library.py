"""The library: folders, documents with their state and errors, live indexing, add and remove."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static, Tree

from docqa.types import Document, State
from tui.documents_panel import PIN, SIGNS
from tui.key_hints import KeyHints
from tui.messages import DocumentChosen, PinAsked, ScopeChanged
from tui.plain import assembled, cell, counted, file_name, middle_cut, plain
from tui.sync_state import SyncState

MAX_ROWS = 1000  # beyond, the filter and the tree find
_COLUMNS = {  # name → most cells; the details below the table have it all
    "": 2,
    "state": 13,
    "name": 40,
    "size": 16,
    "passages": 10,
    "vectors": 14,
    "changed": 16,
    "problem": 200,
}
_ADVICE = {
    State.FAILED: "Repair or replace the file, then press r to read it again.",
    State.QUARANTINED: "It killed the parser twice and is left alone until it changes.",
    State.PARTIAL: "Some pages could not be read; the others are searchable. For scanned pages "
    "install Tesseract, then press r.",
}


class LibraryAsked(Message):
    """The user wants `remove`, `reindex`, `sync`, `watch` or `stop`."""

    def __init__(self, what: str, paths: tuple[Path, ...] = ()) -> None:
        self.what, self.paths = what, paths
        super().__init__()


def matches(document: Document, words: str) -> bool:
    """Return whether every word of the filter is in the path, title, kind or state."""
    text = f"{document.path} {document.title} {document.kind} {document.state}".lower()
    return all(word in text for word in words.lower().split())


def folders_of(documents: Sequence[Document]) -> dict[str, int]:
    """Return folder → number of documents directly in it."""
    found: dict[str, int] = {}
    for document in documents:
        folder = str(PurePath(document.path).parent)
        found[folder] = found.get(folder, 0) + 1
    return dict(sorted(found.items()))


def widths_of(rows: Iterable[Sequence[Text]]) -> dict[str, int]:
    """Return column → cells, as its longest content needs. Textual would measure each cell anew."""
    widths = {name: max(1, len(name)) for name in _COLUMNS}
    for row in rows:
        for (name, most), content in zip(_COLUMNS.items(), row, strict=True):
            widths[name] = min(most, max(widths[name], content.cell_len))
    return widths


def changed_at(document: Document) -> str:
    """Return when the file was changed last, in local time."""
    return f"{datetime.fromtimestamp(document.mtime_ns / 1e9):%Y-%m-%d %H:%M}"


def details(document: Document) -> Content:
    """Return what is to be known of one document: path, problem, what to do."""
    sign, style = SIGNS[document.state]
    parts: list[str | tuple[str, str]] = [
        (f"{sign} {document.state.value}  ", style),
        (document.path, "bold"),
    ]
    if document.title != document.path:
        parts.append((f"\n{document.title}", "$text-muted"))
    if document.error:
        parts.append((f"\n✗ {document.error}", "$text-error"))
    for warning in document.warnings[:5]:
        parts.append((f"\n! {warning}", "$text-warning"))
    if document.state in _ADVICE:
        parts.append(f"\n→ {_ADVICE[document.state]}")
    return assembled(*parts)


class LibraryScreen(Screen[None]):
    """Folders on the left, documents on the right, details below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Back"),
        Binding("a", "app.add", "Add"),
        Binding("d,delete", "remove", "Remove"),
        Binding("r", "reindex", "Re-index"),
        Binding("R", "sync", "Sync all"),
        Binding("x", "stop", "Stop indexing"),
        Binding("space", "mark", "Mark"),
        Binding("p", "pin", "Pin"),
        Binding("f", "watch", "Watch folder"),
        Binding("slash", "filter", "Filter"),
    ]

    def __init__(
        self,
        documents: list[Document],
        marked: set[int],
        state: SyncState,
        pinned: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._pinned = pinned  # paths
        self.documents = documents
        self.marked = marked  # that of the side list: the same set
        self._state = state
        self._folder: str | None = None  # chosen in the tree
        self._folders: dict[str, int] = {}  # in the tree
        self._rows: dict[str, list[Text]] = {}  # in the table, by key
        self._widths: dict[str, int] = {}  # of its columns

    def compose(self) -> ComposeResult:
        """Lay out progress, filter, tree, table, details."""
        yield Static(markup=False, id="library-progress")
        yield Input(placeholder="filter by name, kind or state", id="library-filter")
        with Horizontal():
            tree: Tree[str | None] = Tree(Text("all folders"), id="folders")
            yield tree
            with Vertical():
                yield DataTable(id="library-table", cursor_type="row", zebra_stripes=True)
                yield Static(markup=False, id="library-details")
        yield KeyHints()

    def on_mount(self) -> None:
        """Fill tree and table."""
        if not self.is_laid_out:
            return  # left before that
        table = self.query_one("#library-table", DataTable)
        self.show_documents(self.documents)
        self.show_progress(self._state)
        table.focus()

    # What the app tells

    @property
    def is_laid_out(self) -> bool:
        """Whether the panes are there: the app may speak before they are."""
        return bool(self.query("#library-details"))

    def show_documents(self, documents: list[Document]) -> None:
        """Show the documents as they are now; the cursor stays."""
        self.documents = documents
        if not self.is_laid_out:
            return  # `on_mount` shows them
        if folders_of(documents) != self._folders:
            self._fill_tree()
        self._fill_table()

    def show_progress(self, state: SyncState) -> None:
        """Show how far indexing is."""
        self._state = state
        if not self.is_laid_out:
            return
        line = self.query_one("#library-progress", Static)
        if state.is_running:
            width = 30
            done = round(width * state.share())
            bar = "━" * done + "─" * (width - done)
            line.update(assembled((bar, "$text-accent"), f" {state.line()}", "   x stops"))
        elif state.error:
            line.update(plain(f"✗ {state.error}", "$text-error"))
        else:
            bad = f", {len(state.bad)} with problems" if state.bad else ""
            n = len(state.reports)
            said = f"{counted(n, 'file')} looked at{bad}" if n else "idle"
            line.update(plain(said, "$text-muted"))

    def _fill_tree(self) -> None:
        tree = self.query_one("#folders", Tree)
        tree.clear()
        tree.root.data = None
        tree.root.expand()
        nodes = {"": tree.root}
        self._folders = folders_of(self.documents)
        for folder, n in self._folders.items():
            parent = next((p for p in map(str, PurePath(folder).parents) if p in nodes), "")
            name = folder if not parent else str(PurePath(folder).relative_to(parent))
            nodes[folder] = nodes[parent].add(cell(f"{name}  {n}"), data=folder, expand=True)

    def _shown(self) -> list[Document]:
        words = self.query_one("#library-filter", Input).value
        below = self._folder
        return [
            d
            for d in self.documents
            if matches(d, words) and (below is None or PurePath(d.path).is_relative_to(below))
        ]

    def _fill_table(self) -> None:
        table = self.query_one("#library-table", DataTable)
        shown = self._shown()
        rows = {str(d.doc_id): self._row(d) for d in shown[:MAX_ROWS]}
        n_more = len(shown) - len(rows)
        more = f"{n_more:,} more: filter, or choose a folder" if n_more else ""
        table.border_subtitle = Content(more)
        widths = widths_of(rows.values())
        if list(rows) == list(self._rows) and widths == self._widths:
            self._update_cells(table, rows)
        else:
            at = table.cursor_row
            table.clear(columns=True)
            for name, width in widths.items():
                table.add_column(Text(name), width=width)
            for key, cells in rows.items():
                table.add_row(*cells, key=key)
            if rows:
                table.move_cursor(row=min(at, len(rows) - 1), animate=False)
        self._rows, self._widths = rows, widths
        self._show_details()

    def _update_cells(self, table: DataTable[Text], rows: dict[str, list[Text]]) -> None:
        """Replace the cells that say something else now."""
        columns = [column.key for column in table.ordered_columns]
        for key, cells in rows.items():
            if cells != (before := self._rows[key]):
                for column, old, new in zip(columns, before, cells, strict=True):
                    if old != new:
                        table.update_cell(key, column, new)

    def _row(self, document: Document) -> list[Text]:
        sign, _ = SIGNS[document.state]
        size = counted(document.n_pages, "page") if document.n_pages else ""
        size = size or (counted(document.n_lines, "line") if document.n_lines else "")
        pending = f"{document.n_pending:,} to do" if document.n_pending else "done"
        problem = document.error or "; ".join(document.warnings)
        style = "" if document.state in (State.INDEXED, State.UNCHANGED) else "bold"
        return [
            cell(self._signs(document)),
            cell(f"{sign} {document.state.value}", style),
            cell(middle_cut(file_name(document.path), _COLUMNS["name"])),
            cell(size),
            cell(f"{document.n_chunks:,}"),
            cell(pending),
            cell(changed_at(document)),
            cell(problem[:200]),
        ]

    def _signs(self, document: Document) -> str:
        mark = "◆" if document.doc_id in self.marked else " "
        return mark + (PIN if document.path in self._pinned else " ")

    def show_pins(self, paths: frozenset[str]) -> None:
        """Show which documents are pinned in the session."""
        self._pinned = paths
        if self.is_laid_out:
            self._fill_table()

    def current(self) -> Document | None:
        """Return the document under the cursor."""
        table = self.query_one("#library-table", DataTable)
        if not table.row_count or not table.is_valid_row_index(table.cursor_row):
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((d for d in self.documents if str(d.doc_id) == key), None)

    def _show_details(self) -> None:
        document = self.current()
        text = details(document) if document else plain("no document", "$text-muted")
        self.query_one("#library-details", Static).update(text)

    @on(DataTable.RowHighlighted)
    def _on_row(self) -> None:
        self._show_details()

    @on(DataTable.RowSelected)
    def _open(self) -> None:
        document = self.current()
        if document is not None:
            self.app.pop_screen()
            self.app.screen.post_message(DocumentChosen(document.doc_id))

    @on(Input.Changed, "#library-filter")
    def _on_filter(self) -> None:
        self._fill_table()

    @on(Input.Submitted, "#library-filter")
    def _leave_filter(self) -> None:
        self.query_one("#library-table").focus()

    @on(Tree.NodeSelected)
    def _on_folder(self, event: Tree.NodeSelected[str | None]) -> None:
        self._folder = event.node.data
        self._fill_table()

    def action_back(self) -> None:
        """Leave the filter, else the screen."""
        if self.query_one("#library-filter").has_focus:
            self.query_one("#library-table").focus()
        else:
            self.app.pop_screen()

    def action_filter(self) -> None:
        """Go to the filter."""
        self.query_one("#library-filter").focus()

    def action_mark(self) -> None:
        """Mark or unmark the document under the cursor."""
        document = self.current()
        if document is not None:
            self.marked ^= {document.doc_id}
            self._fill_table()
            self.app.post_message(ScopeChanged(frozenset(self.marked)))

    def action_pin(self) -> None:
        """Pin the document under the cursor in the session, or not any more."""
        document = self.current()
        if document is not None:
            self.app.post_message(PinAsked(Path(document.path)))

    def action_remove(self) -> None:
        """Remove the document under the cursor, after a question."""
        from tui.dialogs import ConfirmScreen

        document = self.current()
        if document is None:
            return

        def remove(is_sure: bool | None) -> None:
            if is_sure:
                self.app.post_message(LibraryAsked("remove", (Path(document.path),)))

        name = file_name(document.path)
        question = f"Remove {name} and all that was derived from it? The file itself stays."
        self.app.push_screen(ConfirmScreen(question), remove)

    def action_reindex(self) -> None:
        """Read the document under the cursor again."""
        document = self.current()
        if document is not None:
            self.app.post_message(LibraryAsked("reindex", (Path(document.path),)))

    def action_watch(self) -> None:
        """Watch the folder chosen in the tree, else that of the document; or not any more."""
        document = self.current()
        folder = self._folder or (str(PurePath(document.path).parent) if document else None)
        if folder is not None:
            self.app.post_message(LibraryAsked("watch", (Path(folder),)))

    def action_sync(self) -> None:
        """Look at every added path again."""
        self.app.post_message(LibraryAsked("sync"))

    def action_stop(self) -> None:
        """Stop indexing."""
        self.app.post_message(LibraryAsked("stop"))
