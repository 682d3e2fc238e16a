"""The torch side on a tiny random model, and the data file that feeds it."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from docqa import prompts
from models.training import adapter_data, adapter_logs, adapter_tasks, adapter_train
from models.training.adapter_answers import evaluate
from models.training.adapter_attention import agrees, one_by_one, padded
from models.training.adapter_batches import MAX_TOKENS, Dataset, Sampler, batches, pack
from models.training.adapter_full import FullUpdate
from models.training.adapter_llama import PROJECTIONS, Adapter, Base, Llama, Shape
from models.training.adapter_parts import load_parts
from models.training.adapter_records import turn

SHAPE = Shape(n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, rope_base=10_000.0, norm_eps=1e-5)
RANKS = dict.fromkeys(PROJECTIONS, 4)


class ByteTokenizer:
    """Bytes are ids; the two control texts of ChatML are one id each."""

    def __call__(self, text, special=False):
        if special:
            for code, control in enumerate(("<|im_start|>", "<|im_end|>"), 256):
                if control in text:
                    left, right = text.split(control, 1)
                    return [*self(left, True), code, *self(right, True)]
        return list(text.encode("utf-8"))

    def words(self):
        return [bytes([i]) for i in range(256)] + [b"<|im_start|>", b"<|im_end|>"]


@pytest.fixture(scope="module")
def examples():
    made = adapter_tasks.generate(260, 1, False) + adapter_tasks.generate(120, 2, True)
    return made + adapter_logs.generate(80, 3, False) + adapter_logs.generate(50, 4, True)


@pytest.fixture(scope="module")
def data(tmp_path_factory, examples):
    folder = tmp_path_factory.mktemp("adapter")
    plain = folder / "plain.jsonl"
    rows = [
        {"system": "", "prompt": f"Say {i}", "answer": f"{i}" + "\0" * (i == 3)} for i in range(12)
    ]
    plain.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    out = folder / "data.npz.xz"
    kept = adapter_data.MAX_PASSAGE
    adapter_data.MAX_PASSAGE = 900  # bytes instead of tokens
    adapter_data.build(list(examples), ByteTokenizer(), plain, out)
    adapter_data.MAX_PASSAGE = kept
    return Dataset(out)


def base(seed=0, n_vocab=258, ffn=48):
    chance = torch.Generator().manual_seed(seed)
    dim = SHAPE.n_heads * SHAPE.head_dim

    def draw(*size):
        return torch.randn(*size, generator=chance) * 0.3

    out = {"attn_q": dim, "attn_k": 16, "attn_v": 16, "attn_output": dim, "ffn_gate": ffn,
           "ffn_up": ffn, "ffn_down": dim}  # fmt: skip
    weights = {p: draw(2, out[p], ffn if p == "ffn_down" else dim) for p in PROJECTIONS}
    norms = [1 + draw(2, dim), 1 + draw(2, dim), 1 + draw(dim)]
    return Base(SHAPE, draw(n_vocab, dim), weights, *norms)


def test_prompts_are_docqas_own(data, examples):
    tokenize = ByteTokenizer()
    texts = {tuple(data.piece(data.rows[i, 1])): i for i in range(len(data.rows))}
    checked = 0
    for example in examples[:200]:
        head = tuple(tokenize(turn(example.question, [])[0].text))
        row = texts.get(head)
        if row is None or len(data.gold(row)) != len(example.gold) or example.before:
            continue
        passages = [*example.gold, *example.other]
        sources = [*data.gold(row), *data.other(row)]
        if len(sources) != len(passages):
            continue
        segments = prompts.messages(example.question, [], ())[0][1]
        expected = tokenize("<|im_start|>system\n", True) + tokenize(segments[0].text)
        expected += tokenize("<|im_end|>\n<|im_start|>user\n", True)
        for segment in turn(example.question, passages, 9):
            expected += tokenize(segment.text)
        expected += tokenize("<|im_end|>\n<|im_start|>assistant\n", True)
        same = data.prompt(row, sources, 9).tolist() == expected
        checked += same
    assert checked > 100


def test_targets_name_the_right_source(data):
    sampler, seen = Sampler(data, 5), 0
    for sample in (s for _, s in zip(range(400), sampler.samples(), strict=False)):
        text, said = data.text(sample.prompt), data.text(sample.target)
        if sample.kind == "plain":
            continue
        assert said.endswith("<|im_end|>")
        said = said.removesuffix("<|im_end|>")
        asked = text.rsplit("Question: ", 1)[1].split("<|im_end|>")[0]
        assert f"Question: {asked}\n\nSources:\n" in text
        if said == prompts.NOT_FOUND or sample.kind == "log":
            continue
        words, marker = said.rsplit(" [", 1)
        source = text.split(f"\n[{marker.rstrip(']')}] ")[-1].split('\n"""\n\n')[0]
        assert words.split(" and ")[-1].lower() in source.lower()
        seen += 1
    assert seen > 150


