"""The reader: ONNX equals torch, spans are the passage's characters, other bases are refused."""

import json
import math
import shutil

import numpy as np
import pytest

from docqa.config import EmbedConfig, RetrieveConfig
from docqa.errors import ModelRefused
from docqa.protocols import Passage
from models.embedder import open_embedder, packaged_folder
from models.interim import InterimReranker
from models.reader import (
    ABOUT,
    MAX_SPAN_TOKENS,
    N_ANSWERS,
    WEIGHTS,
    Calibration,
    PassageReader,
    Reader,
    ReaderNet,
    best_span,
    best_spans,
)
from models.reader_pairs import MAX_TOKENS, layout, padded
from models.reranker import open_reranker

QUESTION = "How often is the shaft seal replaced?"
SEALS = Passage(
    "Pump manual > Seals", "Wear gloves. The shaft seal is replaced every 4,000 hours of work."
)
OIL = Passage("Pump manual > Oil", "The oil is changed twice a year. Use ISO VG 46.")
STAFF = Passage("", "Elena Kovač has the extension 4711.")


@pytest.fixture(scope="module")
def reading():
    return PassageReader(packaged_folder(), n_threads=1)


@pytest.fixture(scope="module")
def embedder():
    return open_embedder(EmbedConfig(device="cpu"))


def _torch_logits(ids, types, lengths):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from models.training.reader_model import encode, heads

    w = {name: value.float() for name, value in load_file(str(WEIGHTS)).items()}
    base = load_file(str(packaged_folder() / "model.safetensors"))
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in base else ""
    w["word"] = base[f"{prefix}embeddings.word_embeddings.weight"].float()
    with torch.inference_mode():
        given = (torch.from_numpy(a).long() for a in (ids, types, lengths))
        relevance, spans = heads(w, encode(w, *given))
    return relevance.numpy(), spans.numpy()


def test_the_graph_equals_the_network_that_was_trained():
    rng = np.random.default_rng(0)
    rows = []
    for n_question, n_context, n_text in ((6, 3, 40), (10, 0, 5), (64, 48, 200)):
        ids = [rng.integers(1000, 30000, n).tolist() for n in (n_question, n_context, n_text)]
        rows.append(layout(*ids))
    given = padded([ids for ids, _, _ in rows], [first for _, first, _ in rows])
    ours = ReaderNet(packaged_folder(), WEIGHTS, 1).forward(*given)
    theirs = _torch_logits(*given)
    assert np.abs(ours[0] - theirs[0]).max() < 2e-3
    for row, n in enumerate(given[2]):
        assert np.abs(ours[1][row, :n] - theirs[1][row, :n]).max() < 2e-3


def test_the_passage_that_answers_is_first_and_its_answer_is_marked(reading):
    found = reading.read(QUESTION, [OIL, SEALS, STAFF])
    assert max(range(3), key=lambda i: found[i].logit) == 1
    assert found[1].logit > found[0].logit + 2
    assert "4,000 hours" in SEALS.text[found[1].start : found[1].end]


def test_order_of_the_passages_does_not_matter(reading):
    forward = reading.read(QUESTION, [OIL, SEALS, STAFF])
    backward = reading.read(QUESTION, [STAFF, SEALS, OIL])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.logit == pytest.approx(other.logit, abs=1e-3)
        assert (one.start, one.end) == (other.start, other.end)


def test_a_span_counts_in_characters_of_the_text_not_in_bytes(reading):
    text = "Čšž — “naïve” 🙂🙂. Das Gerät wiegt 38 kg, sagt Łukasz."
    [found] = reading.read("How much does it weigh?", [Passage("", text)])
    assert "38" in text[found.start : found.end]


def test_the_answer_in_the_last_window_of_a_long_passage_is_found(reading):
    text = "Nothing of note happened on this page of the log. " * 120 + SEALS.text
    [found] = reading.read(QUESTION, [Passage("Pump manual", text)])
    assert "4,000 hours" in text[found.start : found.end]
    [without] = reading.read(QUESTION, [Passage("Pump manual", text[: -len(SEALS.text)])])
    assert found.logit > without.logit + 2


def test_odd_passages_are_read(reading):
    question = "what " * (MAX_TOKENS * 2)
    found = reading.read(question, [Passage("", ""), Passage("t " * 500, "x"), Passage("t", "\n")])
    assert len(found) == 3
    assert found[0].start is None
    assert (found[1].start, found[1].end) == (0, 1)
    assert reading.read(question, []) == []


