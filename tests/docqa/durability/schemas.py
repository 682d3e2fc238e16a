"""Freezes a small library of a schema as SQL, when that schema is released.

    python -m tests.docqa.durability.schemas VERSION

writes schemas/VERSION.sql beside this file, from which every later docqa is tested to upgrade.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from docqa.migrations import APPLICATION_ID, MIGRATIONS
from tests.docqa.durability import small
from tests.docqa.librarian import write

FOLDER = Path(__file__).with_name("schemas")
DDL = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql"


def ddl_of(version: int) -> list[str]:
    """Return the statements of the schema as the migrations make it now."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)
        return [sql for (sql,) in connection.execute(DDL)]


def freeze(version: int) -> None:
    """Write a library of `version` with a text, and a log that has a vector for each passage."""
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) / "docs"
        write(docs / "report.txt", f"The {small.OLD_ANSWER} report names the flow: 44 litres.")
        write(docs / "service.log", small.log_lines(0, 12))
        with small.open_library(Path(folder)) as library:
            small.sync(library, [docs])
        with closing(sqlite3.connect(small.paths_of(Path(folder)).database)) as connection:
            kept = set(ddl_of(version))
            for name, sql in connection.execute("SELECT name, sql FROM sqlite_master").fetchall():
                if sql and sql not in kept and sql.startswith("CREATE TABLE"):
                    connection.execute(f"DROP TABLE IF EXISTS {name}")
            connection.execute(
                "UPDATE documents SET path = CAST(replace(path, ?, '') AS BLOB)", (folder,)
            )
            connection.execute(
                "UPDATE roots SET path = CAST(replace(path, ?, '') AS BLOB)", (folder,)
            )
            dump = "\n".join(connection.iterdump())
    head = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {version};\n"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{version}.sql").write_text(head + dump + "\n")


if __name__ == "__main__":
    small.shrink()
    freeze(int(sys.argv[1]))
