"""Replies of an engine process, sorted by the request they belong to.

One thread reads the channel; each request has a box of its own, so that several threads may wait at
once and a request that was given up has its late replies thrown away.
"""

from __future__ import annotations

import itertools
import queue
import threading

from models import wire

Box = queue.SimpleQueue[wire.Message | None]  # None: the process has ended
OPENING = 0  # the box of messages that belong to no request


class Mailboxes:
    """The boxes of one connection to an engine process."""

    def __init__(self, channel: wire.Channel) -> None:
        """Begin to read."""
        self._channel = channel
        self._lock = threading.Lock()
        self._boxes: dict[int, Box] = {OPENING: queue.SimpleQueue()}
        self._numbers = itertools.count(1)
        self.has_ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def open(self) -> tuple[int, Box]:
        """Return the number of a new request and the box of its replies."""
        with self._lock:
            number = next(self._numbers)
            box: Box = queue.SimpleQueue()
            if self.has_ended:
                box.put(None)
            self._boxes[number] = box
            return number, box

    def opening(self) -> wire.Message | None:
        """Return what the process said to `Open`; None: it ended."""
        return self._boxes[OPENING].get()

    def close(self, number: int) -> None:
        """Throw away what else comes for a request."""
        with self._lock:
            self._boxes.pop(number, None)

    def _read(self) -> None:
        for message in self._channel.messages():
            with self._lock:
                box = self._boxes.get(getattr(message, "id", OPENING))
            if box is not None:
                box.put(message)
        with self._lock:
            self.has_ended = True
            for box in self._boxes.values():
                box.put(None)
