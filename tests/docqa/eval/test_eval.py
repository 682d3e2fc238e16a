import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from docqa.config import Config
from docqa.errors import ConfigError, UsageError
from docqa.eval import plot, report, variants
from docqa.eval.answers import AnswerFigures, judge, run_answers
from docqa.eval.questions import Question, find_documents, load_questions
from docqa.eval.retrieval import Ranked, RetrievalFigures, run_retrieval
from docqa.events import Answered, Retrieved
from docqa.retrieve import retrieve
from docqa.types import (
    Answer,
    AnswerKind,
    BlockKind,
    Candidate,
    Chunk,
    Citation,
    Document,
    Evidence,
    Hit,
    Kind,
    Locator,
    Scope,
    Span,
    State,
    Usage,
)


def question(**changes: object) -> Question:
    asked = Question(
        id="q1",
        question="Which torque?",
        file="pump.pdf",
        unit="page",
        places=frozenset({7}),
        answers=("17 Nm",),
        is_unanswerable=False,
        kind="table",
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


ABSENT = question(
    id="q2", question="Which price?", places=frozenset(), answers=(), is_unanswerable=True
)


def chunk(first: int, last: int, text: str = "gland nuts 17 Nm") -> Chunk:
    span = Span(1, 0, len(text), Locator("page", first, last))
    return Chunk(1, span, 0, text, text, BlockKind.TABLE)


def candidate(first: int, last: int, path: str = "/docs/pump.pdf", **changes: object) -> Candidate:
    text = str(changes.pop("text", "gland nuts 17 Nm"))
    found = Candidate(chunk(first, last, text), path, "Pump")
    return replace(found, **changes)  # type: ignore[arg-type]


def evidence(first: int, last: int) -> Evidence:
    return Evidence(1, chunk(first, last), "/docs/pump.pdf", "Pump", 0.9, 20)


def citation(page: int, path: str = "/docs/pump.pdf", last: int | None = None) -> Citation:
    return Citation(1, path, page, None, "17 Nm", 0, 5, page_last=last)


def answer(text: str = "17 Nm [1]", **changes: object) -> Answer:
    made = Answer(
        question="Which torque?",
        query="Which torque?",
        found=True,
        kind=AnswerKind.MODEL,
        text=text,
        citations=(citation(7),),
        evidence=(evidence(6, 7),),
        usage=Usage(retrieve_s=0.25),
        engine=None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


REFUSED = answer("Not found in the sources.", found=False, kind=AnswerKind.NOT_FOUND, citations=())


class ScriptedWorkspace:
    """Answers and searches by the question's text."""

    def __init__(self, answers: dict[str, Answer], candidates: list[Candidate]) -> None:
        self.answers = answers
        self.candidates = candidates

    def ask(self, asked: str) -> Iterator[Retrieved | Answered]:
        yield Retrieved(asked, tuple(self.candidates), 0.0, 0.0)
        yield Answered(self.answers[asked])

    def search(self, query: str, k: int) -> list[Candidate]:
        return self.candidates[:k]


def test_a_right_answer() -> None:
    verdict = judge(question(), answer(), [candidate(6, 7)], 1.0)
    assert (verdict.has_evidence, verdict.has_value, verdict.is_cited) == (True, True, True)
    assert verdict.is_right
    assert verdict.stage == ""


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("14 records. Scanned.\nLine 7: 15 attempts [1]", True),
        ("15 records. Scanned.\nLine 7: 14 attempts [1]", False),
        ("15 records\n14", False),
        ("", False),
    ],
)
def test_of_a_count_the_first_sentence_is_judged(text: str, is_right: bool) -> None:
    counted = question(kind="log-count", answers=("14",))
    assert judge(counted, answer(text, kind=AnswerKind.SCAN), [], 1.0).has_value is is_right


def test_a_refusal_is_right_only_where_nothing_answers() -> None:
    assert judge(ABSENT, REFUSED, [], 1.0).is_right
    assert judge(ABSENT, answer(), [candidate(6, 7)], 1.0).stage == "answered (model)"
    lost = judge(question(), REFUSED, [candidate(6, 7)], 1.0)
    assert not lost.is_right
    assert lost.stage == "answer: refused"
    assert not lost.has_value  # the refusal's text is never the value


