"""PATH… to files: what `docqa add` and the sweep of a watched folder look at.

A file that the user names is always tried. In a folder, only kinds that docqa reads, without what
editors, version control and operating systems leave behind and what `.docqaignore` and `.gitignore`
name; links are not followed (what they point to inside the folder is found anyway, what is outside
was not asked for). Nothing is opened here, so
a FIFO or a device cannot block the walk. Names are text with surrogate escapes: any bytes survive.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from docqa.ignore import Ignored, ignored_above, ignored_between, is_ignored_below
from docqa.parse import PARSERS, suffix_of_name
from docqa.records import FileStamp, WatchedFolder

IGNORED_FOLDERS = frozenset(
    {"node_modules", "__pycache__", "__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN"}
    | {"System Volume Information", "venv", "site-packages"}
)
# Editors' and downloads' temporary files; whatever begins with a dot is hidden and ignored too.
_TEMPORARY = re.compile(
    r"^~\$|^#.*#$|~$|\.sw[a-px]$|\.(?:tmp|temp|part|partial|crdownload|download|lock|bak)$"
    r"|___jb_(?:old|tmp)___$|^4913$|^(?:Thumbs\.db|desktop\.ini|flycheck_.*)$",
    re.IGNORECASE,
)
_DATED = re.compile(r"-\d{8}(?:[-T]?\d+)?(?=$|\.gz$)")  # logrotate's dateext: app.log-20240607.gz
# Beside the parsers' own: programs' output, and names without a suffix (syslog, README), whose
# content decides.
_OTHER_SUFFIXES = frozenset({".out", ".err", ""})


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file to look at. `is_named`: the user gave this very path."""

    stamp: FileStamp
    is_named: bool

    @property
    def path(self) -> str:
        """The absolute path."""
        return self.stamp.path


@dataclass(slots=True)
class Findings:
    """What a walk met beside files; filled while `discover` runs."""

    # Absolute path → why it could not be looked at. Below these nothing may be called absent.
    unreadable: dict[str, str] = field(default_factory=dict)
    # Paths given that do not exist, or are nothing that can be read: path → why.
    rejected: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # given, and not there
    folders: list[str] = field(default_factory=list)  # given folders that were walked
    n_skipped: int = 0  # of a kind that is not read, hidden, temporary, ignored, or a link


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which files of a folder are wanted, beside the fixed rules.

    Globs match a file's path relative to the folder, or its name. Those of `watched` count for
    what is at and below its folder, the nearest one alone.
    """

    include: tuple[str, ...] = ()  # where given, one must match
    exclude: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()  # absolute folders never entered: the library's own
    watched: tuple[WatchedFolder, ...] = ()
    # Paths are places where something may have changed: nobody named them, the rules hold for
    # them too, and a folder is looked at without those in it unless `is_deep`.
    are_hints: bool = False
    is_deep: bool = True

    def shallow(self) -> WalkOptions:
        """Return the same for folders without those in them."""
        return replace(self, is_deep=False)

    def watched_above(self, path: str) -> WatchedFolder | None:
        """Return the nearest watched folder at or above `path`."""
        above = [folder for folder in self.watched if is_below(path, folder.path)]
        return max(above, key=lambda folder: len(folder.path), default=None)


EVERY_KIND = WalkOptions()


def absolute(path: str | Path) -> str:
    """Return the one absolute form under which a path is known; links are not resolved."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))  # noqa: PTH100,PTH111 (bytes-safe)


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is `folder` or in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def discover(
    paths: Sequence[str | Path], findings: Findings, options: WalkOptions = EVERY_KIND
) -> Iterator[Found]:
    """Yield the files at and below `paths`, each once, folders in the order of their names.

    Nothing is raised for what cannot be read: `findings` tells.
    """
    seen: set[str] = set()
    for given in paths:
        path = absolute(given)
        if options.are_hints and not _is_wanted_place(path, options):
            continue
        checked_ns = time.time_ns()
        try:
            status = os.stat(path)  # noqa: PTH116 (names that pathlib would not keep)
        except (FileNotFoundError, NotADirectoryError):
            findings.missing.append(path)
            continue
        except (OSError, ValueError) as error:
            findings.rejected[path] = f"cannot be read: {_reason(error)}"
            continue
        if stat.S_ISDIR(status.st_mode):
            findings.folders.append(path)
            found = _walk(path, findings, options)
        elif stat.S_ISREG(status.st_mode):
            found = iter([Found(stamp_of(path, status, checked_ns), not options.are_hints)])
        else:
            findings.rejected[path] = f"is {_kind_of_node(status.st_mode)}, not a file"
            continue
        for file in found:
            if file.path not in seen:
                seen.add(file.path)
                yield file


def leads_elsewhere(path: str, roots: Sequence[str], old: FileStamp | None) -> bool:
    """Whether a link between the path that the user named and `path` leads to another file.

    A file that was indexed may be swapped for a link to what nobody asked for. What is named
    itself may be a link, or lie below one; so may the very file that was read as `old`.
    """
    if old is not None:
        with suppress(OSError):
            now = stamp(path)
            if (now.inode, now.device) == (old.inode, old.device):
                return False
    above = [root for root in roots if is_below(path, root)]
    if not above:
        return False
    root = max(above, key=len)
    while len(path) > len(root):
        if os.path.islink(path):  # noqa: PTH114
            return True
        path = os.path.dirname(path)  # noqa: PTH120
    return False


