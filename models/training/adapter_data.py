r"""Build the adapter's training and development data as token arrays.

    python -m models.training.adapter_data --data ../shared/data --base BASE.gguf \\
        --plain plain.jsonl --out data.npz.xz

Text is tokenised by llama.cpp itself, segment by segment, as docqa does it; the segments come from
`docqa.prompts`. The file holds pieces (source blocks without their number, questions, targets) and
rows that refer to them; `adapter_batches` draws prompts from it. Development prompts are arranged
here, once, so that the GPU and llama.cpp are asked exactly the same.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from docqa import prompts
from models.model_file import read_model
from models.tokenizer import build_tokenizer, byte_of_char
from models.training import adapter_fields, adapter_logs, adapter_sources, adapter_tasks
from models.training.adapter_articles import articles
from models.training.adapter_batches import FILLED, MARK
from models.training.adapter_bm25 import Bm25
from models.training.adapter_records import Example, Passage, turn
from models.training.adapter_sheets import Words

N_SIMILAR = 14
MAX_PASSAGE = 700  # tokens


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A development prompt, fixed: which row, which passages in which order."""

    name: str  # of the set: squad-alone, squad-4 …
    row: int
    sources: list[int]  # passage numbers
    markers: list[int]  # of the row's gold passages; empty where they are absent
    references: list[str]
    forbidden: str = ""
    position: int = 0  # of the first gold passage, 1-based; 0: absent


class Tokenizer:
    """The reading model's tokenizer, as docqa uses it; its ids are llama.cpp's (tested)."""

    def __init__(self, base: Path) -> None:
        self.vocabulary = read_model(base).vocabulary
        encoder = build_tokenizer(self.vocabulary)
        if encoder is None:
            raise ValueError(f"{base}: its tokenizer is not one of the known BPE kinds")
        self.encoder = encoder

    def __call__(self, text: str, special: bool = False) -> list[int]:
        """Return the ids of `text`; special tokens are parsed only where `special`."""
        return self.encoder.encode(text, is_control=special)

    def words(self) -> list[bytes]:
        """Return the bytes of every id."""
        chars = {chr(code): byte for code, byte in byte_of_char().items()}
        known = [token.decode("utf-8") for token in self.vocabulary.tokens.raw()]
        return [
            bytes(chars[c] for c in token)
            if all(c in chars for c in token)
            else token.encode("utf-8")
            for token in known
        ]


class Pieces:
    """Token sequences, each stored once."""

    def __init__(self) -> None:
        self.index: dict[tuple[object, ...], int] = {}
        self.arrays: list[np.ndarray] = []

    def add(self, key: tuple[object, ...], ids: Sequence[int]) -> int:
        """Return the number of the piece `key`, storing `ids` if it is new."""
        if key not in self.index:
            self.index[key] = len(self.arrays)
            self.arrays.append(np.array(ids, np.uint16))
        return self.index[key]


class Builder:
    """Turns examples into pieces and rows."""

    def __init__(self, tokenize: Tokenizer) -> None:
        self.tokenize = tokenize
        self.pieces = Pieces()
        self.kinds: list[str] = []
        self.rows: list[list[int]] = []  # kind, head, tail, target, before, droppable
        self.gold: list[list[int]] = []
        self.other: list[list[int]] = []
        self.open_mark = tokenize("[")

    def passage(self, passage: Passage) -> int:
        """Return the piece of a source block from after its number to its end."""
        key = ("passage", passage)
        if key in self.pieces.index:
            return self.pieces.index[key]
        segment = turn("q", [passage], 7)[1].text
        ids = self.tokenize(segment)
        assert ids[: len(self.open_mark) + 1] == self.open_mark + self.tokenize("7")
        return self.pieces.add(key, ids[len(self.open_mark) + 1 :])

    def fits(self, passage: Passage) -> bool:
        """Return whether the passage is short enough to be a source."""
        return len(self.pieces.arrays[self.passage(passage)]) <= MAX_PASSAGE

    def question(self, question: str) -> tuple[int, int]:
        """Return the pieces before and after the sources."""
        head, tail = turn(question, [])
        return (
            self.pieces.add(("head", question), self.tokenize(head.text)),
            self.pieces.add(("tail", question), self.tokenize(tail.text)),
        )

    def target(self, answer: Sequence[str | int]) -> int:
        """Return the piece of the answer, with `MARK + g` for the number of gold passage g."""
        ids: list[int] = []
        text = "" if answer else prompts.NOT_FOUND
        for part in answer:
            if isinstance(part, str):
                text += part
            else:
                ids += [*self.tokenize(text + " ["), MARK + part]
                text = "]"
        return self.pieces.add(("target", *answer), ids + self.tokenize(text))

    def row(self, example: Example) -> int:
        """Return the number of the row made of `example`."""
        before = self.row(example.before) if example.before else -1
        head, tail = self.question(example.question)
        if example.kind not in self.kinds:
            self.kinds.append(example.kind)
        kind = self.kinds.index(example.kind)
        target = self.target(example.answer)
        self.rows.append(
            [kind, head, tail, target, before, int(example.droppable), int(example.dev)]
        )
        self.gold.append([self.passage(p) for p in example.gold])
        self.other.append([self.passage(p) for p in example.other if self.fits(p)])
        return len(self.rows) - 1