@pytest.mark.parametrize(
    ("given", "candidates", "stage"),
    [
        (answer(evidence=(), citations=()), [candidate(3, 4)], "parse, chunk or retrieve"),
        (
            answer(evidence=(), citations=()),
            [candidate(7, 7, path="/docs/other.pdf")],
            "parse, chunk or retrieve",
        ),
        (
            answer(evidence=(), citations=()),
            [candidate(7, 7, dropped="below the threshold")],
            "rerank (below the threshold)",
        ),
        (answer(evidence=(), citations=()), [candidate(7, 7)], "pack"),
        (
            answer("16 Nm [1]"),
            [candidate(7, 7, text="gland nuts")],
            "parse or chunk: the value is in no passage of its place",
        ),
        (answer("16 Nm [1]"), [candidate(7, 7)], "answer: wrong value"),
        (answer(citations=(citation(9),)), [candidate(7, 7)], "answer: wrong citation"),
        (answer("3", kind=AnswerKind.SCAN), [], "scan"),
    ],
)
def test_the_stage_that_lost_a_question(
    given: Answer, candidates: list[Candidate], stage: str
) -> None:
    assert judge(question(), given, candidates, 1.0).stage == stage


def test_a_citation_across_a_page_break_covers_both_pages() -> None:
    across = answer(citations=(citation(6, last=7),))
    assert judge(question(), across, [candidate(6, 7)], 1.0).is_cited
    elsewhere = answer(citations=(citation(7, path="/docs/other.pdf"),))
    assert not judge(question(), elsewhere, [candidate(6, 7)], 1.0).is_cited


def test_lines_and_pages_are_not_mixed_up() -> None:
    of_log = question(unit="line", file="pump.pdf")
    assert not judge(of_log, answer(), [candidate(7, 7)], 1.0).is_cited
    on_line = Citation(1, "/docs/pump.pdf", None, 5, "x", 0, 1, line_last=8)
    assert judge(of_log, answer(citations=(on_line,)), [], 1.0).is_cited


def test_the_figures_of_a_run_by_hand() -> None:
    asked = [question(), question(id="q3", question="Which mass?", answers=("118 kg",)), ABSENT]
    workspace = ScriptedWorkspace(
        {
            "Which torque?": answer("17 Nm [1]", citations=(citation(7), citation(9))),
            "Which mass?": REFUSED,
            "Which price?": REFUSED,
        },
        [candidate(6, 7)],
    )
    seen: list[int] = []
    run = run_answers(workspace, asked, on_progress=lambda n, _: seen.append(n))  # type: ignore[arg-type]
    means = {name: mean.value for name, mean in run.means().items()}
    assert seen == [1, 2, 3]
    assert means == {
        "evidence": 1.0,  # the refusal shows the right passage as the nearest one
        "right": 0.5,
        "contains": 0.5,
        "em": 0.5,
        "f1": 0.5,
        "citation_precision": 0.5,  # one of the two citations
        "citation_recall": 0.5,
        "wrongly_refused": 0.5,
        "rightly_refused": 1.0,
    }
    assert run.latencies()["retrieve_s"] == 0.25
    rows = run.figures().rows
    assert [row["is_right"] for row in rows] == [True, False, True]
    assert rows[0]["cited"] == ["/docs/pump.pdf:7", "/docs/pump.pdf:9"]


def test_no_unanswerable_question_gives_an_empty_mean() -> None:
    run = AnswerFigures([judge(question(), answer(), [], 1.0)])
    assert run.means()["rightly_refused"].n == 0


def test_retrieval_by_hand() -> None:
    other = candidate(1, 1)
    workspace = ScriptedWorkspace({}, [other, other, candidate(7, 8), other])
    run = run_retrieval(workspace, [question(), ABSENT])  # type: ignore[arg-type]
    means = {name: mean.value for name, mean in run.means().items()}
    assert means == {
        "recall@1": 0.0,
        "recall@3": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "recall@50": 1.0,
        "mrr": pytest.approx(1 / 3),
    }
    assert run.ranked[0].rank == 3
    assert len(run.ranked) == 1  # an unanswerable question has no right place


def test_a_miss_is_listed() -> None:
    run = RetrievalFigures([Ranked(question(), (False,) * 50, 0.1)])
    assert run.ranked[0].rank is None
    assert "> 50" in report.figures_text(run.figures())