def test_the_development_rows_are_never_drawn(data):
    sampler = Sampler(data, 1)
    assert sampler.train
    assert all(data.rows[i, 6] == 0 for i in sampler.train)
    assert {p["row"] for p in data.meta["sets"]}.isdisjoint(sampler.train)


def test_drawn_tables_are_not_filled_up_with_other_tables(data):
    sampler = Sampler(data, 3)
    rows = [i for i in sampler.train if data.kind(i) == "table"]
    for row in rows[:60]:
        own = data.gold(row) + data.other(row)
        for _ in range(3):
            chosen = sampler._filled(row, data.gold(row), data.other(row), 12, 100_000)
            assert set(chosen) <= set(own) and chosen[0] == data.gold(row)[0]
            assert len(set(chosen)) == len(chosen)


def test_arranged_prompts_hold_their_markers(data):
    for placed in data.meta["sets"]:
        prompt, target = data.arranged(placed)
        for marker in placed["markers"] if placed["references"] else []:
            assert marker <= len(placed["sources"])
        if placed["references"]:
            assert data.text(target).split(" [")[0] in data.text(prompt) or placed["name"] == "log"
        else:
            assert data.text(target) == prompts.NOT_FOUND
    names = {p["name"] for p in data.meta["sets"]}
    assert {"table", "log", "two", "follow", "table-twin", "log-twin"} <= names


def test_a_source_stands_in_each_place_among_the_same_others():
    placed = adapter_data.Arrangement("position", 0, [7, 3, 9, 5], [3], ["words"], position=3)
    made = adapter_data._in_each_position(placed)
    assert [one.sources.index(9) + 1 for one in made] == [1, 2, 3, 4]
    assert [one.markers for one in made] == [[1], [2], [3], [4]]
    assert [one.position for one in made] == [1, 2, 3, 4]
    assert all([s for s in one.sources if s != 9] == [7, 3, 5] for one in made)


def test_batches_are_full_and_point_at_targets(data):
    source = batches(Sampler(data, 2).samples(), 16_384)
    for _ in range(3):
        batch = next(source)
        assert len(batch.tokens) == 16_384 == batch.ends[-1]
        assert batch.longest == np.diff(batch.ends).max() <= MAX_TOKENS * 8
        assert np.isclose(batch.weight.sum(), 1, atol=1e-5)
        assert (batch.tokens[batch.at + 1] == batch.wanted).all()
        for a, b in pairwise(batch.ends):
            assert (batch.places[a:b] == np.arange(b - a)).all()


def test_padded_attention_is_one_by_one():
    assert agrees(padded, SHAPE, "cpu", torch.float32)


def test_attention_that_looks_ahead_is_refused():
    def wrong(q, k, v, ends, longest):
        return one_by_one(q, k, v, torch.tensor([0, len(q)]), longest)

    assert not agrees(wrong, SHAPE, "cpu", torch.float32)


def test_packing_does_not_mix_sequences():
    model = Llama(base(), one_by_one, torch.float32)
    merged = FullUpdate(base()).merge(base(), torch.float32)
    tokens = torch.randint(0, 258, (30,), generator=torch.Generator().manual_seed(1))
    places = torch.cat([torch.arange(12), torch.arange(18)])
    both = model.hidden(merged, tokens, places, torch.tensor([0, 12, 30], dtype=torch.int32), 18)
    alone = model.hidden(merged, tokens[12:], torch.arange(18), torch.tensor([0, 18]), 18)
    torch.testing.assert_close(both[12:], alone, atol=1e-5, rtol=1e-4)


def test_generation_with_a_cache_is_the_forward_pass():
    model = Llama(base(), one_by_one, torch.float32)
    merged = FullUpdate(base()).merge(base(), torch.float32)
    given = [np.arange(5, 17, dtype=np.uint16), np.arange(40, 44, dtype=np.uint16)]
    said, chances = model.generate(merged, given, end=257, n_new=6)
    for prompt, ids, chance in zip(given, said, chances, strict=True):
        tokens = torch.from_numpy(prompt.astype(np.int64))
        for i, token in enumerate(ids):
            n = len(tokens)
            hidden = model.hidden(merged, tokens, torch.arange(n), torch.tensor([0, n]), n)
            scores = model.logits(hidden[-1:])
            assert int(scores.argmax()) == token
            if i == 0:
                torch.testing.assert_close(scores.softmax(-1)[0], chance)
            tokens = torch.cat([tokens, torch.tensor([token])])
    banned, _ = model.generate(merged, given, end=257, n_new=1, first_banned=said[0][0])
    assert banned[0][0] != said[0][0]


