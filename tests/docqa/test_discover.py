"""Which files a path stands for, on a real file system with everything that is nasty in one."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from docqa.discover import Findings, WalkOptions, discover, is_wanted_name, stamp
from tests.docqa.librarian import write


def names(root, options=WalkOptions(), findings=None):  # noqa: B008
    found = discover([root], findings or Findings(), options)
    return [os.path.relpath(file.path, root) for file in found]


WANTED = "a.pdf b.PDF c.log d.log.1 e.log.2.gz f.md syslog app.out access.log-20240101 g.csv"
UNWANTED = (
    "._a.pdf .DS_Store ~$report.docx .a.txt.swp a.txt~ #a.txt# 4913 a.pdf.part a.crdownload "
    "Thumbs.db x.png y.zip z.docx a.txt___jb_tmp___ .~lock.a.pdf#"
)


@pytest.mark.parametrize("name", WANTED.split())
def test_wanted(name):
    assert is_wanted_name(name)


@pytest.mark.parametrize("name", UNWANTED.split())
def test_not_wanted(name):
    assert not is_wanted_name(name)


def test_a_folder_gives_its_documents_in_order_and_counts_the_rest(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a.pdf", ".git/x.txt", "node_modules/y.md", "photo.png"):
        write(tmp_path / name, "x")
    findings = Findings()
    assert names(tmp_path, findings=findings) == ["a.pdf", "b/1.txt", "b/2.txt"]
    assert findings.n_skipped == 1 and findings.folders == [str(tmp_path)]


def test_a_named_file_is_always_tried(tmp_path):
    hidden = write(tmp_path / ".hidden.xyz", "x")
    (found,) = discover([hidden, hidden], Findings())
    assert found.is_named and found.stamp.n_bytes == 1


def test_globs_include_and_exclude(tmp_path):
    for name in ("a.txt", "b.log", "old/c.log"):
        write(tmp_path / name, "x")
    assert names(tmp_path, WalkOptions(include=("*.log",))) == ["b.log", "old/c.log"]
    assert names(tmp_path, WalkOptions(exclude=("old",))) == ["a.txt", "b.log"]
    assert names(tmp_path, WalkOptions(skip=(str(tmp_path / "old"),))) == ["a.txt", "b.log"]


def test_links_out_and_loops_are_not_followed(tmp_path):
    write(tmp_path / "outside" / "secret.txt", "x")
    write(tmp_path / "in" / "a.txt", "x")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    findings = Findings()
    assert names(tmp_path / "in", findings=findings) == ["a.txt"]
    assert findings.n_skipped == 3
    (named,) = discover([tmp_path / "in" / "link.txt"], Findings())
    assert named.is_named


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_pipes_sockets_and_devices_never_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.log")
    monkeypatch.chdir(tmp_path)  # a socket's path may only be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.log")
        findings = Findings()
        assert names(tmp_path, findings=findings) == [] and findings.n_skipped == 2
        list(discover([tmp_path / "pipe.log", tmp_path / "s.log", "/dev/null"], findings))
    assert [reason for reason in findings.rejected.values()] == [
        "is a named pipe, not a file",
        "is a socket, not a file",
        "is a device, not a file",
    ]
    with pytest.raises(OSError, match="named pipe"):
        stamp(str(tmp_path / "pipe.log"))


@pytest.mark.skipif(sys.platform != "linux", reason="names of arbitrary bytes")
def test_names_of_any_bytes(tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff\xfe\n\x1b[31m\xe2\x80\xae.txt"
    os.close(os.open(raw, os.O_CREAT))
    (found,) = discover([tmp_path], Findings())
    assert os.fsencode(found.path) == raw


def test_a_folder_that_may_not_be_listed_is_told(tmp_path, monkeypatch):
    write(tmp_path / "closed" / "a.txt", "x")
    write(tmp_path / "open" / "b.txt", "x")
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    findings = Findings()
    assert names(tmp_path, findings=findings) == ["open/b.txt"]
    assert findings.unreadable == {str(tmp_path / "closed"): "cannot be listed: Permission denied"}


def test_missing_paths_are_told(tmp_path):
    findings = Findings()
    assert list(discover([tmp_path / "no", "a\0b"], findings)) == []
    assert findings.missing == [str(tmp_path / "no")]
    assert len(findings.rejected) == 1
