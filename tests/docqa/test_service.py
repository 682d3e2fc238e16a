"""What `docqa watch --install` writes is what systemd and launchd read; Windows is told how."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from docqa import service

LIBRARY = Path('/home/u/my 100% $library/"quoted"')


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_a_systemd_unit(home):
    lines = service.install(LIBRARY, None, "linux")
    file = home / "config" / "systemd" / "user" / "docqa-watch.service"
    assert str(file) in lines[0] and any("systemctl --user enable --now" in line for line in lines)
    text = file.read_text()
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert '"/home/u/my 100%% $$library/\\"quoted\\""' in start and '"watch"' in start
    assert "RestrictAddressFamilies=AF_UNIX" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_unit(home):
    service.install(LIBRARY, None, "linux")
    file = home / "config" / "systemd" / "user" / "docqa-watch.service"
    said = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(file)], capture_output=True, text=True
    )
    assert "docqa-watch" not in said.stderr, said.stderr


def test_a_launchd_agent(home):
    lines = service.install(LIBRARY, Path("/etc/docqa.toml"), "darwin")
    file = home / "Library" / "LaunchAgents" / "org.docqa.watch.plist"
    assert str(file) in lines[0]
    agent = plistlib.loads(file.read_bytes())
    assert agent["Label"] == "org.docqa.watch" and agent["RunAtLoad"] is True
    assert agent["ProgramArguments"] == service.watch_command(LIBRARY, Path("/etc/docqa.toml"))
    assert agent["ProgramArguments"][1:4] == ["-m", "docqa", "watch"]


def test_windows_is_told_how_and_nothing_is_written(home):
    lines = service.install(LIBRARY, None, "win32")
    assert "schtasks /Create" in "\n".join(lines) and list(home.iterdir()) == []
