"""What has to be done so that the library equals the files: a comparison, nothing is changed here.

The files are the truth, an event is only a reason to look. A file counts as unchanged by size,
mtime and inode, unless its mtime is so close to the last look that a later write could hide in the
clock's grain. A file counts as removed only where its folder is there to prove it: a folder or
drive that is away, or may not be listed, removes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from docqa.discover import (
    EVERY_KIND,
    Findings,
    Found,
    WalkOptions,
    absolute,
    discover,
    is_below,
    leads_elsewhere,
    stamp,
)
from docqa.records import FileStamp, Known
from docqa.store import Store
from docqa.types import State

_FAILURES = (State.FAILED, State.QUARANTINED)
CLOCK_GRAIN_NS = 2_000_000_000  # FAT's: two seconds; nothing in use is coarser


@dataclass(slots=True)
class Plan:
    """The work of one sync."""

    to_read: list[Found] = field(default_factory=list)  # new, changed, or in doubt
    unchanged: list[Known] = field(default_factory=list)
    absent: list[Known] = field(default_factory=list)
    away: dict[str, list[Known]] = field(default_factory=dict)  # reason with path → kept documents
    keeps_unchanged: bool = True
    logs: list[Known] = field(default_factory=list)  # with a tail, changed or absent
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class Retry:
    """Which unchanged files are read again."""

    parser: str  # read by another version of the parsers
    named_failures: bool = True  # failed before and named now
    failures: bool = False  # failed before: a password is given now
    named: bool = False  # every one that is named: the user wants it read again


def make_plan(
    store: Store,
    paths: Sequence[str | Path],
    retry: Retry,
    options: WalkOptions = EVERY_KIND,
    *,
    changes_only: bool = False,
) -> Plan:
    """Return what to do for the files at and below `paths`.

    With `changes_only`, unchanged files are not held in memory.
    """
    given = [absolute(path) for path in paths]
    known = {k.document.path: k for path in given for k in _known_at(store, path, options)}
    plan = Plan(keeps_unchanged=not changes_only)
    renumbered: dict[int, set[int]] = {}
    for found in discover(given, plan.findings, options):
        old = known.pop(found.path, None)
        _compare(plan, found, old, retry, renumbered)
    # What the walk did not bring: hidden names that were added by name, and what is gone.
    roots = store.roots.paths()
    for path, old in known.items():
        if leads_elsewhere(path, roots, old.stamp):
            plan.absent.append(old)
            continue
        try:
            _compare(plan, Found(stamp(path), False), old, retry, renumbered)
        except (FileNotFoundError, NotADirectoryError):
            plan.absent.append(old)
        except OSError as error:
            _keep(plan, path, f"cannot be read ({error.strerror or error})", old)
    _sort_out_absent(plan, roots, renumbered)
    kept = {old.document.path for group in plan.away.values() for old in group}
    gone = {old.document.path for old in plan.absent} | kept
    for path in plan.findings.missing if not options.are_hints else ():
        if path not in gone and not any(p.startswith(path.rstrip(os.sep) + os.sep) for p in gone):
            plan.findings.rejected[path] = "there is no such file or folder"
    return plan


def _known_at(store: Store, path: str, options: WalkOptions) -> list[Known]:
    """Return the documents that a look at `path` may find gone."""
    if options.is_deep or not os.path.isdir(path):  # noqa: PTH112
        return store.known_below(path)
    return store.known_in(path)


def is_same(old: FileStamp, new: FileStamp, *, is_tailed: bool = False) -> bool:
    """Whether a file certainly was not written between the two looks.

    A log that is read on has no hash of the whole; its tail is its identity.
    """
    return (
        (old.n_bytes, old.mtime_ns, old.inode) == (new.n_bytes, new.mtime_ns, new.inode)
        and old.mtime_ns < old.checked_ns - CLOCK_GRAIN_NS
        and (old.sha256 is not None or is_tailed)
    )


def must_retry(old: Known, is_named: bool, retry: Retry) -> bool:
    """Whether a file is read again although its bytes are the same."""
    if old.parser != retry.parser or (retry.named and is_named):
        return True
    has_failed = old.document.state is State.FAILED
    return has_failed and (retry.failures or (retry.named_failures and is_named))


def _compare(
    plan: Plan, found: Found, old: Known | None, retry: Retry, renumbered: dict[int, set[int]]
) -> None:
    if old is not None:
        renumbered.setdefault(old.stamp.device, set()).add(found.stamp.device)
        # Indexed with an error: the file could not be read at the last look; see whether it can.
        is_noted = old.document.state is State.INDEXED and old.document.error is not None
        is_tailed = old.tail is not None
        is_known = is_same(old.stamp, found.stamp, is_tailed=is_tailed) and not is_noted
        if is_known and not must_retry(old, found.is_named, retry):
            if plan.keeps_unchanged or old.document.state in _FAILURES:
                plan.unchanged.append(old)
            return
        if is_tailed:
            plan.logs.append(old)
    plan.to_read.append(found)


def _sort_out_absent(plan: Plan, roots: Sequence[str], renumbered: dict[int, set[int]]) -> None:
    """Move what is only away from `absent` to `away`."""
    absent, plan.absent = plan.absent, []
    for old in absent:
        path = old.document.path
        hidden = next((f for f in plan.findings.unreadable if is_below(path, f)), None)
        if hidden is not None:
            _keep(plan, hidden, plan.findings.unreadable[hidden], old)
            continue
        anchor = _anchor(path, roots)
        if not os.path.isdir(anchor):  # noqa: PTH112
            _keep(plan, anchor, "is not there (moved, or its drive is away)", old)
            continue
        folder, device = _nearest_folder(path)
        moved_to = renumbered.get(old.stamp.device, set())
        if device != old.stamp.device and device not in moved_to:
            _keep(plan, folder, "is another drive now than the one that was indexed", old)
        else:
            plan.absent.append(old)
            plan.logs.extend([old] if old.tail is not None else [])


def _keep(plan: Plan, path: str, reason: str, old: Known) -> None:
    plan.away.setdefault(f"{path}\0{reason}", []).append(old)


def _anchor(path: str, roots: Sequence[str]) -> str:
    """Return the folder whose presence proves that `path` is absent: its root, or its parent."""
    above = [root for root in roots if root != path and is_below(path, root)]
    return max(above, key=len) if above else os.path.dirname(path)  # noqa: PTH120


def _nearest_folder(path: str) -> tuple[str, int]:
    """Return the nearest folder above `path` that exists, and its device."""
    folder = path
    while True:
        folder = os.path.dirname(folder)  # noqa: PTH120
        try:
            return folder, os.stat(folder).st_dev & ((1 << 63) - 1)  # noqa: PTH116
        except OSError:
            if folder == os.path.dirname(folder):  # noqa: PTH120
                return folder, -1