def test_reports_in_text_json_and_svg(tmp_path: Path) -> None:
    run = AnswerFigures([judge(question(), answer("nothing"), [candidate(7, 7)], 1.0)]).figures()
    runs = {"base <1>": run, "adapter": run}
    assert "answer: wrong value" in report.figures_text(run)
    assert "base <1>" in report.comparison_text(runs)
    drawn = plot.plot(runs)
    assert drawn.count("<rect") == 1 + 2 * 8 + 2  # ground, bars (one mean is empty), legend
    assert "base &lt;1&gt;" in drawn
    paths = report.write(tmp_path / "new", runs, drawn)
    assert [p.name for p in paths] == ["answers.json", "answers.svg"]
    read = json.loads(paths[0].read_text(encoding="utf-8"))
    assert read["schema"] == "docqa.eval/1"
    assert [r["variant"] for r in read["runs"]] == ["base <1>", "adapter"]
    assert read["runs"][0]["means"]["evidence"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert read["runs"][0]["questions"][0]["lost_at"] == "answer: wrong value"


def test_variants_change_what_they_name_and_nothing_else() -> None:
    base = Config()
    changed = variants.applied(base, variants.RETRIEVAL[0])
    assert changed.retrieve.n_dense == 0
    assert changed.retrieve.reranker == "none"
    assert changed.retrieve.n_lexical == base.retrieve.n_lexical
    assert changed.model == base.model
    assert changed.sources["retrieve.n_dense"] == "variant 'lexical only'"
    assert variants.applied(base, variants.Variant("same", {})) == base


def test_every_shipped_variant_is_made_of_known_settings() -> None:
    for variant in (*variants.ANSWERS, *variants.RETRIEVAL):
        variants.applied(Config(), variant)


def test_a_variant_from_the_command_line() -> None:
    made = variants.parse_variant("small k:answer.k=2,retrieve.reranker=none")
    assert variants.applied(Config(), made).answer.k == 2
    with pytest.raises(UsageError, match="is no variant"):
        variants.parse_variant("k:answer")
    with pytest.raises(ConfigError, match=r"answer\.k"):
        variants.applied(Config(), variants.parse_variant("x:answer.kk=2"))


def test_questions_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(
        '{"id": "a", "question": "Q?", "file": "x.log", "line": [3, 4], "answers": ["1"],'
        ' "unanswerable": false, "kind": "log"}\n\n'
        '{"question": "R?", "unanswerable": true}\n',
        encoding="utf-8",
    )
    first, second = load_questions(file)
    assert (first.unit, first.places, first.kind) == ("line", frozenset({3, 4}), "log")
    assert (second.id, second.file, second.is_unanswerable) == ("3", None, True)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"question": 3}', '{"question": "Q?", "file": "x", "answers": ["1"]}']
)
def test_a_bad_question_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(f'{{"question": "ok", "unanswerable": true}}\n{line}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        load_questions(file)


def test_documents_are_those_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/pump.pdf", "other.pdf", "questions.jsonl"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert find_documents([question()], tmp_path) == [tmp_path / "sub/pump.pdf"]
    named = question(file="sub/pump.pdf")
    assert find_documents([named, ABSENT], tmp_path) == [tmp_path / "sub/pump.pdf"]
    with pytest.raises(UsageError, match=r"missing\.pdf"):
        find_documents([question(file="missing.pdf")], tmp_path)


DOCUMENT = Document(1, "/docs/pump.pdf", "0", Kind.PDF, "Pump", 1, 1, State.INDEXED, 1)


class ForbiddenIndex:
    """Fails when it is searched."""

    def add(self, chunks: object) -> None:
        raise AssertionError

    def remove(self, doc_id: int) -> None:
        raise AssertionError

    def search(self, query: str, k: int, scope: Scope) -> list[Hit]:
        raise AssertionError("this index was to be left out")


class OneHit(ForbiddenIndex):
    """Always finds chunk 1."""

    def search(self, query: str, k: int, scope: Scope) -> list[Hit]:
        return [Hit(1, 1.0)]


@pytest.mark.parametrize(("variant", "is_lexical"), [(0, True), (1, False)])
def test_the_variants_leave_an_index_out(variant: int, is_lexical: bool) -> None:
    settings = variants.applied(Config(), variants.RETRIEVAL[variant]).retrieve
    found = retrieve(
        "torque",
        lexical=OneHit() if is_lexical else ForbiddenIndex(),
        dense=ForbiddenIndex() if is_lexical else OneHit(),
        load=lambda ids: [(chunk(7, 7), DOCUMENT) for _ in ids],
        reranker=None,
        scope=Scope(),
        settings=settings,
    )
    ranks = [(c.lexical_rank, c.dense_rank) for c in found.candidates]
    assert ranks == [(1, None) if is_lexical else (None, 1)]
