"""Byte-pair merging of one word in n log n: for words too long for tiktoken."""

from __future__ import annotations

import heapq
from collections.abc import Mapping


def merge_word(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Return the ranks of the pieces that `word` merges into, lowest rank first, leftmost first.

    The same result as the textbook loop that merges the best pair of the whole word again and
    again; a heap of pairs and a linked list of pieces instead of a scan.
    """
    n = len(word)
    following = list(range(1, n + 1))  # start of the next piece
    previous = list(range(-1, n - 1))
    ends = list(range(1, n + 1))  # end of the piece that starts here; 0: merged away
    heap: list[tuple[int, int, int]] = []  # (rank, start, end of the pair)

    def push(start: int) -> None:
        if start < 0 or following[start] >= n:
            return
        end = ends[following[start]]
        rank = ranks.get(word[start:end])
        if rank is not None:
            heapq.heappush(heap, (rank, start, end))

    for start in range(n):
        push(start)
    while heap:
        _, start, end = heapq.heappop(heap)
        right = following[start] if ends[start] else n
        if right >= n or ends[right] != end:
            continue  # one of the two has been merged since
        ends[start], ends[right] = end, 0
        following[start] = following[right]
        if following[right] < n:
            previous[following[right]] = start
        push(previous[start])
        push(start)
    found = []
    start = 0
    while start < n:
        found.append(ranks[word[start : ends[start]]])
        start = following[start]
    return found
