"""Each derived file, cut short or with one bit turned: found out, and the answers stay the same.

A turned bit leaves size and time as they were, as a failing disk does.
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from docqa.check import check, repair
from tests.docqa.durability import small

QUERIES = ("valve opened in shift", "quarterly report pump nine", "R00017", "Entry applev1n3")
DERIVED = (
    *("meta.json", "manifest.json", ".managed.json"),
    *(".del", ".fast", ".fieldnorm", ".idx", ".pos", ".store", ".term"),
    "vectors.bin",
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A library whose word index has several segments and deleted rows, and its answers."""
    patch = pytest.MonkeyPatch()
    patch.setattr("docqa.library.WorkerReader", small.InProcess)
    folder = tmp_path_factory.mktemp("intact")
    small.prepare(folder)
    small.sync_files(folder)
    small.run_sync(folder, lambda report: None)
    assert check(small.paths_of(folder)) == []
    shutil.copytree(folder / "library", folder / "before")
    yield folder, found_in(folder)
    patch.undo()


def found_in(folder):
    """Return the hits of both indexes, with their scores."""
    with small.open_library(folder) as library:
        return [
            [(hit.chunk_id, round(hit.score, 3)) for hit in index.search(query, 20)]
            for query in QUERIES
            for index in (library.lexical, library.dense)
        ]


def ranked(found):
    """Return what must be equal when the word index was made anew: scores count deleted rows."""
    return [[chunk_id for chunk_id, _ in hits[:1]] for hits in found]


def files_of(folder, kind):
    library = folder / "library"
    places = [*(library / "lexical").iterdir(), *(library / "dense").iterdir()]
    return [file for file in sorted(places) if file.name == kind or file.suffix == kind]


def damage(file, rng, how):
    data, status = bytearray(file.read_bytes()), file.stat()
    if how == "truncated":
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    if how == "flipped":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def restored(folder):
    (folder / "library").rename(folder / "damaged")
    # A merge of the word index that its damage ended may still write a file.
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    shutil.copytree(folder / "before", folder / "library")


def damage_and_ask(folder, expected, kind, seed):
    rng = random.Random(f"{kind} {seed}")
    restored(folder)
    files = files_of(folder, kind)
    assert files, kind
    how = ("truncated", "flipped")[seed % 2]
    file = rng.choice(files)
    damage(file, rng, how)
    found = found_in(folder)
    assert found == expected or ranked(found) == ranked(expected), (file.name, how, seed)
    findings = check(small.paths_of(folder))  # the one who asked has made it anew, or it is unused
    assert all(finding.is_derived for finding in findings), findings
    assert repair(small.paths_of(folder)) == []


@pytest.mark.parametrize("kind", DERIVED)
def test_a_damaged_file_gives_no_wrong_answer(intact, kind):
    for seed in range(2):
        damage_and_ask(*intact, kind, seed)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("kind", DERIVED)
def test_200_damages_of_each_file_give_no_wrong_answer(intact, kind):
    for seed in range(200):
        damage_and_ask(*intact, kind, seed)


@pytest.mark.parametrize("kind", DERIVED)
def test_check_finds_a_turned_bit(intact, kind):
    """Without anybody asking: `docqa check` reads every byte."""
    folder, _ = intact
    rng = random.Random(kind)
    restored(folder)
    file = max(files_of(folder, kind), key=lambda file: file.stat().st_size)
    damage(file, rng, "flipped")
    findings = check(small.paths_of(folder))
    if kind not in (".managed.json", "manifest.json"):  # what tantivy may delete; checksums
        assert [finding.is_derived for finding in findings] == [True]
    assert repair(small.paths_of(folder)) == []
