"""A library on a disk of its own that becomes read-only, or full. Run where mounting is allowed.

    unshare -rm -- python -m tests.docqa.durability.disks FOLDER read-only|full

FOLDER becomes a small tmpfs. Prints a JSON list of what was done; an assertion ends it otherwise.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from docqa.backup import back_up
from docqa.check import check
from docqa.cli import main as command_line
from docqa.errors import ExitCode, LibraryError
from tests.docqa.durability import small
from tests.docqa.durability.breaking import ADVICE, Tell, in_fork
from tests.docqa.librarian import write

DISK = "48m"  # the word index's writer alone may need some
LEFT_BYTES = (0, 40_000, 1_000_000)  # on the full disk
done: list[str] = []


def main(argv: list[str]) -> None:
    folder = Path(argv[0])
    small.shrink()
    tempfile.tempdir = str(folder.parent)
    mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    try:
        {"read-only": read_only, "full": full}[argv[1]](folder)
    finally:
        os.chdir("/")
        subprocess.run(["umount", "-l", folder], check=True)
    print(json.dumps(done))


def read_only(folder: Path) -> None:
    """Everything that reads works, closed cleanly or killed before; what writes says why not."""
    child(lambda tell: small.prepare(folder))
    for was_killed, has_damage in ((False, False), (True, False), (False, True)):
        if was_killed:
            small.add_files(folder)
            child(lambda tell: die_in_sync(folder), -signal.SIGKILL)
            assert list((folder / "library").glob("*-wal")), "the killed one left no WAL"
        if has_damage:
            (folder / "library" / "lexical" / "meta.json").write_text("{}")
        before = listing(folder)
        mount("-o", "remount,ro", str(folder))
        child(lambda tell: still_answers(folder))
        child(lambda tell: refused(lambda: small.run_sync(folder, lambda report: None)))
        child(lambda tell: refused(lambda: small.run_remove(folder, lambda report: None)))
        child(lambda tell: refused(lambda: watched(folder)))
        child(lambda tell: commands(folder))
        mount("-o", "remount,rw", str(folder))
        assert listing(folder) == before
        how = "killed" if was_killed else "damaged" if has_damage else "closed"
        done.append(f"read-only, {how} before")
    mount("-o", "remount,ro", str(folder))
    child(lambda tell: goes_on(folder))
    child(lambda tell: small.verify(folder, []))
    assert not list(folder.parent.glob("docqa-words-*")), "temporary folders are left"


def full(folder: Path) -> None:
    """With any room that is left: a file is added or the reason said, the old index answers."""
    filler = folder / "filler"
    for left in LEFT_BYTES:
        child(lambda tell: small.prepare(folder))
        small.sync_files(folder)
        write(folder / "docs" / "large.txt", small.text_of("large", 1, 4_000))
        fill(filler, left)
        assert os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize <= left
        was_refused = "no room" in child(
            lambda tell: tell("no room" if tries(lambda: added(folder)) else "")
        )
        child(lambda tell: small.answers(folder))
        child(lambda tell: tries(lambda: small.run_remove(folder, lambda report: None)))
        child(lambda tell: small.answers(folder))
        child(lambda tell: sound(folder))
        assert was_refused or left >= LEFT_BYTES[-1], left
        filler.unlink()
        child(lambda tell: small.verify(folder, []))
        subprocess.run(["rm", "-r", folder / "library", folder / "docs"], check=True)
        done.append(f"full, {left} bytes left, {'refused' if was_refused else 'added'}")


def child(do: Callable[[Tell], None], expected: int = 0) -> str:
    """Run `do` in a process of its own, so that nothing stays open."""
    status, text = in_fork(do)
    assert status == expected, text
    return text


def die_in_sync(folder: Path) -> None:
    """End without a word after the first file was committed."""
    small.run_sync(folder, lambda report: os.kill(os.getpid(), signal.SIGKILL))


def still_answers(folder: Path) -> None:
    small.answers(folder)
    with small.open_library(folder) as library:
        assert library.lexical.search("valve opened in shift", 5)
        assert library.dense.search("valve opened in shift", 5)
        assert len(library.store.documents()) >= 5
    sound(folder)


def goes_on(folder: Path) -> None:
    """One process that has searched sees the disk become writable, adds a file, and finds it."""
    with small.open_library(folder) as library:
        assert library.lexical.search("valve opened in shift", 5)
        assert library.lexical.folder != folder / "library" / "lexical"
        mount("-o", "remount,rw", str(folder))
        write(folder / "docs" / "later.txt", "The gasket of the later file is of cork.")
        small.sync(library, [folder / "docs"])
        assert library.lexical.search("gasket cork", 5)
        assert library.lexical.folder == folder / "library" / "lexical"


def sound(folder: Path) -> None:
    findings = check(small.paths_of(folder))
    assert all(finding.is_derived for finding in findings), findings


def tries(do: Callable[[], object]) -> bool:
    """Whether `do` was refused, with a reason and what to do."""
    try:
        do()
    except LibraryError as error:
        assert any(advice in str(error) for advice in ADVICE), f"unclear: {error!r}"
        return True
    return False


def refused(do: Callable[[], object]) -> None:
    assert tries(do), "was not refused"


def added(folder: Path) -> None:
    small.run_sync(folder, lambda report: None)


def watched(folder: Path) -> None:
    with small.open_library(folder) as library:
        library.set_watched(folder / "docs", True)


def commands(folder: Path) -> None:
    """The same from the command line; a copy can be made on another disk."""
    library = ["--library", str(folder / "library")]
    assert command_line(["list", *library]) == ExitCode.DONE
    assert command_line(["remove", str(folder / "docs"), *library]) == ExitCode.LIBRARY
    copy = folder.parent / "copy.docqa"
    assert back_up(small.paths_of(folder), copy, is_replaced=True) >= 5


def listing(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted((folder / "library").rglob("*"))
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def fill(file: Path, left: int) -> None:
    """Leave `left` bytes of the disk."""
    status = os.statvfs(file.parent)
    with file.open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, status.f_bavail * status.f_frsize - left)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