def test_the_adapter_starts_at_the_base_and_merges_exactly():
    frozen = base()
    adapter = Adapter(frozen, RANKS)
    start = adapter.merge(frozen, torch.float32)
    torch.testing.assert_close(start.output, frozen.weights["attn_output"])
    with torch.no_grad():
        adapter.b["ffn_up"].normal_()
    merged = adapter.merge(frozen, torch.float32)
    layer = frozen.weights["ffn_up"][1] + adapter.b["ffn_up"][1] @ adapter.a["ffn_up"][1]
    torch.testing.assert_close(merged.gate_up[1, 48:], layer)
    torch.testing.assert_close(merged.gate_up[1, :48], frozen.weights["ffn_gate"][1])


def plan(**more):
    return adapter_train.Plan(60.0, 1.0, 4608, 1e-2, 4, 2, 9.0, 18, 2, 1, False, **more)


def short_batch(trainer):
    drawn = [trainer.sampler.draw(i) for i in trainer.sampler.train[:60]]
    samples = sorted(drawn, key=lambda s: len(s.prompt))[:3]
    return pack(samples, sum(len(s.prompt) + len(s.target) for s in samples) + 7)


@pytest.mark.parametrize("full", [False, True])
def test_training_learns_saves_and_reports(data, tmp_path, full):
    chosen = plan(full=full, eval_limit=6, decay=0.1 * full)
    trainer = adapter_train.Trainer(data, base(), chosen, tmp_path, "cpu")
    batch = short_batch(trainer)
    first = float(trainer.step(batch)[0])
    for _ in range(14):
        last = float(trainer.step(batch)[0])
    assert last < 0.8 * first
    trainer.train()
    report = evaluate(trainer)
    assert report["n"] >= 6
    assert (tmp_path / "metrics.json").exists() and (tmp_path / "answers.jsonl.xz").exists()
    events = [json.loads(x) for x in (tmp_path / "train.log").read_text().splitlines()]
    assert events[-1]["event"] == "trained" and events[-1]["steps"] == 18
    assert bool(list(tmp_path.glob("adapter-*.safetensors"))) is not full
    assert bool(list(tmp_path.glob("full-*.safetensors"))) is full


def test_training_begins_with_an_exported_adapter(data, tmp_path, monkeypatch):
    first = adapter_train.Trainer(data, base(), plan(full=False, eval_limit=6), tmp_path, "cpu")
    with torch.no_grad():
        for weight in first.module.b.values():
            weight.normal_(std=0.1)
    first.save()
    monkeypatch.setattr(adapter_train, "exported", load_parts)
    no_time = replace(plan(full=False, eval_limit=6), minutes=1.0)
    again = adapter_train.Trainer(data, base(), no_time, tmp_path, "cpu", tmp_path)
    for name, weight in first.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], weight, atol=2e-3, rtol=2e-3)
    again.train()
    assert again.n_steps == 0


def test_a_full_update_is_narrowed_to_an_adapter_and_answers_again(data, tmp_path):
    chosen = plan(full=True, eval_limit=6, decay=0.1)
    trainer = adapter_train.Trainer(data, base(), chosen, tmp_path, "cpu")
    batch = short_batch(trainer)
    with torch.no_grad():
        untrained = float(trainer.loss(trainer.module.merge(trainer.base, torch.float32), batch))
    for _ in range(12):
        trainer.step(batch)
    trainer.save()
    updates = load_parts(tmp_path, "full")
    trained = trainer.module.updates(trainer.base)
    for name in PROJECTIONS:
        held = torch.from_numpy(updates[name]).float()
        torch.testing.assert_close(held, trained[name], atol=1e-4, rtol=2e-3)
    kept = trainer.narrow()
    assert isinstance(trainer.module, Adapter)
    assert all(0.2 < share < 1 for share in kept.values())
    with torch.no_grad():
        near = float(trainer.loss(trainer.module.merge(trainer.base, torch.float32), batch))
    assert near < 0.9 * untrained
    adapter = load_parts(tmp_path)
    assert adapter["attn_k.a"].shape == (2, 2, 32) and adapter["ffn_up.b"].shape == (2, 48, 4)
    report = evaluate(trainer, "-low-rank", kept=kept)
    assert json.loads((tmp_path / "metrics-low-rank.json").read_text())["kept"] == kept
    assert report["n"] >= 6 and (tmp_path / "answers-low-rank.jsonl.xz").exists()