def test_the_best_span_is_the_best_of_all_that_are_short_enough():
    rng = np.random.default_rng(1)
    for n in (1, 7, MAX_SPAN_TOKENS, 150):
        start, end = rng.normal(size=(2, n)).astype(np.float32)
        first, last, confidence = best_span(start, end)
        allowed = [(i, j) for i in range(n) for j in range(i, min(n, i + MAX_SPAN_TOKENS))]
        assert (first, last) == max(allowed, key=lambda s: start[s[0]] + end[s[1]])
        assert 0 < confidence <= 1
        found = best_spans(start, end, 5)
        scores = sorted((start[i] + end[j] for i, j in allowed), reverse=True)[:5]
        assert [score for *_, score in found] == pytest.approx(scores)
        assert {(i, j) for i, j, _ in found} <= set(allowed)


def test_each_sentence_has_the_chance_that_the_answer_stands_in_it(reading):
    text = SEALS.text
    cut = text.index("The shaft")
    spans = [[(0, cut), (cut, len(text))], [(0, len(OIL.text))], []]
    seals, oil, none = reading.look(QUESTION, [SEALS, OIL, Passage("", "")], spans)
    assert seals.sentences[1] > seals.sentences[0] + 2 and seals.sentences[1] <= 0.0
    assert len(oil.sentences) == 1 and none.sentences == []
    assert 0 <= oil.score < seals.score <= 1
    ahead = "Nothing of note happened on this page of the log. " * 120
    (far,) = reading.look(
        QUESTION, [Passage("", ahead + text)], [[(0, 49), (len(ahead) + cut, len(ahead + text))]]
    )
    assert far.sentences[1] > far.sentences[0] + 1.5  # in the last window
    assert [m.score for m in far.answers] == sorted((m.score for m in far.answers), reverse=True)
    assert far.answers[0].start >= len(ahead)
    (best,) = reading.read(QUESTION, [SEALS])
    assert (best.start, best.end) == (seals.answers[0].start, seals.answers[0].end)
    assert best.confidence == pytest.approx(math.exp(seals.answers[0].score), rel=1e-3)
    assert none.answers == [] and len(seals.answers) == N_ANSWERS


def test_the_calibration_keeps_the_order_and_survives_extremes():
    calibration = Calibration.of(json.loads(ABOUT.read_text()))
    found = [calibration.probability(z) for z in (-1e6, -8.0, -2.0, 0.0, 3.0, 9.0, 1e6)]
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert all(0 <= p <= 1 for p in found)


def test_the_reader_is_a_reranker_with_probabilities(embedder):
    reader = Reader.open(packaged_folder(), InterimReranker(embedder))
    found = reader.score(QUESTION, [OIL, SEALS, STAFF])
    assert reader.is_calibrated
    assert max(range(3), key=lambda i: found[i].score) == 1
    assert found[2].score < reader.threshold < found[1].score
    marked = SEALS.text[found[1].marks[0].start : found[1].marks[0].end]
    assert "4,000 hours" in marked
    assert reader.score(QUESTION, []) == []


def test_weights_for_another_base_are_refused_and_the_interim_scorer_says_why(
    embedder, tmp_path, monkeypatch
):
    about = json.loads(ABOUT.read_text()) | {"base": "other:0123456789abcdef"}
    shutil.copy(WEIGHTS, tmp_path)
    (tmp_path / ABOUT.name).write_text(json.dumps(about))
    with pytest.raises(ModelRefused, match="another base"):
        Reader.open(packaged_folder(), InterimReranker(embedder), tmp_path / WEIGHTS.name)
    monkeypatch.setattr("models.reader.WEIGHTS", tmp_path / WEIGHTS.name)
    held = open_reranker(RetrieveConfig(reranker="reader"), embedder)
    assert isinstance(held, InterimReranker)
    assert "another base" in held.name


def test_torn_weights_are_refused(embedder, tmp_path):
    (tmp_path / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes()[:5000])
    shutil.copy(ABOUT, tmp_path)
    with pytest.raises(ModelRefused, match="does not load"):
        Reader.open(packaged_folder(), InterimReranker(embedder), tmp_path / WEIGHTS.name)


def test_weights_that_are_not_there_leave_the_interim_scorer(embedder, tmp_path, monkeypatch):
    monkeypatch.setattr("models.reader.WEIGHTS", tmp_path / WEIGHTS.name)
    held = open_reranker(RetrieveConfig(reranker="reader"), embedder)
    assert isinstance(held, InterimReranker)
    assert "no reader" in held.name
