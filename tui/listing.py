"""The list of documents, read in a thread and shown: not more often than it can be afforded.

While a folder of ten thousand files is indexed, each of them is a reason to read the list again.
"""

from __future__ import annotations

from time import monotonic, thread_time
from typing import TYPE_CHECKING

from docqa.errors import DocqaError
from docqa.types import Document
from tui.messages import DocumentsRead
from tui.pacing import MIN_WAIT_S

if TYPE_CHECKING:
    from tui.app import DocqaApp

GAP_S = 0.5  # between two readings
SHARE = 0.04  # of the UI's thread at most


class Listing:
    """Asks for the documents and tells how dear it was to show them. Used on the UI's thread."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._is_reading = False
        self._is_wanted = False  # again, when that is allowed
        self._not_before = 0.0

    def refresh(self) -> None:
        """Have the documents read and shown: now, or as soon as it is time."""
        wait_s = self._not_before - monotonic()
        if self._is_reading or wait_s > 0:
            if not self._is_wanted and not self._is_reading:
                self._app.set_timer(max(MIN_WAIT_S, wait_s), self._again)
            self._is_wanted = True
            return
        self._is_reading, self._is_wanted = True, False
        self._app.run_worker(self._read, thread=True, group="documents", exit_on_error=False)

    def _again(self) -> None:
        self._is_wanted = False
        self.refresh()

    def _read(self) -> None:
        documents: list[Document] | None = None
        error = None
        try:
            documents = self._app.workspace.documents()
        except DocqaError as problem:
            error = str(problem)
        self._app.post_message(DocumentsRead(documents, error))

    def shown(self, began_s: float) -> None:
        """Note that what was read is shown; `began_s` is the thread's time before that."""
        self._is_reading = False
        cost_s = thread_time() - began_s
        self._not_before = monotonic() + max(GAP_S, cost_s / SHARE)
        if self._is_wanted:
            self._is_wanted = False
            self.refresh()
