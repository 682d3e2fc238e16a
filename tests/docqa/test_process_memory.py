"""What is freed goes back to the system, where the C library lets us ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

N_BLOCKS, BLOCK_BYTES = 40, 4 << 20

PROGRAM = f"""
import sys
import numpy as np, psutil
from docqa.process_memory import give_back_free_pages, give_back_large_blocks

settled, trimmed = sys.argv[1:]
process = psutil.Process()
if settled == "1":
    give_back_large_blocks()
np.zeros({4 * BLOCK_BYTES}, np.uint8)  # freed: glibc takes blocks up to this from the heap now
kept, blocks = [], []
for _ in range({N_BLOCKS}):
    blocks.append(np.ones({BLOCK_BYTES}, np.uint8))
    kept.append(np.ones(100_000, np.uint8))  # each holds what lies below it
before = process.memory_info().rss
blocks.clear()
if trimmed == "1":
    give_back_free_pages()
print(before - process.memory_info().rss)
"""


def freed(settled: int, trimmed: int) -> int:
    """Return the bytes that left the process with its blocks."""
    command = [sys.executable, "-c", PROGRAM, str(settled), str(trimmed)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize("case", [(1, 0), (0, 1), (1, 1)])
def test_freed_blocks_leave_the_process(case):
    assert freed(*case) > 0.9 * N_BLOCKS * BLOCK_BYTES


THREADS = """
import ctypes, sys, threading
from docqa.process_memory import give_back_large_blocks

if sys.argv[1] == "1":
    give_back_large_blocks()
all_here = threading.Barrier(12)

def allocate():
    all_here.wait()
    kept = [bytes(5_000) for _ in range(2_000)]
    all_here.wait()

threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize(("settled", "is_few"), [("0", False), ("1", True)])
def test_threads_share_two_heaps(settled, is_few):
    command = [sys.executable, "-c", THREADS, settled]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    n_heaps = said.count("Arena ")
    assert n_heaps >= 1
    assert (n_heaps <= 2) is is_few
