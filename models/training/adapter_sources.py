"""Real questions: SQuAD, Natural Questions, PolicyQA, contracts, meetings, medicine, prose.

Each function reads one file of the data folder and returns examples without distractors
(`adapter_data` mines them), or, where a document has more passages than the right one, with the
most similar passages of the same document. A tenth of the passages, contracts and transcripts is
marked `dev` by a hash of its text and is never trained on.
"""

# ruff: noqa: E501 (tables of wordings are wider than code)
from __future__ import annotations

import ast
import json
import lzma
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.training.adapter_bm25 import Bm25
from models.training.adapter_records import Example, Passage, held_out

MAX_CHARS = 1100  # of a passage: what docqa's chunker makes is 200 to 1,100
BRIEF = 280  # characters of a span that is an answer whole
SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(\[])")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an `.jsonl.xz` file."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def sentences(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) of the sentences of `text`."""
    edges = [0, *(m.end() for m in SENTENCE.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(edges) if text[a:b].strip()]


def chunks(
    text: str, rng: random.Random, low: int = 300, high: int = MAX_CHARS
) -> list[tuple[int, int]]:
    """Return (start, end) pieces of whole sentences that tile `text`, `low` to `high` long."""
    found, start = [], 0
    size = rng.randint(low, high)
    for a, b in sentences(text):
        if b - start > size and a > start:
            found.append((start, a))
            start, size = a, rng.randint(low, high)
        while b - start > 2 * high:  # a sentence that never ends
            found.append((start, start + high))
            start += high
    if start < len(text):
        found.append((start, len(text)))
    return found


def window(text: str, start: int, end: int, rng: random.Random, size: int) -> tuple[str, int]:
    """Return about `size` characters of whole sentences around `text[start:end]`, and their start."""
    if len(text) <= size:
        return text, 0
    spans = sentences(text)
    inside = [i for i, (a, b) in enumerate(spans) if a < end and b > start] or [0]
    first, last = inside[0], inside[-1]
    while True:
        steps = [s for s in (-1, 1) if 0 <= (first - 1 if s < 0 else last + 1) < len(spans)]
        if not steps:
            break
        step = rng.choice(steps)
        a, b = (first - 1, last) if step < 0 else (first, last + 1)
        if spans[b][1] - spans[a][0] > size:
            break
        first, last = a, b
    low, high = spans[first][0], spans[last][1]
    if high - low > 2 * size:  # tables and lists without a full stop
        low = max(low, start - size)
        high = min(high, low + 2 * size)
    return text[low:high], low


def detokenised(text: str) -> str:
    """Return Penn-Treebank-spaced text as people write it."""
    text = (
        text.replace("`` ", '"').replace(" ''", '"').replace("-LRB- ", "(").replace(" -RRB-", ")")
    )
    text = re.sub(r" (n't|'s|'re|'ve|'ll|'d|'m)\b", r"\1", text)
    text = re.sub(r" ([,.;:!?%)\]])", r"\1", text)
    return re.sub(r"([(\[$]) ", r"\1", text)


def _title(text: str, rng: random.Random) -> str:
    """Return a file stem made of the names that the passage repeats."""
    names = Counter(re.findall(r"\b[A-Z][a-z]{3,}(?: [A-Z][a-z]{3,})?\b", text))
    top = [n for n, _ in names.most_common(3)] or ["notes"]
    return "-".join(rng.choice(top).lower().split())


def placed(text: str, rng: random.Random, stem: str = "") -> Passage:
    """Return `text` as a source somewhere in a file, named after what it repeats."""
    stem = stem or _title(text, rng)
    style = rng.random()
    heads = re.findall(r"\b[A-Z][a-z]+(?: [a-z]+)? [A-Z]?[a-z]{4,}\b", text)
    headings = (rng.choice(heads),) if heads and rng.random() < 0.3 else ()
    if style < 0.6:
        page = rng.randint(1, 240)
        return Passage(text, f"{stem}.pdf", "page", page, page + (rng.random() < 0.1), headings)
    line = rng.randint(1, 900)
    end = rng.choice((".txt", ".md", ".md", ".rst"))
    return Passage(
        text, stem + end, "line", line, line + text.count("\n") + rng.randint(0, 9), headings
    )


def questions(folder: Path, seed: int) -> list[Example]:
    """Return the rows of `qa`; development rows keep their whole paragraph."""
    rng = random.Random(seed)
    places: dict[str, Passage] = {}
    made = []
    for row in read(folder / "qa" / "train.jsonl.xz"):
        kind = row["source"].split("-")[0].split("/")[0]
        context, answer, dev = row["context"], row["answer"], held_out(row["context"])
        at = row["answer_start"]
        if kind == "qed":
            start = context[:at]
            context, at = detokenised(context), len(detokenised(start + "x")) - 1
            answer = detokenised(answer)
        if kind == "qed" and context[at : at + len(answer)] != answer:
            at = context.find(answer)
        if answer is not None and at < 0:
            continue
        if not (dev and kind == "squad"):
            size = rng.choice((MAX_CHARS, MAX_CHARS, 1600, 700, 400))
            size = size if answer is not None else 4000
            end = at + len(answer) if answer is not None else 1
            context, _ = window(context, max(at, 0), end, rng, size)
        if context not in places:
            places[context] = placed(context, rng)
        words = (answer.strip(), 0) if answer is not None else ()
        if answer is not None and (len(answer) > 300 or not answer.strip()):
            continue
        question = row["question"].strip()
        if rng.random() < 0.15 and not dev:
            question = question.rstrip("?. ") if rng.random() < 0.5 else question.lower()
        made.append(
            Example(kind if words else "squad-twin", question, words, (places[context],), dev=dev)
        )
    return made


CLAUSES: dict[str, tuple[str, ...]] = {
    "Document Name": ("What kind of agreement is this?", "What is the title of the contract?", "What is this document called?"),
    "Agreement Date": ("What is the date of the agreement?", "When was the contract signed?", "On which date was the agreement made?"),
    "Effective Date": ("When does the agreement take effect?", "What is the effective date?", "From when is the contract in force?"),
    "Expiration Date": ("When does the contract expire?", "How long is the initial term?", "When does the agreement end?"),
    "Renewal Term": ("How is the agreement renewed?", "What is the renewal term?", "Does the contract renew automatically?"),
    "Notice Period To Terminate Renewal": ("How much notice is needed to stop the renewal?", "What is the notice period to prevent renewal?"),
    "Governing Law": ("Which law governs the agreement?", "What is the governing law?", "Under the laws of which state is the contract interpreted?"),
    "Most Favored Nation": ("Is there a most favored nation clause?", "Does a party get the best terms offered to others?"),
    "Non-Compete": ("Is there a non-compete obligation?", "Who may not compete, and how?", "What does the contract say about competing?"),
    "Exclusivity": ("Is there an exclusivity commitment?", "What is exclusive under this agreement?", "Which exclusive rights are granted?"),
    "No-Solicit Of Customers": ("May customers be solicited?", "Is soliciting the other party's customers forbidden?"),
    "No-Solicit Of Employees": ("May employees be solicited?", "Is hiring the other party's employees restricted?"),
    "Competitive Restriction Exception": ("What exceptions are there to the non-compete?", "When is competing allowed despite the restriction?"),
    "Non-Disparagement": ("Is there a non-disparagement clause?", "May the parties speak badly of each other?"),
    "Termination For Convenience": ("Can a party terminate without cause?", "Is termination for convenience possible?", "How can the contract be ended without a reason?"),
    "Rofr/Rofo/Rofn": ("Is there a right of first refusal?", "Who has a right of first offer or refusal?"),
    "Change Of Control": ("What happens on a change of control?", "Can a party terminate if the other is acquired?"),
    "Anti-Assignment": ("Can the agreement be assigned?", "Is consent required to assign the contract?", "May the rights be transferred to a third party?"),
    "Revenue/Profit Sharing": ("How is revenue shared?", "Is there a revenue or profit share?", "Which royalty or share of sales is paid?"),
    "Price Restrictions": ("Are there limits on price changes?", "May prices be raised?"),
    "Minimum Commitment": ("Is there a minimum commitment?", "What minimum amount has to be purchased?", "Which minimum must be met?"),
    "Volume Restriction": ("Is the usage limited in volume?", "Which volume limits apply?"),
    "Ip Ownership Assignment": ("Who owns the intellectual property created?", "Is intellectual property assigned to a party?"),
    "Joint Ip Ownership": ("Is intellectual property owned jointly?", "What do the parties own jointly?"),
    "License Grant": ("What licence is granted?", "Which license does the agreement grant?", "What may the licensee do?"),
    "Non-Transferable License": ("Is the license transferable?", "May the license be transferred or sublicensed?"),
    "Affiliate License-Licensor": ("Does the license cover the licensor's affiliates?",),
    "Affiliate License-Licensee": ("May the licensee's affiliates use the license?", "Does the license extend to affiliates?"),
    "Unlimited/All-You-Can-Eat-License": ("Is there an unlimited licence?", "Is use under the license unlimited?"),
    "Irrevocable Or Perpetual License": ("Is the license perpetual or irrevocable?", "Which licence cannot be revoked?"),
    "Source Code Escrow": ("Is source code kept in escrow?", "When is the source code released from escrow?"),
    "Post-Termination Services": ("What must be done after termination?", "Which obligations remain after the agreement ends?"),
    "Audit Rights": ("Is there a right to audit?", "Who may inspect the books and records?", "What audit rights does a party have?"),
    "Uncapped Liability": ("For what is liability unlimited?", "Which liability is not capped?"),
    "Cap On Liability": ("Is liability capped?", "What is the limit of liability?", "To what amount is liability limited?"),
    "Liquidated Damages": ("Are there liquidated damages?", "Is a termination fee or penalty due?"),
    "Warranty Duration": ("How long is the warranty?", "What is the warranty period?"),
    "Insurance": ("What insurance is required?", "Which insurance has to be maintained?", "What is the minimum insurance coverage?"),
    "Covenant Not To Sue": ("Is there a covenant not to sue?", "Which claims may a party not bring?"),
    "Third Party Beneficiary": ("Is there a third party beneficiary?", "Who else may enforce the agreement?"),
}  # fmt: skip


def _brief(span: str, limit: int = BRIEF, longest: int = 600) -> str:
    """Return `span`, cut after a whole sentence near `limit` characters, or after a clause.

    A first sentence is kept whole up to `longest`, which is what an answer has room for.
    """
    span = span.strip()
    if len(span) <= limit:
        return span
    ends = [b for _, b in sentences(span) if b <= longest]
    if ends:
        return span[: max((b for b in ends if b <= limit + 120), default=ends[0])].strip()
    cut = max(span.rfind(mark, 60, limit) for mark in (";", ",", " "))
    return span[: cut if cut > 0 else limit].rstrip(" ,;")


def contracts(folder: Path, seed: int, n_similar: int = 12) -> list[Example]:
    """Return questions on the clauses of each contract, and on clauses that it does not have."""
    rng = random.Random(seed)
    made: list[Example] = []
    for row in read(folder / "contracts" / "cuad_train.jsonl.xz"):
        text = re.sub(r"[ \t]+", " ", row["text"])
        dev = held_out(row["name"])
        stem = re.sub(r"[^A-Za-z0-9]+", "-", row["name"])[: rng.choice((24, 40, 60))].strip("-")
        pieces = chunks(text, rng)
        passages = _pages(text, pieces, f"{stem}.pdf", rng)
        index = Bm25([p.text for p in passages])
        for clause, asked in CLAUSES.items():
            spans = _listed(row["clauses"].get(clause))
            if dev and rng.random() < 0.5:
                continue
            question = rng.choice(asked)
            if not spans:
                if rng.random() < 0.1:
                    near = index.top(question, n_similar)
                    made.append(
                        Example(
                            "contract-twin",
                            question,
                            (),
                            (passages[near[0]],),
                            tuple(passages[i] for i in near[1:]),
                            dev=dev,
                        )
                    )
                continue
            made += _clause(question, spans, passages, index, n_similar, dev)
    return made


def _pages(
    text: str, pieces: list[tuple[int, int]], path: str, rng: random.Random
) -> list[Passage]:
    size = rng.randint(2500, 4500)
    return [
        Passage(text[a:b].strip(), path, "page", a // size + 1, max(a, b - 1) // size + 1)
        for a, b in pieces
    ]


def _listed(value: object) -> list[str]:
    try:
        spans = ast.literal_eval(value) if isinstance(value, str) and value else []
    except (ValueError, SyntaxError):
        return []
    found = [re.sub(r"\s+", " ", s).strip() for s in spans if isinstance(s, str)]
    return [s for s in found if len(s) > 3]


def _clause(
    question: str, spans: list[str], passages: list[Passage], index: Bm25, n_similar: int, dev: bool
) -> list[Example]:
    """Return the example of one clause: the first span that one passage holds is the answer.

    The longest of those that are an answer whole come first.
    """
    flat = [re.sub(r"\s+", " ", p.text) for p in passages]
    for span in sorted(spans, key=lambda s: (len(s) > BRIEF, -len(s))):
        answer = _brief(span)
        hits = [i for i, t in enumerate(flat) if answer in t]
        if hits:
            tainted = {i for i, t in enumerate(flat) for s in spans if s[:60] in t or s[-60:] in t}
            tainted |= {h + d for h in hits for d in (-1, 1)} if len(span) > BRIEF else set()
            near = [i for i in index.top(question, n_similar + 8) if i not in tainted | set(hits)]
            other = tuple(passages[i] for i in near[:n_similar])
            gold = passages[hits[0]]
            return [Example("contract", question, (answer, 0), (gold,), other, (answer,), dev)]
    return []


def meetings(folder: Path, seed: int, n_similar: int = 12) -> list[Example]:
    """Return questions on transcripts; the answer is the best sentence of the turns that support it."""
    rng = random.Random(seed)
    made: list[Example] = []
    for row in read(folder / "long" / "qmsum_train.jsonl.xz"):
        dev = held_out(row["name"])
        turns = [f"{t['speaker']}: {_spoken(t['content'])}" for t in row["meeting_transcripts"]]
        passages, owner = _grouped(turns, row["name"].removesuffix(".json"), rng)
        index = Bm25([p.text for p in passages])
        for asked in row["specific_query_list"]:
            wanted = {i for a, b in asked["relevant_text_span"] for i in range(int(a), int(b) + 1)}
            wanted &= set(range(len(turns)))
            if not wanted:
                continue
            best = _support(asked["query"], asked["answer"], turns, wanted)
            if best is None:
                continue
            turn, sentence = best
            gold = owner[turn]
            tainted = {owner[i] for i in wanted}
            near = [i for i in index.top(asked["query"], n_similar + 10) if i not in tainted]
            if sentence in passages[gold].text:
                other = tuple(passages[i] for i in near[:n_similar])
                made.append(
                    Example(
                        "meeting",
                        asked["query"],
                        (sentence, 0),
                        (passages[gold],),
                        other,
                        (sentence,),
                        dev,
                    )
                )
    return made


def _spoken(text: str) -> str:
    text = re.sub(r"\{\w+\}", "", text)
    return re.sub(r"\s+", " ", re.sub(r" ([,.?!])", r"\1", text)).strip()


def _grouped(turns: list[str], stem: str, rng: random.Random) -> tuple[list[Passage], list[int]]:
    """Return passages of consecutive turns, and for each turn the passage it begins in."""
    passages: list[Passage] = []
    owner: list[int] = []
    held: list[str] = []
    first, size = 0, rng.randint(400, MAX_CHARS)
    for i, turn in enumerate(turns):
        if held and sum(map(len, held)) + len(turn) > size:
            passages.append(Passage("\n".join(held), f"{stem}.txt", "line", first + 1, i))
            held, first, size = [], i, rng.randint(400, MAX_CHARS)
        owner.append(len(passages))
        held.append(turn[:2400])
    passages.append(Passage("\n".join(held), f"{stem}.txt", "line", first + 1, len(turns)))
    return passages, owner


def _terms(text: str) -> Counter[str]:
    return Counter(w for w in re.findall(r"[a-z0-9]+", text.lower()) if len(w) > 3)


def _support(query: str, answer: str, turns: list[str], wanted: set[int]) -> tuple[int, str] | None:
    """Return (turn, sentence) among `wanted` that shares most words with the written answer."""
    goal, topic = _terms(answer), _terms(query)
    best, best_score = None, 0.0
    for i in sorted(wanted):
        body = turns[i][:2400]
        for a, b in sentences(body):
            sentence = body[a:b].strip()
            if not 25 <= len(sentence) <= 300:
                continue
            said = _terms(sentence)
            hits = sum((said & goal).values()) + 0.5 * sum((said & topic).values())
            score = hits / (6 + sum(said.values()))
            if score > best_score:
                best, best_score = (i, sentence), score
    return best if best_score > 0.18 else None


def medicine(folder: Path, n_rows: int, seed: int) -> list[Example]:
    """Return definition questions: the first sentence of the passage is the answer."""
    rng = random.Random(seed)
    rows = [
        r
        for r in read(folder / "retrieval" / "medquad_pairs.jsonl.xz")
        if r["question"].startswith("What is (are)")
    ]
    rng.shuffle(rows)
    made = []
    for row in rows:
        topic = row["question"].removeprefix("What is (are)").strip(" ?")
        text = re.sub(r"\s+", " ", row["passage"])
        spans = sentences(text)
        sentence = text[slice(*spans[0])].strip()
        if (
            not topic
            or topic.lower().split()[0] not in sentence.lower()
            or not 30 < len(sentence) < 280
        ):
            continue
        text = text[: spans[min(len(spans), rng.randint(2, 6)) - 1][1]][:MAX_CHARS]
        ask = rng.choice(
            ("What is {t}?", "What is {t}?", "Define {t}.", "What does {t} mean?", "{t}?")
        )
        made.append(
            Example(
                "medical",
                ask.format(t=topic),
                (sentence, 0),
                (placed(text, rng),),
                dev=held_out(row["passage"]),
            )
        )
        if len(made) == n_rows:
            break
    return made


def prose(folder: Path, n_rows: int, seed: int) -> list[Example]:
    """Return what is said of a name that occurs in one sentence of a news article only."""
    rng = random.Random(seed)
    rows = [(r["title"], r["text"]) for r in read(folder / "text" / "wikinews.jsonl.xz")]
    rng.shuffle(rows)
    ask = ("What is said about {t}?", "What does the text say about {t}?", "{t}", "Tell me about {t}.",
           "Which sentence mentions {t}?", "What do the sources say of {t}?", "Where is {t} mentioned?")  # fmt: skip
    made: list[Example] = []
    for title, text in rows:
        pieces = chunks(text, rng)
        a, b = rng.choice(pieces) if pieces else (0, 0)
        piece = text[a:b].strip()
        names = re.findall(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)+", piece)
        alone = [n for n in names if piece.count(n) == 1 and text.count(n) == 1]
        if not alone or len(piece) < 150:
            continue
        name = rng.choice(alone)
        at = piece.index(name)
        span = next(((x, y) for x, y in sentences(piece) if x <= at < y), None)
        sentence = piece[slice(*span)].strip() if span else ""
        if not 30 < len(sentence) < 280:
            continue
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower())[:40].strip("-") or "article"
        gold = placed(piece, rng, stem)
        other = tuple(
            replace(placed(text[x:y].strip(), rng, stem), path=gold.path)
            for x, y in pieces
            if (x, y) != (a, b)
        )
        made.append(
            Example(
                "prose",
                rng.choice(ask).format(t=name),
                (sentence, 0),
                (gold,),
                other[:3],
                dev=held_out(text),
            )
        )
        if len(made) == n_rows:
            break
    return made
