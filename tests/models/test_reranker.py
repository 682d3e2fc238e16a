"""The interim scorer ranks by words and meaning; folders that hold no cross-encoder are refused."""

import math

import numpy as np
import pytest

from docqa.config import EmbedConfig, RetrieveConfig
from docqa.errors import ModelNotFound, ModelRefused
from docqa.protocols import Passage
from docqa.types import Mark
from docqa.wording import content_words
from models.interim import READ_SHARE, InterimReranker
from models.reader import Look
from models.reranker import open_reranker

SEALS = Passage("Pump manual > Seals", "Wear gloves. The shaft seal is replaced every 4,000 hours.")
OIL = Passage("Pump manual > Oil", "The oil is changed twice a year. Use ISO VG 46.")
STAFF = Passage("Phone list", "Elena Kovac has the extension 4711.")


class WordEmbedder:
    """Vectors of word counts: texts that share words are near."""

    name = "words"
    dim = 64
    max_tokens = 256

    def count_tokens(self, texts):
        return [len(t.split()) for t in texts]

    def embed_documents(self, texts, is_cancelled=None):
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in content_words(text):
                row[sum(term.encode()) % self.dim] += 1.0
            row /= max(1e-6, float(np.linalg.norm(row)))
        return rows

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.fixture
def interim():
    return InterimReranker(WordEmbedder())


def test_the_passage_that_answers_is_first_and_its_sentence_is_marked(interim):
    found = interim.score("How often is the shaft seal replaced?", [OIL, SEALS, STAFF])
    assert max(range(3), key=lambda i: found[i].score) == 1
    assert SEALS.text[found[1].marks[0].start : found[1].marks[0].end] == (
        "The shaft seal is replaced every 4,000 hours."
    )


def test_words_of_the_context_count(interim):
    text = "It is checked every week."
    found = interim.score("seal check", [Passage("Seals", text), Passage("Oil", text)])
    assert found[0].score > found[1].score


def test_empty_input(interim):
    assert interim.score("anything", []) == []
    (blank,) = interim.score("", [Passage("", " \n ")])
    assert not blank.marks and 0.0 <= blank.score <= 1.0


def test_the_reader_moves_the_mark_to_the_sentence_that_says_it(interim):
    answer = Mark(50, 54, -0.5)

    class Reads:
        name = "reads"

        def look(self, question, passages, spans):
            return [
                Look(0.25, [0.0 if "lasts" in p.text[a:b] else -20.0 for a, b in read], [answer])
                for p, read in zip(passages, spans, strict=True)
            ]

    text = "The shaft seal of the pump was made in Graz. It lasts for long under clean water."
    passage = Passage("", text)
    question = "what about the shaft seal of the pump, clean water?"
    (alone,) = interim.score(question, [passage])
    (both,) = InterimReranker(WordEmbedder(), Reads).score(question, [passage])
    assert (alone.read_score, both.read_score) == (None, 0.25)
    assert (alone.answers, both.answers) == ((), (answer,))
    assert text[alone.marks[0].start :].startswith("The shaft seal")
    assert text[both.marks[0].start :].startswith("It lasts")
    assert len(both.marks) == 2 and both.marks[0].score > both.marks[1].score


def log_odds(p):
    return math.log(p / (1 - p))


class Prefers:
    """A reader that is sure of passages with one word."""

    def __init__(self, word, sure=0.99, unsure=0.001):
        self.name, self.word, self.chances = "prefers", word, (unsure, sure)

    def look(self, question, passages, spans):
        return [
            Look(self.chances[self.word in p.text], [0.0 for _ in read], [])
            for p, read in zip(passages, spans, strict=True)
        ]


def test_the_readers_log_odds_and_the_formulas_are_averaged():
    question = "Which oil does the pump need?"
    passages = [
        Passage("", "The oil of the pump, which oil pump: see below."),
        Passage("", "The pump is filled with mineral oil."),
    ]
    alone = InterimReranker(WordEmbedder()).score(question, passages)
    reader = Prefers("mineral")
    both = InterimReranker(WordEmbedder(), lambda: reader).score(question, passages)
    assert alone[0].score > alone[1].score
    assert both[0].score < both[1].score
    for before, after, chance in zip(alone, both, (0.001, 0.99), strict=True):
        mean = (1 - READ_SHARE) * log_odds(before.score) + READ_SHARE * log_odds(chance)
        assert log_odds(after.score) == pytest.approx(mean, abs=1e-6)
        assert after.read_score == chance


def test_what_shares_no_word_and_no_meaning_is_no_evidence_however_sure_the_reader_is():
    reranker = InterimReranker(WordEmbedder(), lambda: Prefers("Oak"))
    (found,) = reranker.score("Which oil does the pump need?", [Passage("", "Oak grows slowly.")])
    assert found.score < reranker.threshold
    assert found.read_score == 0.99


def test_the_field_that_is_asked_for_is_marked():
    text = (
        "The owner of the airplane said that the engine lost power in the flight.\n"
        "Registered Owner: Acme | Rated Power: 160 hp"
    )
    question = "What is the rated power of the airplane whose engine lost power?"
    (found,) = InterimReranker(WordEmbedder()).score(question, [Passage("", text)])
    scores = {text[m.start : m.end][:10]: m.score for m in found.marks}
    (plain,) = InterimReranker(WordEmbedder()).score(
        question, [Passage("", text.replace(": ", " "))]
    )
    without = {text[m.start : m.end][:10]: m.score for m in plain.marks}
    assert scores["Registered"] > without["Registered"] + 0.3
    assert scores["The owner "] == pytest.approx(without["The owner "], abs=0.2)


def test_without_a_reader_the_formula_decides_by_its_own_threshold():
    def missing():
        raise ModelNotFound("no reader")

    alone, without = InterimReranker(WordEmbedder()), InterimReranker(WordEmbedder(), missing)
    passages = [Passage("", "The pump is filled with mineral oil.")]
    assert alone.score("Which oil?", passages) == without.score("Which oil?", passages)
    assert alone.threshold == without.threshold == InterimReranker.THRESHOLD
    assert "no reader" in without.name


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="no such folder"):
        open_reranker(RetrieveConfig(reranker=str(tmp_path / "none")), WordEmbedder())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="not a cross-encoder"):
        open_reranker(RetrieveConfig(reranker=str(tmp_path)), WordEmbedder())


def test_a_cross_encoder_folder_scores_with_its_context(tmp_path):
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)  # some draws score all alike
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "seal", "oil", "pump"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    reranker = open_reranker(RetrieveConfig(reranker=str(tmp_path)), WordEmbedder())
    assert not reranker.is_calibrated and reranker.threshold == -math.inf
    bare, told = reranker.score("seal", [Passage("", "oil"), Passage("pump", "oil")])
    assert bare.score != told.score and not bare.marks
    assert reranker.score("seal", []) == []


def test_auto_works_with_the_packaged_embedder_and_marks_with_the_reader():
    from models.embedder import open_embedder

    reranker = open_reranker(RetrieveConfig(), open_embedder(EmbedConfig(device="cpu")))
    found = reranker.score("How often is the shaft seal replaced?", [OIL, SEALS, STAFF])
    assert max(range(3), key=lambda i: found[i].score) == 1
    assert all(0.0 <= verdict.score <= 1.0 for verdict in found)
    assert "reader:" in reranker.name
