import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docqa.eval import metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Pump, is a  TWX-40.", "pump is twx40"),
        ("An apple", "apple"),
        ("thermal theory", "thermal theory"),  # no article inside a word
        ("", ""),
    ],
)
def test_squad_normalised(text: str, expected: str) -> None:
    assert metrics.squad_normalised(text) == expected


def test_exact_match_ignores_markers_case_and_articles() -> None:
    assert metrics.exact_match("The 17 Nm. [2]", ["17 nm"]) == 1.0
    assert metrics.exact_match("about 17 Nm", ["17 Nm"]) == 0.0


def test_f1_by_hand() -> None:
    # shown: {torque, is, 17, nm}; gold: {17, nm}: precision 2/4, recall 2/2 -> 2/3.
    assert metrics.token_f1("torque is 17 Nm [1]", ["17 Nm"]) == pytest.approx(2 / 3)
    # the better of two accepted answers counts; multisets: one of two "red" only.
    assert metrics.token_f1("red", ["red red", "blue"]) == pytest.approx(2 / 3)
    assert metrics.token_f1("red", ["blue"]) == 0.0
    assert metrics.token_f1("red", []) == 0.0


@pytest.mark.parametrize(
    ("shown", "accepted", "expected"),
    [
        ("It is 17Nm [1].", "17 Nm", True),
        ("It is 14.5 bar", "4.5 bar", False),
        ("It is 117 Nm", "17 Nm", False),
        ("runs 12,000 hours", "12000", True),
        ("runs 12 000 hours", "12000", True),
        ("runs 12000 hours", "12,000", True),
        ("Mass with motor 64 118 kg", "118 kg", True),  # two cells, not one number
        ("seven vanes", "7", True),
        ("40 percent glycol", "40 %", True),
        ("wait 5 minutes", "5 min", True),
        ("at 2026-03-12T09:47:33.918Z", "09:47:33.918", True),
        ("at 09:47:33.918", "09:47:34", False),
        ("E070 shown", "E07", False),
        ("See source [47]", "47", False),  # a marker is no answer
        ("anything", "", False),
        ("TW-33233 fits", "TW-3323", False),
        ("a fine radial CRACK.", "radial crack", True),
    ],
)
def test_contains_answer(shown: str, accepted: str, expected: bool) -> None:
    assert metrics.contains_answer(shown, [accepted]) is expected


@given(st.text(), st.text())
def test_an_answer_is_contained_in_itself_with_anything_around(before: str, after: str) -> None:
    assert metrics.contains_answer(f"{before}\nalpha 42 beta\n{after}", ["42 beta"])


def test_recall_and_reciprocal_rank() -> None:
    ranks = [False, False, True, True]
    assert [metrics.recall_at(ranks, k) for k in (1, 2, 3, 10)] == [0.0, 0.0, 1.0, 1.0]
    assert metrics.reciprocal_rank(ranks) == pytest.approx(1 / 3)
    assert metrics.reciprocal_rank([False, False]) == 0.0
    assert metrics.reciprocal_rank([]) == 0.0


def test_bootstrap_interval() -> None:
    values = [1.0] * 80 + [0.0] * 20
    mean = metrics.bootstrap_mean(values)
    # The binomial standard error is sqrt(0.8 * 0.2 / 100) = 0.04: 1.96 of it on each side.
    assert mean.value == pytest.approx(0.8)
    assert mean.low == pytest.approx(0.8 - 1.96 * 0.04, abs=0.012)
    assert mean.high == pytest.approx(0.8 + 1.96 * 0.04, abs=0.012)
    assert mean.n == 100
    assert metrics.bootstrap_mean(values) == mean
    assert metrics.bootstrap_mean(values, seed=1) != mean


def test_bootstrap_of_constant_and_of_nothing() -> None:
    assert metrics.bootstrap_mean([1.0, 1.0]) == metrics.Mean(1.0, 1.0, 1.0, 2)
    assert metrics.bootstrap_mean([]) == metrics.Mean(0.0, 0.0, 0.0, 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_bootstrap_bounds_hold_the_mean(values: list[float]) -> None:
    mean = metrics.bootstrap_mean(values, n_draws=200)
    slack = 1e-9
    assert min(values) - slack <= mean.low <= mean.high <= max(values) + slack
    assert math.isclose(mean.value, sum(values) / len(values), abs_tol=1e-9)


def test_median() -> None:
    assert metrics.median([3.0, 1.0, 10.0]) == 3.0
    assert metrics.median([]) == 0.0