def collect(data: Path, seed: int = 1) -> list[Example]:
    """Return all examples, with distractors, in no order."""
    real = adapter_sources.questions(data, seed)
    real += adapter_sources.medicine(data, 1800, seed + 1)
    made = adapter_sources.prose(data, 2500, seed + 2)
    made += adapter_sources.contracts(data, seed + 3)
    made += adapter_sources.meetings(data, seed + 4)
    made += adapter_tasks.generate(13_000, seed + 5, False)
    made += adapter_tasks.generate(900, seed + 6, True)
    for n, dev in ((9_000, False), (450, True)):
        made += adapter_logs.generate(n, seed + 7 + dev, dev, data / "logs")
        made += adapter_fields.generate(n, seed + 12 + dev, dev)
    real = mined(real)
    made += doubled(real, 1_300, seed + 9) + continued(real, 900, seed + 10)
    return real + made + injected(real + made, seed + 11)


def mined(examples: list[Example]) -> list[Example]:
    """Return `examples` with the passages of the others that look most like an answer.

    Training examples get no development passage. A passage that contains the answer is left out.
    """
    train = list(dict.fromkeys(e.gold[0] for e in examples if not e.dev))
    whole = train + list(dict.fromkeys(e.gold[0] for e in examples if e.dev))
    policies = {e.gold[0] for e in examples if e.kind == "policyqa"}
    index = Bm25([p.text for p in whole])
    n_train, found = len(train), []
    for example in examples:
        # Most questions about one firm's policy are answered by any other's.
        near: dict[str, Passage] = {}
        for i in index.top(example.question, 5 * N_SIMILAR):
            passage = whole[i]
            allowed = (example.dev or i < n_train) and passage.text[:60] != example.gold[0].text[
                :60
            ]
            allowed &= example.kind != "policyqa" or passage not in policies
            if allowed and passage.text[:60] not in near and not _answers(passage, example):
                near[passage.text[:60]] = passage
        found.append(replace(example, other=tuple(near.values())[:N_SIMILAR]))
    return found


def _answers(passage: Passage, example: Example) -> bool:
    if not example.answer:  # the same paragraph, cut differently
        return (
            passage.text[:200] in example.gold[0].text or example.gold[0].text[:200] in passage.text
        )
    words = example.words.strip()
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", passage.text, re.IGNORECASE) is not None


def _short(examples: list[Example]) -> list[Example]:
    return [
        e for e in examples if e.answer and not e.dev and len(e.words) < 60 and e.kind == "squad"
    ]


def doubled(examples: list[Example], n_rows: int, seed: int) -> list[Example]:
    """Return questions made of two real ones, answered from two sources."""
    rng, pool = random.Random(seed), _short(examples)
    made: list[Example] = []
    while len(made) < n_rows:
        a, b = rng.sample(pool, 2)
        if a.gold == b.gold:
            continue
        joined = rng.choice(("{a} {b}", "{a} And {b}", "{a} Also: {b}", "1. {a} 2. {b}"))
        question = joined.format(a=a.question, b=b.question)
        answer = (a.words, 0, f" and {b.words}", 1)
        other = tuple(p for pair in zip(a.other, b.other, strict=False) for p in pair)
        made.append(
            Example("two", question, answer, (a.gold[0], b.gold[0]), other, droppable=False)
        )
    return made


def continued(examples: list[Example], n_rows: int, seed: int) -> list[Example]:
    """Return real questions asked as the second turn of a conversation."""
    rng, pool = random.Random(seed), _short(examples)
    return [replace(b, kind="follow", before=replace(a, other=a.other[:2]))
            for a, b in (rng.sample(pool, 2) for _ in range(n_rows))]  # fmt: skip


