"""The reader's training questions from real data: passages cut as docqa cuts them, answers marked.

Each function adds its passages to the pool and returns the queries about them. Real wording that
the generative adapter's data also needs (clause questions, sentence cutting, the data files) comes
from `adapter_sources`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.training.adapter_sources import CLAUSES, chunks, detokenised, read, sentences
from models.training.reader_records import PassagePool, Query, Right, held_out

LOW_CHARS, HIGH_CHARS = 400, 1000  # of a passage: docqa's chunks have at most 240 tokens
MAX_CONTRACT_CHARS = 90_000
_NAME = re.compile(r"\b[A-Z][a-z]{3,}(?: [A-Z][a-z]{3,})?\b")


def context_line(text: str, rng: random.Random) -> str:
    """Return what a title could be: a name that the passage repeats, a poor file name, or none."""
    draw = rng.random()
    if draw < 0.5:
        return ""
    names = [name for name, _ in Counter(_NAME.findall(text)).most_common(3)]
    if draw < 0.9 and names:
        title = rng.choice(names)
        return title if rng.random() < 0.6 else f"{title} > {rng.choice(names)}"
    return rng.choice(("scan", "document", "report", "notes", "draft", "export")) + str(
        rng.randint(1, 3000)
    )


def questions(folder: Path, pool: PassagePool, rng: random.Random) -> list[Query]:
    """Return SQuAD, Natural Questions, PolicyQA and multi-hop rows of `qa`."""
    placed: dict[str, list[tuple[int, int, int]]] = {}
    made = []
    for row in read(folder / "qa" / "train.jsonl.xz"):
        kind = _qa_kind(row["source"])
        dev = held_out(row["context"])
        context, answer, at = row["context"], row["answer"], row["answer_start"]
        if kind == "nq":
            head, context = context[: max(at, 0)], detokenised(context)
            answer = detokenised(answer)
            at = len(detokenised(head + "x")) - 1
            if context[at : at + len(answer)] != answer:
                at = context.find(answer)
        if answer is not None and (at < 0 or not answer.strip()):
            continue
        if context not in placed:
            placed[context] = _pieces(context, pool, _qa_pool(kind), dev, rng)
        made += _qa_query(kind, row["question"].strip(), answer, at, placed[context], dev, rng)
    return made


def _qa_kind(source: str) -> str:
    for prefix, kind in (("squad", "squad"), ("qed", "nq"), ("nq", "nq"), ("policy", "policy")):
        if source.startswith(prefix):
            return kind
    return "hotpot"


def _qa_pool(kind: str) -> str:
    return {"squad": "squad", "policy": "policy"}.get(kind, "nq")


def _pieces(
    text: str, pool: PassagePool, name: str, dev: bool, rng: random.Random
) -> list[tuple[int, int, int]]:
    """Add `text` to the pool in passages; return (passage, start, end) of each."""
    doc = pool.new_document()
    whole = len(text) <= (2000 if name == "squad" else 1100)
    cuts = [(0, len(text))] if whole else chunks(text, rng, LOW_CHARS, HIGH_CHARS)[:24]
    context = context_line(text, rng) if not (dev and name == "squad") else ""
    return [(pool.add(text[a:b], context, doc, name, dev), a, b) for a, b in cuts]


def _qa_query(
    kind: str,
    question: str,
    answer: str | None,
    at: int,
    pieces: Sequence[tuple[int, int, int]],
    dev: bool,
    rng: random.Random,
) -> list[Query]:
    if not dev and rng.random() < 0.15:
        question = question.rstrip("?. ")
    scope = ("squad", "nq") if kind != "policy" else ()  # policies ask all the same of all
    passages = tuple(p for p, _, _ in pieces)
    if answer is None:
        return [Query(kind, question, (), scope, wrong=passages[:4], dev=dev)]
    end = at + len(answer)
    held = [(p, a) for p, a, b in pieces if a <= at and end <= b]
    if not held:
        return []
    right, start = held[0]
    others = tuple(p for p in passages if p != right)
    mark = Right(right, at - start, end - start)
    return [Query(kind, question, (mark,), scope, excluded=others, dev=dev, answer=answer)]


def contracts(folder: Path, pool: PassagePool, rng: random.Random) -> list[Query]:
    """Return questions on clauses: inside the contract, and of all contracts by its name."""
    made: list[Query] = []
    places: dict[str, list[int]] = {}
    for row in read(folder / "contracts" / "cuad_train.jsonl.xz"):
        text = re.sub(r"[ \t]+", " ", row["text"])[:MAX_CONTRACT_CHARS]
        dev, doc = held_out(row["name"]), pool.new_document()
        title = re.sub(r"[^A-Za-z0-9]+", " ", row["name"])[:60].strip()
        cuts = chunks(text, rng, LOW_CHARS, HIGH_CHARS)
        ids = [pool.add(text[a:b], title, doc, "contract", dev) for a, b in cuts]
        for clause, asked in CLAUSES.items():
            right, near = _clause_marks(row["clauses"].get(clause), text, cuts, ids)
            if right:
                made += _clause_queries(rng, clause, asked, title, right, near, dev, places)
            elif rng.random() < 0.08 and row["clauses"].get(clause) is None:
                query = Query("contract", rng.choice(asked), (), in_document=True, dev=dev)
                made.append(_with_document(query, ids, rng))
    return made


def _clause_queries(
    rng: random.Random,
    clause: str,
    asked: Sequence[str],
    title: str,
    right: tuple[Right, ...],
    near: tuple[int, ...],
    dev: bool,
    places: dict[str, list[int]],
) -> list[Query]:
    """Return the clause's question of the contract alone, and now and then with its name."""
    made = [
        Query("contract", question, right, in_document=True, excluded=near, dev=dev)
        for question in rng.sample(list(asked), min(len(asked), 1 if dev else 2))
    ]
    elsewhere = places.setdefault(clause + ("|dev" if dev else ""), [])
    if len(elsewhere) >= 4 and rng.random() < 0.35:
        short = " ".join(title.split()[: rng.randint(2, 5)])
        question = rng.choice(("{t}: {q}", "In {t}, {q}", "{q} ({t})")).format(
            t=short, q=rng.choice(list(asked))
        )
        wrong = tuple(rng.sample(elsewhere, min(6, len(elsewhere))))
        made.append(
            Query(
                "contract-named",
                question,
                right,
                in_document=True,
                excluded=near,
                wrong=wrong,
                dev=dev,
            )
        )
    elsewhere.append(right[0].passage)
    return made


