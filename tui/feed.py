"""Events from a worker thread to the screen: in order, in batches, at most one batch a frame.

A worker never touches a widget. `EventRun` runs a generator of events in a thread, keeps what it
yields, and posts one `RunProgressed` when there is something to fetch; the owner calls `drain` a
frame later, so a fast model costs one repaint a frame and not one a token.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from docqa.errors import DocqaError, ModelError

E = TypeVar("E")
FRAME_S = 1 / 30

Events = Callable[[threading.Event], Iterator[E]]


class RunProgressed(Message):
    """A run has events to fetch."""

    def __init__(self, run: EventRun[object]) -> None:
        self.run = run
        super().__init__()


class RunEnded(Message):
    """A run is over; what it yielded last is still to be fetched."""

    def __init__(self, run: EventRun[object]) -> None:
        self.run = run
        super().__init__()


class EventRun(Generic[E]):
    """One generator of events, run in a thread.

    `error` is a sentence for the user; `detail` its traceback where the error was not expected.
    """

    def __init__(self, owner: MessagePump, events: Events[E]) -> None:
        self._owner = owner
        self._events = events
        self._queue: deque[E] = deque()
        self._is_told = False
        self._guard = threading.Lock()
        self.cancel = threading.Event()
        self.is_over = False
        self.error: str | None = None
        self.detail: str | None = None
        self.is_model_error = False

    def start(self, name: str) -> threading.Thread:
        """Run in a thread of its own.

        It is no nicer than the thread that paints: a nicer one that has the interpreter's lock
        waits for a core while others compute, and the screen waits with it. What is to give way
        runs in a process of its own (docqa/background.py).
        """
        thread = threading.Thread(target=self.run, name=name)
        thread.start()
        return thread

    def run(self) -> None:
        """Run to the end; called in a worker thread."""
        try:
            events = self._events(self.cancel)
            with _closing(events):
                for event in events:
                    if self.cancel.is_set():
                        break
                    self._put(event)
        except DocqaError as error:
            self.error = str(error)
            self.is_model_error = isinstance(error, ModelError)
        except Exception as error:  # the worker's edge: shown as an error, never as an answer
            self.error = f"{type(error).__name__}: {error}"
            self.detail = traceback.format_exc()
        self.is_over = True
        self._owner.post_message(RunEnded(self))  # type: ignore[arg-type]

    def _put(self, event: E) -> None:
        with self._guard:
            self._queue.append(event)
            must_tell, self._is_told = not self._is_told, True
        if must_tell:
            self._owner.post_message(RunProgressed(self))  # type: ignore[arg-type]

    def drain(self) -> list[E]:
        """Return the events since the last call; called by the owner."""
        with self._guard:
            events = list(self._queue)
            self._queue.clear()
            self._is_told = False
        return events


def _closing(events: Iterator[E]) -> contextlib.AbstractContextManager[object]:
    if isinstance(events, Generator):
        return contextlib.closing(events)
    return contextlib.nullcontext()
