"""The exceptions a user can meet.

Each message says what happened, to which file or model, and what to do next.

    DocqaError                       exit 1
    ├── UsageError                   exit 2
    │   └── ConfigError
    ├── FileError                    exit 1   (per document: never ends a batch)
    │   ├── UnsupportedFile
    │   ├── UnreadableFile
    │   │   └── PasswordNeeded
    │   └── FileQuarantined
    ├── ModelError                   exit 3
    │   ├── ModelNotFound
    │   ├── ModelRefused             (corrupt, unknown type, wrong settings: nothing was loaded)
    │   ├── EngineDied
    │   ├── EngineOutOfMemory
    │   └── ContextOverflow
    ├── LibraryError                 exit 4
    │   ├── LibraryNewer
    │   ├── LibraryCorrupt
    │   └── LibraryBusy
    ├── NetworkRefused               exit 1   (our bug, or a library's: docqa is offline)
    └── Interrupted                  exit 130
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ExitCode(IntEnum):
    """What the process returns; documented in the README and never renumbered."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MODEL = 3
    LIBRARY = 4
    NOT_FOUND = 5
    INTERRUPTED = 130


class DocqaError(Exception):
    """Base of everything that is reported to the user as a sentence and not as a traceback."""

    exit_code = ExitCode.FAILED


class UsageError(DocqaError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration file or variable has an unknown key or a bad value."""


class FileError(DocqaError):
    """One document could not be indexed. `path` names it, `reason` is one sentence."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self) -> tuple[type[FileError], tuple[str, str]]:
        """Survive the way back from the parse worker."""
        return type(self), (self.path, self.reason)


class UnsupportedFile(FileError):
    """The file is of a kind that docqa does not read."""


class UnreadableFile(FileError):
    """The file is of a known kind, but broken, empty, too large or not permitted."""


class PasswordNeeded(UnreadableFile):
    """The PDF is encrypted and the password is missing or wrong."""


class FileQuarantined(FileError):
    """The file killed the parse worker twice; it is left alone until it changes."""


class ModelError(DocqaError):
    """A model is missing, unsuitable or dead."""

    exit_code = ExitCode.MODEL


class ModelNotFound(ModelError):
    """No model of that name or path."""


class ModelRefused(ModelError):
    """The file was checked and refused before any library read it."""


class EngineDied(ModelError):
    """The engine's process ended; the message carries its last log lines."""


class EngineOutOfMemory(ModelError):
    """The device has no memory for the next tokens; the conversation is kept as it was."""


class ContextOverflow(ModelError):
    """Prompt and answer do not fit the context; our bug, or a caller who did not pack."""


class LibraryError(DocqaError):
    """The library cannot be opened or written."""

    exit_code = ExitCode.LIBRARY


class LibraryNewer(LibraryError):
    """The library was written by a newer docqa; it is left untouched."""


class LibraryCorrupt(LibraryError):
    """The database failed its check."""


class LibraryBusy(LibraryError):
    """Another process held the write lock for longer than the timeout."""


class NetworkRefused(DocqaError, PermissionError):
    """Something wanted the network (docqa/offline.py). An OSError too: callers may go without."""


class Interrupted(DocqaError):
    """Ctrl-C. What was committed is kept."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self, text: str = "Stopped. Everything that was finished is kept.") -> None:
        super().__init__(text)
