"""The interim scorer ranks by words and meaning; folders that hold no cross-encoder are refused."""

import math

import numpy as np
import pytest

from docqa.config import EmbedConfig, RetrieveConfig
from docqa.errors import ModelNotFound, ModelRefused
from docqa.protocols import Passage
from docqa.types import Mark
from docqa.wording import content_words
from models.interim import InterimReranker
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
    assert both.score == alone.score
    assert (alone.read_score, both.read_score) == (None, 0.25)
    assert (alone.answers, both.answers) == ((), (answer,))
    assert text[alone.marks[0].start :].startswith("The shaft seal")
    assert text[both.marks[0].start :].startswith("It lasts")
    (ranked,) = InterimReranker(WordEmbedder(), Reads).score(question, [passage], is_marked=False)
    assert ranked.score == both.score and ranked.read_score is None
    assert not ranked.answers
    opened = []
    InterimReranker(WordEmbedder(), lambda: opened.append(1)).score(
        question, [passage], is_marked=False
    )
    assert not opened
    assert len(both.marks) == 2 and both.marks[0].score > both.marks[1].score


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="no such folder"):
        open_reranker(RetrieveConfig(reranker=str(tmp_path / "none")), WordEmbedder())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="not a cross-encoder"):
        open_reranker(RetrieveConfig(reranker=str(tmp_path)), WordEmbedder())


def test_a_cross_encoder_folder_scores_with_its_context(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

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
