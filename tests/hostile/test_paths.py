"""Path tricks against the whole way from a folder to the library."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

from docqa.cli.render import report_text
from docqa.events import FileProgress, SyncDone
from docqa.sanitize import sanitize_line
from docqa.types import State
from tests.hostile.conftest import Open, found, synced

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names and nodes of POSIX")
SECRET = "the secret needle of somebody else"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "plain.txt").write_text("a plain needle for everybody\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    return folder


def test_links_lead_nowhere(docs: Path, tmp_path: Path, open_workspace: Open) -> None:
    (docs / "loop").symlink_to(docs)
    (docs / "up").symlink_to("..")
    (docs / "out").symlink_to(tmp_path / "outside")
    (docs / "secret.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (docs / "itself.txt").symlink_to(docs / "itself.txt")
    (docs / "passwords.txt").symlink_to("/etc/passwd")
    (docs / "memory.log").symlink_to("/proc/self/mem")
    workspace = open_workspace()
    reports = synced(workspace, docs)
    assert set(reports) == {"plain.txt"}
    assert found(workspace, "needle") == {"plain.txt"}
    assert not found(workspace, "secret")


def test_a_file_that_becomes_a_link_is_not_followed(
    docs: Path, tmp_path: Path, open_workspace: Open
) -> None:
    """Indexed as a file, then swapped for a link to somebody else's: what it was is gone."""
    workspace = open_workspace()
    (docs / "report.txt").write_text("a report needle\n")
    assert synced(workspace, docs)["report.txt"].state is State.INDEXED
    (docs / "report.txt").unlink()
    (docs / "report.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    synced(workspace, docs)
    assert not found(workspace, "secret")
    assert found(workspace, "needle") == {"plain.txt"}


def test_a_folder_that_becomes_a_link_is_not_followed(
    docs: Path, tmp_path: Path, open_workspace: Open
) -> None:
    (docs / "sub").mkdir()
    (docs / "sub" / "secret.txt").write_text("an innocent needle\n")
    workspace = open_workspace()
    synced(workspace, docs)
    assert found(workspace, "needle") == {"plain.txt", "secret.txt"}
    (docs / "sub" / "secret.txt").unlink()
    (docs / "sub").rmdir()
    (docs / "sub").symlink_to(tmp_path / "outside")
    synced(workspace, docs)
    assert not found(workspace, "somebody else")


def test_pipes_and_devices_do_not_block(docs: Path, open_workspace: Open) -> None:
    os.mkfifo(docs / "pipe.log")
    os.mkfifo(docs / "pipe.pdf")
    with contextlib.suppress(PermissionError):  # only root of the machine can make a device
        os.mknod(docs / "zero.log", 0o20644, os.makedev(1, 5))
    workspace = open_workspace()
    assert set(synced(workspace, docs)) == {"plain.txt"}
    named = synced(workspace, docs / "pipe.log", Path("/dev/zero"), Path("/dev/stdin"))
    for report in named.values():
        assert report.state is State.FAILED, report
    assert "named pipe" in (named["pipe.log"].error or "")
    assert "device" in (named["zero"].error or "")


NAMES = (
    *(b"new\nline.txt", b"\x1b]0;hijack\x07.txt", b"\xff\xfe bytes.txt", b"tab\tand\rreturn.txt"),
    *("‮txt.exe.txt".encode(), b"-rf.txt", b"$(reboot).txt", b"'; drop table documents; --.txt"),
    *(b"%s%n.txt", b" .txt", ("e" + "\u0301" * 100 + ".txt").encode(), b"[bold]x[&].txt"),
    *(b"a" * 251 + b".txt", "\U000e0041\u200b.txt".encode(), b"*.txt", b"x..txt..txt"),
)


def test_names_of_every_kind_are_indexed_and_shown_safely(docs: Path, open_workspace: Open) -> None:
    for number, name in enumerate(NAMES):
        with Path(os.fsdecode(os.fsencode(docs) + b"/" + name)).open("w") as file:
            file.write(f"needle number {number}\n")
    workspace = open_workspace()
    reports = list(synced(workspace, docs).values())
    assert len(reports) == len(NAMES) + 1
    assert {report.state for report in reports} == {State.INDEXED}
    for report in reports:
        line = report_text(report)
        assert line == sanitize_line(line) and "\n" not in line and "\x1b" not in line
    assert len(found(workspace, "needle")) == len(NAMES) + 1
    for document in workspace.documents():
        assert workspace.text(Path(document.path)).startswith(("needle", "a plain"))
    gone = workspace.remove([docs])
    assert len(gone) == len(NAMES) + 1 and not workspace.documents()


def test_a_path_as_long_as_the_system_allows(docs: Path, open_workspace: Open) -> None:
    deep = docs
    while len(os.fsencode(deep)) < 3_700:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    (deep / "bottom.txt").write_text("the deepest needle\n")
    workspace = open_workspace()
    assert synced(workspace, docs)["bottom.txt"].state is State.INDEXED
    assert "bottom.txt" in found(workspace, "deepest needle")


def test_a_file_swapped_while_it_is_read(docs: Path, tmp_path: Path, open_workspace: Open) -> None:
    """Between the look and the opening the file becomes a link: it is left out, or read anew."""
    target = docs / "swapped.log"
    target.write_text("".join(f"2026-03-11T14:00:00Z INFO step {i}\n" for i in range(60_000)))
    workspace = open_workspace()
    reports = {}
    for event in workspace.sync([docs]):
        if isinstance(event, FileProgress) and not target.is_symlink():
            target.unlink()
            target.symlink_to(tmp_path / "outside" / "secret.txt")
        if isinstance(event, SyncDone):
            reports = {Path(r.path).name: r for r in event.reports}
    assert reports["plain.txt"].state is State.INDEXED
    synced(workspace, docs)
    assert not found(workspace, "secret")