def stamp(path: str) -> FileStamp:
    """Return how the file looks now; raise OSError, also where it is no regular file."""
    checked_ns = time.time_ns()
    status = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"is {_kind_of_node(status.st_mode)}, not a file")
    return stamp_of(path, status, checked_ns)


def stamp_of(path: str, status: os.stat_result, checked_ns: int) -> FileStamp:
    """Return the stamp of a stat made after `checked_ns`."""
    mask = (1 << 63) - 1  # SQLite's integers are signed
    return FileStamp(
        path,
        status.st_size,
        status.st_mtime_ns,
        status.st_ino & mask,
        status.st_dev & mask,
        checked_ns,
    )


def is_wanted_name(name: str) -> bool:
    """Whether a file of this name in a folder is looked at."""
    if name.startswith(".") or _TEMPORARY.search(name):
        return False
    suffix = suffix_of_name(_DATED.sub("", name))
    return suffix in PARSERS or suffix in _OTHER_SUFFIXES


def _is_wanted_place(path: str, options: WalkOptions) -> bool:
    """Whether a walk of the watched folder above would come to `path`, which may be gone."""
    above = options.watched_above(path)
    if above is None:
        return False
    if path == above.path:
        return True
    here = above.path
    *folders, name = os.path.relpath(path, here).split(os.sep)  # noqa: PTH206 (bytes-safe)
    for part in folders:
        here = os.path.join(here, part)  # noqa: PTH118
        if not _is_wanted_folder(here, part, above.path, options) or os.path.islink(here):  # noqa: PTH114
            return False
    if os.path.islink(path):  # noqa: PTH114
        return False
    if os.path.isdir(path):  # noqa: PTH112
        is_wanted = _is_wanted_folder(path, name, above.path, options)
        return is_wanted and ignored_between(above.path, path) is not None
    is_wanted = is_wanted_name(name) and _passes(path, above.path, options)
    return is_wanted and not is_ignored_below(above.path, path)


def _walk(top: str, findings: Findings, options: WalkOptions) -> Iterator[Found]:
    watched = options.watched_above(top)
    root = watched.path if watched else top
    rules = ignored_between(root, top)
    pending = [(top, ignored_above(top) if rules is None else rules)]
    while pending:
        folder, above = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # deleted since its parent was listed: absent, as it should be
        except OSError as error:
            findings.unreadable[folder] = f"cannot be listed: {_reason(error)}"
            continue
        below: list[str] = []
        ignored = above.entering(folder, (entry.name for entry in listed))
        for entry in listed:
            found = _look_at(entry, root, below, findings, options, ignored)
            if found:
                yield found
        if options.is_deep:
            pending.extend((path, ignored) for path in reversed(below))


def _look_at(
    entry: os.DirEntry[str],
    root: str,
    below: list[str],
    findings: Findings,
    options: WalkOptions,
    ignored: Ignored,
) -> Found | None:
    """Return the file of an entry if it is wanted; a wanted folder goes to `below`."""
    try:
        if entry.is_dir(follow_symlinks=False):
            is_wanted = _is_wanted_folder(entry.path, entry.name, root, options)
            if is_wanted and not ignored(entry.path, is_folder=True):
                below.append(entry.path)
            return None
        is_wanted = entry.is_file(follow_symlinks=False) and is_wanted_name(entry.name)
        is_wanted = is_wanted and _passes(entry.path, root, options)
        if not is_wanted or ignored(entry.path, is_folder=False):
            findings.n_skipped += 1
            return None
        checked_ns = time.time_ns()
        return Found(stamp_of(entry.path, entry.stat(follow_symlinks=False), checked_ns), False)
    except FileNotFoundError:
        return None
    except OSError as error:
        findings.unreadable[entry.path] = f"cannot be read: {_reason(error)}"
        return None


def _is_wanted_folder(path: str, name: str, root: str, options: WalkOptions) -> bool:
    if name.startswith(".") or name in IGNORED_FOLDERS or path in options.skip:
        return False
    return not _matches(path, root, _globs(root, options)[1])


def _passes(path: str, root: str, options: WalkOptions) -> bool:
    include, exclude = _globs(root, options)
    if include and not _matches(path, root, include):
        return False
    return not _matches(path, root, exclude)


def _globs(root: str, options: WalkOptions) -> tuple[Sequence[str], Sequence[str]]:
    """Return include and exclude globs for what is below `root`."""
    for folder in options.watched:
        if folder.path == root:
            return (*options.include, *folder.include), (*options.exclude, *folder.exclude)
    return options.include, options.exclude


def _matches(path: str, root: str, globs: Sequence[str]) -> bool:
    if not globs:
        return False
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    name = relative.rpartition("/")[2]
    return any(fnmatch.fnmatch(relative, g) or fnmatch.fnmatch(name, g) for g in globs)


def _kind_of_node(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "something else"


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
