"""A word index in a folder that may not be written: a read-only disk, somebody else's library.

Tantivy takes a lock in the folder of an index also to read it. Where that cannot be done, the index
is opened from a temporary folder with links to its files, which never change once they are written,
and a copy of the list of those that count.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from docqa.index import IndexMismatch
from docqa.index.files import META

_LOCK = ".tantivy-meta.lock"


class ReadableFolder:
    """Where an index can be opened: its folder, or a temporary one in its place."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet."""
        self._folder = folder
        self._temporary: Path | None = None
        self._seen: tuple[int, int] | None = None
        self._is_own = False  # what is in the temporary folder was made by this process

    def path(self) -> Path:
        """Return a folder that holds the index as of now; cheap where nothing changed.

        Raises:
            IndexMismatch: there is no index yet, or it went away meanwhile.
        """
        if can_lock(self._folder):
            self.close()
            return self._folder
        if self._is_own:
            raise IndexMismatch("the lexical index is one of this process alone")
        try:
            status = os.stat(self._folder / META)  # noqa: PTH116 (called per search)
            version = (status.st_mtime_ns, status.st_ino)
            if self._temporary is None or version != self._seen:
                self._link()
                self._seen = version
        except OSError as error:
            raise IndexMismatch(f"the lexical index cannot be read: {error}") from error
        assert self._temporary is not None
        return self._temporary

    def empty(self) -> Path | None:
        """Return a temporary folder for an index of this process alone; None if needless."""
        if can_lock(self._folder):
            return None
        self.close()
        self._temporary = Path(tempfile.mkdtemp(prefix="docqa-words-"))
        self._is_own = True
        return self._temporary

    def close(self) -> None:
        """Delete the temporary folder."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary, self._is_own = None, False

    def _link(self) -> None:
        self.close()
        self._temporary = Path(tempfile.mkdtemp(prefix="docqa-words-"))
        for file in self._folder.absolute().iterdir():
            if file.name == META:
                shutil.copyfile(file, self._temporary / META)
            elif file.name != _LOCK:
                (self._temporary / file.name).symlink_to(file)


def can_lock(folder: Path) -> bool:
    """Whether tantivy can take its lock in `folder`; true of one that is still to be made."""
    lock = folder / _LOCK
    for place in (lock, folder):
        if os.access(place, os.F_OK):
            return os.access(place, os.W_OK)
    return True