def injected(examples: list[Example], seed: int) -> list[Example]:
    """Return copies of some examples with an instruction hidden in a source."""
    made = []
    for dev, n_rows in ((False, 1_800), (True, 160)):
        w = Words(random.Random(seed + dev), dev)
        pool = [
            e for e in examples if e.dev == dev and e.gold and e.kind != "meeting" and not e.before
        ]
        made += [adapter_tasks.inject(e, w) for e in w.rng.sample(pool, n_rows)]
    return made


SETS: tuple[tuple[str, tuple[str, ...], int, int, bool], ...] = (
    # set, kinds, sources (0: drawn 1-6), at most so many, gold present
    ("squad-alone", ("squad",), 1, 900, True),
    ("squad-4", ("squad",), 4, 900, True),
    ("squad-absent", ("squad",), 4, 900, False),
    ("squad-4-random", ("squad",), 4, 900, True),
    ("squad-random-absent", ("squad",), 4, 900, False),
    ("squad-adversarial", ("squad-twin",), 4, 500, True),
    ("web-4", ("qed", "nq"), 4, 300, True),
    ("policy-4", ("policyqa",), 4, 150, True),
    ("contract", ("contract",), 6, 250, True),
    ("contract-absent", ("contract",), 6, 250, False),
    ("contract-twin", ("contract-twin",), 6, 80, True),
    ("meeting", ("meeting",), 6, 110, True),
    ("meeting-absent", ("meeting",), 6, 110, False),
    ("medical", ("medical",), 4, 100, True),
    ("prose", ("prose",), 4, 150, True),
    ("log", ("log",), 0, 300, True),
    ("log-twin", ("log-twin",), 0, 90, True),
    ("field", ("field",), 0, 300, True),
    ("field-twin", ("field-twin",), 0, 90, True),
    ("table", ("table",), 0, 300, True),
    ("table-twin", ("table-twin",), 0, 120, True),
    ("manual", ("manual",), 0, 120, True),
    ("check", ("check",), 0, 60, True),
    ("two", ("two",), 4, 100, True),
    ("follow", ("follow",), 0, 80, True),
    ("inject", ("inject",), 4, 160, True),
)


def arrange(examples: list[Example], rows: list[int], gold: list[list[int]], other: list[list[int]],
            spare: dict[str, list[int]], seed: int) -> list[Arrangement]:  # fmt: skip
    """Return the development prompts: each set's questions, sources shuffled, and the positions."""
    rng = random.Random(seed)
    by_kind: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        if example.dev:
            by_kind[example.kind].append(i)

    def place(name: str, i: int, n: int, present: bool) -> Arrangement:
        example, row = examples[i], rows[i]
        count = n or rng.randint(1, 6)
        kept = list(gold[row]) if present else []
        near = [p for p in other[row] if p not in gold[row] and "random" not in name]
        fill = rng.sample(spare[example.kind], min(len(spare[example.kind]), 30))
        if example.kind not in FILLED:
            fill = []
        near += [p for p in fill if p not in near and p not in gold[row]]
        chosen = kept + near[: max(0, count - len(kept))]
        rng.shuffle(chosen)
        markers = [chosen.index(p) + 1 for p in gold[row]] if present else []
        references = list(example.references or ((example.words,) if example.answer else ()))
        at = markers[0] if markers and example.answer else 0
        refs = references if present else []
        return Arrangement(name, row, chosen, markers, refs, example.forbidden, at)

    made = []
    for name, kinds, n, limit, present in SETS:
        pool = [i for kind in kinds for i in by_kind[kind]]
        rng.shuffle(pool)
        made += [place(name, i, n, present) for i in pool[:limit]]
    squad = [i for i in by_kind["squad"] if len(other[rows[i]]) >= 11]
    for i in rng.sample(squad, min(60, len(squad))):
        made += _in_each_position(place("position", i, 12, True))
    return made


def _in_each_position(placed: Arrangement) -> list[Arrangement]:
    """Return the prompt with its source in each place, so that nothing else differs."""
    right = placed.sources[placed.markers[0] - 1]
    others = [source for source in placed.sources if source != right]
    return [
        replace(
            placed, sources=[*others[: n - 1], right, *others[n - 1 :]], markers=[n], position=n
        )
        for n in range(1, len(placed.sources) + 1)
    ]


