"""Invented questions beside the reader's real ones."""

from __future__ import annotations

import json
import lzma

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.embedder import packaged_folder
from models.training.reader_batches import Sampler, Sizes
from models.training.reader_invented import extended, queries
from models.training.reader_records import KINDS, PassagePool, Query, Right, pack

KNOWN = (
    "The bridge over the Elbe was opened in 1893 and is known by its colour, a light blue that "
    "the painters of the city chose; it carries trams, cars and people on foot to this day."
)
OTHER = "Bees gather nectar from flowers all summer long and keep it in wax cells for the winter."
NEW = "A lighthouse stands on the cape since 1811; its lamp is seen from forty miles away at sea."


@pytest.fixture
def tokenizer():
    found = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


@pytest.fixture
def real(tokenizer):
    pool = PassagePool()
    bridge = pool.add(KNOWN, "Elbe", pool.new_document(), "squad", False)
    pool.add(OTHER, "", pool.new_document(), "nq", False)
    at = KNOWN.index("1893")
    asked = Query("squad", "When was it opened?", (Right(bridge, at, at + 4),), ("squad",))
    return pack(pool, [asked], tokenizer)


@pytest.fixture
def file(tmp_path):
    def source(text, heading=""):
        return f'] x.pdf, page 3{heading}\n"""\n{text}\n"""\n\n'

    rows = [
        {"question": " Who chose it?", "answer": "painters", "passage": source(KNOWN[40:])},
        {"question": " Since when?", "answer": "1811", "passage": source(NEW, ", Coast")},
        {"question": " How far?", "answer": "forty miles", "passage": source(NEW, ", Coast")},
        {"question": " What?", "answer": "not there", "passage": source(NEW)},
    ]
    path = tmp_path / "invented.jsonl.xz"
    path.write_bytes(lzma.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def words(tokenizer, arrays, name, i):
    at = arrays[f"{name}_at"]
    return tokenizer.decode(arrays[name][at[i] : at[i + 1]].tolist())


def test_the_headings_are_the_context_and_answers_are_marked(file):
    pool, found = queries(file)
    assert [q.question for q in found] == ["Who chose it?", "Since when?", "How far?"]
    assert sorted(set(pool.contexts)) == ["", "Coast"]
    for query in found:
        mark = query.right[0]
        assert pool.texts[mark.passage][mark.start : mark.end] == query.answer


def test_both_are_found_again_in_the_joined_arrays(real, file, tokenizer):
    both = extended(real, file, tokenizer)
    assert len(both["kind"]) == 4 and KINDS[both["kind"][-1]] == "invented"
    assert words(tokenizer, both, "question", 0) == "when was it opened?"
    for query, answer in enumerate(("1893", "painters", "1811", "forty miles")):
        passage, first, last = both["right"][both["right_at"][query]]
        start = both["text_at"][passage]
        text = both["text"][start + first : start + last + 1]
        assert tokenizer.decode(text.tolist()) == answer
    last = both["right"][both["right_at"][3]][0]
    assert words(tokenizer, both, "context", both["context_of"][last]) == "coast"
    assert len(set(both["doc_of"].tolist())) == len(both["doc_of"])


def test_a_passage_with_the_same_text_is_never_taken_for_wrong(real, file, tokenizer):
    both = extended(real, file, tokenizer)
    excluded = [both["excluded"][a:b].tolist() for a, b in zip(
        both["excluded_at"], both["excluded_at"][1:], strict=False)]  # fmt: skip
    assert excluded == [[], [0], [], []]
    mined = np.array([[1, -1], [0, 1], [1, -1], [1, -1]], np.int32)
    sampler = Sampler(both, mined, Sizes(n_groups=1, n_wrong=2, n_lone=1, n_micro=1), 1)
    for _ in range(20):
        assert 0 not in sampler.group(1)[1]
