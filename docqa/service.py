"""`docqa watch --install`: the watcher from login on, as a service of the user.

Linux: a systemd user unit. macOS: a launchd agent. Elsewhere nothing is written: what to do is
said. The service runs this very Python with the library that was in use, at low priority; it reads
no variable of the environment that it was installed from.
"""

from __future__ import annotations

import os
import plistlib
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "docqa-watch"
LABEL = "org.docqa.watch"


def install(library: Path, config: Path | None, platform: str = sys.platform) -> list[str]:
    """Write the service's file where this system looks for it; return what to do next."""
    command = watch_command(library, config)
    if platform.startswith("linux"):
        home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        file = Path(home) / "systemd" / "user" / f"{NAME}.service"
        _write(file, systemd_unit(command))
        return [
            f"wrote {file}",
            f"start it:  systemctl --user daemon-reload && systemctl --user enable --now {NAME}",
            f"its lines: journalctl --user -u {NAME} -f",
            f"remove it: systemctl --user disable --now {NAME} && rm {file}",
            "watch while logged out too: loginctl enable-linger",
        ]
    if platform == "darwin":
        file = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        log = Path.home() / "Library" / "Logs" / f"{NAME}.log"
        _write(file, launchd_agent(command, log))
        return [
            f"wrote {file}",
            f"start it:  launchctl bootstrap gui/{_user_id()} {file}",
            f"its lines: tail -f {log}",
            f"remove it: launchctl bootout gui/{_user_id()}/{LABEL} && rm {file}",
        ]
    quoted = " ".join(f'"{part}"' if " " in part else part for part in command)
    return [
        "nothing was written: this system's services are not known to docqa.",
        "On Windows, make a task that runs at logon (one line):",
        f"schtasks /Create /TN {NAME} /SC ONLOGON /RL LIMITED /TR '{quoted}'",
        f"remove it: schtasks /Delete /TN {NAME}",
    ]


def watch_command(library: Path, config: Path | None) -> list[str]:
    """Return the command that the service runs: all watched folders of a library."""
    command = [sys.executable, "-m", "docqa", "watch", "--library", str(library.absolute())]
    return command + (["--config", str(config.absolute())] if config else [])


def systemd_unit(command: Sequence[str]) -> str:
    """Return the unit's text."""
    return f"""[Unit]
Description=docqa: keep the library in step with watched folders

[Service]
ExecStart={" ".join(map(_systemd_quoted, command))}
WorkingDirectory=%h
Restart=on-failure
RestartSec=30
Nice=10
IOSchedulingClass=idle
RestrictAddressFamilies=AF_UNIX
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


def launchd_agent(command: Sequence[str], log: Path) -> str:
    """Return the agent's property list."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(agent).decode()


def _systemd_quoted(part: str) -> str:
    """Return one argument of ExecStart: quoted, `%` and `$` without their meaning there."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