def _with_document(query: Query, ids: Sequence[int], rng: random.Random) -> Query:
    """Return an unanswerable query that says, through `wrong`, which document it is asked of."""
    wrong = tuple(rng.sample(list(ids), min(4, len(ids))))
    return Query(query.kind, query.question, (), in_document=True, wrong=wrong, dev=query.dev)


def _clause_marks(
    value: object, text: str, cuts: Sequence[tuple[int, int]], ids: Sequence[int]
) -> tuple[tuple[Right, ...], tuple[int, ...]]:
    """Return the passages that hold most of a clause span, marked, and those that hold a little."""
    right: dict[int, Right] = {}
    near: set[int] = set()
    for span in _spans(value):
        at = text.find(span)
        if at < 0:
            continue
        start, end = at, at + len(_first_words(span))
        for (a, b), passage in zip(cuts, ids, strict=True):
            shared = min(b, at + len(span)) - max(a, at)
            if shared <= 0:
                continue
            if a <= start and end <= b:
                right.setdefault(passage, Right(passage, start - a, end - a))
            elif shared > 0.6 * len(span) or shared > 200:
                right.setdefault(passage, Right(passage))
            else:
                near.add(passage)
    return tuple(right.values()), tuple(near - set(right))


def _spans(value: object) -> list[str]:
    import ast

    try:
        found = ast.literal_eval(value) if isinstance(value, str) and value else []
    except (ValueError, SyntaxError):
        return []
    spans = [re.sub(r"[ \t]+", " ", s).strip() for s in found if isinstance(s, str)]
    return [s for s in spans if len(s) > 3]


def _first_words(span: str, limit: int = 170) -> str:
    """Return `span`, or its first whole sentences or clause below `limit` characters."""
    if len(span) <= limit:
        return span
    ends = [b for _, b in sentences(span) if b <= limit]
    if ends:
        return span[: ends[-1]].rstrip()
    cut = max(span.rfind(mark, 60, limit) for mark in (";", ",", " "))
    return span[: cut if cut > 0 else limit].rstrip(" ,;")


