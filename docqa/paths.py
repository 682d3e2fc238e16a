"""Every folder and file that docqa keeps, and nowhere else."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs


def default_library_dir() -> Path:
    """Return the library of a user who named none."""
    return Path(platformdirs.user_data_dir("docqa", appauthor=False)) / "library"


def config_file() -> Path:
    """Return the configuration file of the user; it need not exist."""
    return Path(platformdirs.user_config_dir("docqa", appauthor=False)) / "config.toml"


def runtime_dir() -> Path:
    """Return the folder of sockets and locks of running processes; it need not exist.

    Where the system gives a user none (a plain ssh session, cron), one inside the user's cache:
    never the shared temporary folder, where another user could have put it first.
    """
    if sys.platform.startswith("linux") and not os.environ.get("XDG_RUNTIME_DIR"):
        return Path(platformdirs.user_cache_dir("docqa", appauthor=False)) / "run"
    return Path(platformdirs.user_runtime_dir("docqa", appauthor=False))


@dataclass(frozen=True, slots=True)
class LibraryPaths:
    """The files of one library. Only `database` is truth; the rest is rebuilt from it."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite: documents, chunks, vectors, sessions."""
        return self.root / "library.sqlite"

    @property
    def lexical(self) -> Path:
        """Folder of the tantivy index."""
        return self.root / "lexical"

    @property
    def dense(self) -> Path:
        """Folder of the FAISS index."""
        return self.root / "dense"

    @property
    def kv(self) -> Path:
        """Folder of persisted KV."""
        return self.root / "kv"

    @property
    def lock(self) -> Path:
        """Held by the one process that writes."""
        return self.root / "write.lock"
