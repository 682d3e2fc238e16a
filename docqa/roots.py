"""The files and folders that the user added, and which of them are to be watched, and how."""

from __future__ import annotations

import json
import os

from docqa.database import Database
from docqa.records import WatchedFolder, path_bytes


class RootTable:
    """The roots of one library: what `docqa sync` looks at. Paths are absolute."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def paths(self) -> list[str]:
        """Return the files and folders that the user added, by path."""
        with self._db.read() as connection:
            rows = connection.execute("SELECT path FROM roots ORDER BY path").fetchall()
        return [os.fsdecode(path) for (path,) in rows]

    def add(self, path: str) -> None:
        """Remember an added file or folder; one below another root is that root's."""
        if any(path == root or path.startswith(root.rstrip("/\\") + "/") for root in self.paths()):
            return
        condition, values = below(path)
        with self._db.write() as connection:
            connection.execute(f"DELETE FROM roots WHERE {condition} AND NOT is_watched", values)
            connection.execute(
                "INSERT INTO roots (path) VALUES (?) ON CONFLICT DO NOTHING", (path_bytes(path),)
            )

    def forget(self, path: str) -> None:
        """Forget the added files and folders at and below `path`."""
        condition, values = below(path)
        with self._db.write() as connection:
            connection.execute(f"DELETE FROM roots WHERE {condition}", values)

    def watched(self) -> list[WatchedFolder]:
        """Return the folders that are to be watched, by path."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT path, include, exclude FROM roots WHERE is_watched ORDER BY path"
            ).fetchall()
        return [
            WatchedFolder(os.fsdecode(path), tuple(json.loads(a)), tuple(json.loads(b)))
            for path, a, b in rows
        ]

    def watch(self, folder: WatchedFolder) -> None:
        """Remember that a folder is to be watched, and how."""
        globs = json.dumps(folder.include), json.dumps(folder.exclude)
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO roots VALUES (?, 1, ?, ?) ON CONFLICT DO UPDATE SET is_watched = 1, "
                "include = excluded.include, exclude = excluded.exclude",
                (path_bytes(folder.path), *globs),
            )

    def unwatch(self, path: str) -> bool:
        """Remember that a folder is not to be watched; its documents stay. Whether it was."""
        with self._db.write() as connection:
            changed = connection.execute(
                "UPDATE roots SET is_watched = 0, include = '[]', exclude = '[]' "
                "WHERE path = ? AND is_watched",
                (path_bytes(path),),
            ).rowcount
        return bool(changed)


def below(path: str | None) -> tuple[str, tuple[bytes, ...]]:
    """Return the condition for paths at or below `path`."""
    if path is None:
        return "1", ()
    key = path_bytes(path)
    stem = key.rstrip(b"/\\") if len(key) > 1 else b""
    return (
        "(path = ? OR (path >= ? AND path < ?) OR (path >= ? AND path < ?))",
        (key, stem + b"/", stem + b"0", stem + b"\\", stem + b"]"),
    )