def meetings(folder: Path, pool: PassagePool, rng: random.Random) -> list[Query]:
    """Return queries on transcripts: right are the passages that say most of the written answer."""
    made: list[Query] = []
    for row in read(folder / "long" / "qmsum_train.jsonl.xz"):
        dev, doc = held_out(row["name"]), pool.new_document()
        turns = [f"{t['speaker']}: {_spoken(t['content'])}" for t in row["meeting_transcripts"]]
        title = f"Meeting {row['name'].removesuffix('.json')}"
        passages, owner = _grouped(turns, rng)
        ids = [pool.add(text, title, doc, "meeting", dev) for text in passages]
        for asked in row["specific_query_list"]:
            wanted = {i for a, b in asked["relevant_text_span"] for i in range(int(a), int(b) + 1)}
            inside = sorted({p for i in wanted if i < len(turns) for p in owner[i]})
            made += _meeting_query(asked, inside, passages, ids, dev)
    return made


def _spoken(text: str) -> str:
    text = re.sub(r"\{\w+\}", "", text)
    return re.sub(r"\s+", " ", re.sub(r" ([,.?!])", r"\1", text)).strip()


def _grouped(turns: Sequence[str], rng: random.Random) -> tuple[list[str], list[list[int]]]:
    """Return passages of consecutive turns, long turns cut, and the passages of each turn."""
    passages: list[str] = []
    owner: list[list[int]] = []
    held = ""
    size = rng.randint(LOW_CHARS, HIGH_CHARS)
    for turn in turns:
        owner.append([])
        for a, b in chunks(turn, rng, LOW_CHARS, HIGH_CHARS) or [(0, 0)]:
            if held and len(held) + b - a > size:
                passages.append(held.strip())
                held, size = "", rng.randint(LOW_CHARS, HIGH_CHARS)
            held += ("\n" if held else "") + turn[a:b].strip()
            if len(passages) not in owner[-1]:
                owner[-1].append(len(passages))
    passages.append(held.strip())
    return passages, owner


def _terms(text: str) -> Counter[str]:
    return Counter(w for w in re.findall(r"[a-z0-9]+", text.lower()) if len(w) > 3)


def _meeting_query(
    asked: dict[str, Any],
    inside: Sequence[int],
    passages: Sequence[str],
    ids: Sequence[int],
    dev: bool,
) -> list[Query]:
    if not inside:
        return []
    goal, topic = _terms(asked["answer"]), _terms(asked["query"])

    def merit(text: str) -> float:
        said = _terms(text)
        return sum((said & goal).values()) + 0.5 * sum((said & topic).values())

    order = sorted(inside, key=lambda p: -merit(passages[p]))
    n_right = len(inside) if dev else max(1, min(4, len(inside) // 2 + 1))
    right = []
    for p in order[:n_right]:
        spans = [(a, b) for a, b in sentences(passages[p]) if 25 <= b - a <= 180]
        best = max(spans, key=lambda s: _density(passages[p][s[0] : s[1]], merit), default=None)
        is_clear = best and _density(passages[p][best[0] : best[1]], merit) > 0.2
        start, end = best if best and is_clear else (-1, -1)
        right.append(Right(ids[p], start, end))
    rest = tuple(ids[p] for p in order[n_right:])
    return [
        Query(
            "meeting", asked["query"], tuple(right), in_document=True, excluded=rest, dev=dev
        )
    ]  # fmt: skip


def _density(sentence: str, merit: Any) -> float:
    return float(merit(sentence)) / (6 + sum(_terms(sentence).values()))


def medicine(folder: Path, pool: PassagePool, rng: random.Random) -> list[Query]:
    """Return MedQuAD's questions; equal questions share their passages."""
    right: dict[str, list[int]] = {}
    rest: dict[str, list[int]] = {}
    dev_of: dict[str, bool] = {}
    for row in read(folder / "retrieval" / "medquad_pairs.jsonl.xz"):
        question = re.sub(r"\s+", " ", row["question"].replace("(are)", "").replace(" ?", "?"))
        text = re.sub(r"\s+", " ", row["passage"]).strip()
        if len(text) < 60:
            continue
        dev, doc = held_out(question), pool.new_document()
        cuts = chunks(text, rng, LOW_CHARS, HIGH_CHARS)[:3]
        context = context_line(text, rng)
        ids = [pool.add(text[a:b].strip(), context, doc, "medical", dev) for a, b in cuts]
        key = question.lower()
        right.setdefault(key, []).append(ids[0])
        rest.setdefault(key, []).extend(ids[1:])
        dev_of[key] = dev
    return [
        Query(
            "medical",
            question,
            tuple(Right(p) for p in right[question]),
            ("medical",),
            excluded=tuple(rest[question]),
            dev=dev_of[question],
        )
        for question in right
    ]
