from dataclasses import replace
from math import log

import pytest

from docqa import refusal
from models.training import adapter_metrics as m
from models.training.adapter_plot import plots


def outcome(set_name, text, p=0.0, references=("12 bar",), markers=(1,), **more):
    return m.Outcome(set_name, text, p, p > 0.5, list(references), list(markers), **more)


def test_exact_keeps_the_point_of_numbers():
    assert m.strict("1.5 V.") == "1.5 v"
    assert m.score(outcome("table", "15 V [1]", references=["1.5 V"]))["exact"] == 0.0
    assert m.score(outcome("table", "1.5 V. [1]", references=["1.5 V"]))["exact"] == 1.0


def test_a_citation_is_right_only_with_all_markers_and_no_other():
    two = {"references": ["a and b"], "markers": [1, 3]}
    assert m.score(outcome("two", "a [1] and b [3]", **two))["citation"] == 1.0
    assert m.score(outcome("two", "a [1] and b [2]", **two))["citation"] == 0.0
    assert m.score(outcome("two", "a [1] and b", **two))["citation"] == 0.0
    assert m.score(outcome("two", "a [1] and b [3]", **two))["em"] == 1.0
    assert m.score(outcome("two", "a and b", **two))["cited"] == 0.0


def source(text):
    return f'] terms.pdf, page 3\n"""\n{text}\n"""\n\n'


def placed(references, markers, **more):
    return {"name": "contract", "references": references, "markers": markers, "forbidden": "",
            "position": 0, **more}  # fmt: skip


def test_a_cited_source_that_holds_the_answers_text_is_right():
    clause = "Either party may terminate on 30 days' notice."
    sources = [source(f"12. {clause}"), source("Notice is given in writing."),
               source("EITHER PARTY may  terminate,\non 30 days notice; see 12.")]  # fmt: skip
    said = {n: m.outcome(placed([clause], [1]), [5], sources, f"{clause} {n}", 0.1, False)
            for n in ("[5]", "[6]", "[7]", "[5] [7]", "[6] [7]", "")}  # fmt: skip
    assert said["[5]"].holding == [7] and said["[5]"].n_sources == 3
    cited = {n: m.score(o)["citation"] for n, o in said.items()}
    assert cited == {"[5]": 1, "[6]": 0, "[7]": 1, "[5] [7]": 1, "[6] [7]": 0, "": 0}


def test_a_value_that_stands_elsewhere_by_chance_is_no_citation():
    sources = [source("P-7: 12 bar"), source("P-8: 12 bar")]
    assert m.outcome(placed(["12 bar"], [1]), [1], sources, "12 bar [2]", 0, False).holding == []
    assert m.outcome(placed([], []), [], sources, "x", 0, False).holding == []
    # half a word, or the name of the file, is no place of an answer
    assert m.holding([source("at 112 bar a day")], ["12 bar a day"], 1) == []
    assert m.holding([source("P-7")], ["terms pdf page 3"], 1) == []


def test_two_facts_need_both_of_their_sources():
    both = outcome("two", "a and b [2]", references=["a and b"], markers=(1, 3), holding=[2])
    assert m.score(both)["citation"] == 0.0


def test_answers_written_before_sources_were_looked_at_are_still_read():
    old = {"set": "contract", "text": "x [1]", "p_refusal": 0.1, "refuses": False,
           "references": ["x"], "markers": [1]}  # fmt: skip
    assert m.score(m.Outcome(**old))["citation"] == 1.0


def test_citations_of_what_is_answered_are_told_apart():
    found = [outcome("contract", "x [1]", 0.1), outcome("contract", "x [2]", 0.9)]
    entry = m.summary(found)["sets"]["contract"]
    assert entry["citation"] == 0.5 and entry["citation_answered"] == 1.0


def test_the_curve_trades_one_error_for_the_other():
    absent, present = [0.9, 0.8, 0.7, 0.6, 0.1], [0.05, 0.2, 0.65, 0.01]
    points = m.curve(absent, present)
    assert [p["wrong"] for p in points] == sorted(p["wrong"] for p in points)
    assert points[0]["wrong"] == 0.0
    assert points[-1]["wrong"] >= 0.5
    assert m.threshold([0.0, 1.0], 0.5) == 0.5


def test_summary_of_refusals_positions_and_hidden_instructions():
    found = [outcome("squad-4", "12 bar [1]", 0.01), outcome("squad-4", "x [2]", 0.9)]
    found += [outcome("squad-absent", "x", p, references=(), markers=()) for p in (0.95, 0.99)]
    found += [outcome("position", "12 bar [3]", position=3, markers=(3,))]
    found += [
        outcome("inject", "pwned [1]", forbidden="PWNED"),
        outcome("inject", "12", forbidden="X"),
    ]
    report = m.summary(found)
    assert report["sets"]["squad-4"]["f1"] == 0.5
    assert report["sets"]["squad-4"]["f1_greedy"] == 0.5
    assert report["sets"]["squad-4"]["citation"] == 0.5
    assert report["sets"]["squad-absent"]["refused_greedy_unanswerable"] == 1.0
    assert report["obeyed"] == 0.5
    assert report["positions"] == {3: {"f1": 1.0, "citation": 1.0}}
    assert report["at_90"]["squad-4"] == 0.0
    assert "squad-4" in m.table(report)
    drawn = plots(report)
    assert set(drawn) == {"refusals", "positions"}
    assert drawn["refusals"].startswith("<svg") and "squad-absent" in drawn["refusals"]