def plain_pieces(file: Path, builder: Builder) -> list[list[int]]:
    r"""Return (prompt piece, target piece, dev) of the base's own answers; `\0`: it did not end."""
    made = []
    for i, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        system = (
            row["system"] or "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        )
        t = builder.tokenize
        ids = (
            t("<|im_start|>system\n", True) + t(system) + t("<|im_end|>\n<|im_start|>user\n", True)
        )
        ids += t(row["prompt"]) + t("<|im_end|>\n<|im_start|>assistant\n", True)
        ended = not row["answer"].endswith("\0")
        target = t(row["answer"].rstrip("\0")) + (t("<|im_end|>", True) if ended else [])
        made.append(
            [
                builder.pieces.add(("plain", i), ids),
                builder.pieces.add(("reply", i), target),
                int(i % 10 == 0),
            ]
        )
    return made


def _ragged(
    lists: Sequence[Sequence[int] | np.ndarray], dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    flat = np.concatenate([np.asarray(x, dtype) for x in lists]) if lists else np.zeros(0, dtype)
    return flat, ends.astype(np.uint32)


def frame(tokenize: Tokenizer) -> dict[str, list[int]]:
    """Return the fixed pieces of the conversation, as docqa's ChatML template has them."""
    return {
        "open": tokenize("<|im_start|>system\n", True) + tokenize(prompts.SYSTEM),
        "user": tokenize("<|im_end|>\n<|im_start|>user\n", True),
        "assistant": tokenize("<|im_end|>\n<|im_start|>assistant\n", True),
        "end": tokenize("<|im_end|>", True),
        "mark": tokenize("["),
        "refusal": tokenize(prompts.NOT_FOUND),
        "digits": [tokenize(str(d))[0] for d in range(10)],
    }


def build(
    examples: list[Example],
    tokenize: Tokenizer,
    plain: Path | None,
    out: Path,
    seed: int = 1,
    unasked: list[list[Passage]] | None = None,
) -> None:
    """Write the data set of `examples`; those whose right passage is too long are left out.

    `unasked` are passages without a question, those of one text together.
    """
    builder = Builder(tokenize)
    random.Random(seed).shuffle(examples)
    examples = [e for e in examples if all(builder.fits(p) for p in e.gold)]
    rows = [builder.row(e) for e in examples]
    spare: dict[str, list[int]] = defaultdict(list)
    for example, row in zip(examples, rows, strict=True):
        spare[example.kind].extend(builder.gold[row])
    sets = arrange(examples, rows, builder.gold, builder.other, spare, seed)
    chats = plain_pieces(plain, builder) if plain else []
    extra = [[builder.passage(p) for p in group if builder.fits(p)] for group in unasked or []]
    tokens, token_ends = _ragged(builder.pieces.arrays, np.uint16)
    gold, gold_ends = _ragged(builder.gold, np.uint32)
    other, other_ends = _ragged(builder.other, np.uint32)
    more, more_ends = _ragged(extra, np.uint32)
    words, word_ends = _ragged([list(v) for v in tokenize.words()], np.uint8)
    meta = {
        "prompt_version": prompts.PROMPT_VERSION,
        "kinds": builder.kinds,
        "frame": frame(tokenize),
        "sets": [asdict(a) for a in sets],
        "counts": dict(Counter(f"{e.kind}{' (dev)' if e.dev else ''}" for e in examples)),
    }
    arrays = {
        "tokens": tokens,
        "token_ends": token_ends,
        "rows": np.array(builder.rows, np.int32),
        "gold": gold,
        "gold_ends": gold_ends,
        "other": other,
        "other_ends": other_ends,
        "extra": more,
        "extra_ends": more_ends,
        "words": words,
        "word_ends": word_ends,
        "plain": np.array(chats, np.int32).reshape(-1, 3),
        "meta": np.frombuffer(json.dumps(meta).encode("utf-8"), np.uint8),
    }
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(lzma.compress(held.getvalue(), preset=6))
    print(json.dumps(meta["counts"], indent=1))
    print(f"{len(rows)} rows, {len(builder.pieces.arrays)} pieces, {len(tokens)} tokens,")
    print(f"{len(sets)} development prompts, {out.stat().st_size} bytes")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--plain", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    examples = collect(args.data, args.seed)
    unasked = articles(args.data, 9_000, 4_000, args.seed + 20)
    build(examples, Tokenizer(args.base), args.plain, args.out, args.seed, unasked)


if __name__ == "__main__":
    main()