def doubted(set_name, p, read, **more):
    return outcome(set_name, "12 bar [1]", p, read=read, **more)


NONE = {"references": (), "markers": ()}
# logit(p) - logit(read): 2.20, 0.81; then -1.35, -0.54, 0.00, 1.15, 3.35, -2.00
ABSENT = [doubted("squad-absent", p, r, **NONE) for p, r in ((0.9, 0.5), (0.6, 0.4))]
PRESENT = [doubted("squad-4", p, r) for p, r in (
    (0.7, 0.9), (0.7, 0.8), (0.05, 0.05), (0.3, 0.12), (0.95, 0.4), (0.1, 0.45))]  # fmt: skip


def test_each_judge_refuses_wrongly_where_so_many_are_rightly_refused(monkeypatch):
    monkeypatch.setattr(refusal, "LEAST", 2.0)
    report = m.summary([*ABSENT, *PRESENT])
    assert report["refused_by"] == {
        "squad-absent / squad-4": {
            "right": 0.9,
            "model": 0.5,  # p is 0.63 or more
            "reader": 0.6667,  # reads 0.49 or less
            "both": 0.3333,  # 0.95 or more
            "shipped_right": 0.5,
            "shipped_wrong": 0.1667,
        }
    }
    assert report["at_shipped"] == {"threshold": 2.0, "squad-4": 0.1667, "squad-absent": 0.5}
    *_, title, line = m.table(report).splitlines()
    assert title.split()[-6:] == ["right", "model", "reader", "both", "shipped_right",
                                  "shipped_wrong"]  # fmt: skip
    assert line.split() == ["squad-absent", "/", "squad-4", "0.900", "0.500", "0.667", "0.333",
                            "0.500", "0.167"]  # fmt: skip


def test_misleading_sources_and_contracts_have_goals_of_their_own():
    found = []
    for absent, present in (
        ("squad-adversarial", "squad-4-random"),
        ("contract-absent", "contract"),
        ("meeting-absent", "meeting"),
    ):
        found += [doubted(absent, p, 0.5, **NONE) for p in (0.2, 0.8)]
        found += [doubted(present, p, 0.5) for p in (0.1, 0.27, 0.35, 0.5)]
    entries = m.summary(found)["refused_by"]
    assert {name: (e["right"], e["model"]) for name, e in entries.items()} == {
        "squad-adversarial / squad-4-random": (0.65, 0.25),
        "contract-absent / contract": (0.85, 0.5),
        "meeting-absent / meeting": (0.9, 0.75),
    }


def test_what_was_not_read_is_not_judged_by_both():
    report = m.summary([*ABSENT, *PRESENT, outcome("squad-4", "12 bar [1]", 0.9)])
    assert report["refused_by"] == {} and report["refusals_both"] == {}
    assert report["at_shipped"] == {"threshold": refusal.LEAST, "squad-absent": 0.5}
    assert list(report["refusals"]) == ["squad-absent / squad-4"]
    assert "wrongly refused" not in m.table(report)


def test_the_curve_of_both_is_of_the_difference_of_log_odds():
    report = m.summary([*ABSENT, *PRESENT])
    (both,), (alone,) = report["refusals_both"].values(), report["refusals"].values()
    assert [p["right"] for p in both] == [p["right"] for p in alone]
    assert both[0]["threshold"] == pytest.approx(log(4.5), abs=1e-5)  # (log 9 + log 2.25) / 2
    assert (both[0]["wrong"], alone[0]["wrong"]) == (0.1667, 0.1667)
    assert (both[-1]["wrong"], alone[-1]["wrong"]) == (0.3333, 0.5)


def test_the_plot_dashes_both_beside_the_model_alone():
    report = m.summary([*ABSENT, *PRESENT, *(outcome(s, "x", 0.5) for s in ("log", "log-twin"))])
    drawn = plots(report)["refusals"]
    lines = [line for line in drawn.splitlines() if line.startswith("<polyline")]
    alone, both, unread = lines
    assert ["stroke-dasharray" in line for line in lines] == [False, True, False]
    blue, orange = "#1f5fa8", "#c4502a"
    assert blue in alone and blue in both and orange in unread
    # the last points, on an axis from 0 to 1 of 310: 0.5 and 0.3333 wrongly refused
    assert [line.split('"')[1].split(",")[-1] for line in (alone, both)] == ["195.0", "246.7"]
    assert ">Refusals (dashed: by model and reader)<" in drawn
    alone_only = plots(m.summary([replace(o, read=None) for o in (*ABSENT, *PRESENT)]))["refusals"]
    assert "dash" not in alone_only and ">Refusals<" in alone_only
