"""Cuts by the place of a query's positive, and by what a student is unsure of."""

from dataclasses import replace

import numpy as np
import pytest

from rankdistill.analysis import ActiveCut, Disagreement, RoundTrip, student_scores
from rankdistill.analysis.active import gain_of, robust_choice, robust_gains
from rankdistill.analysis.rank_cuts import positive_ranks
from rankdistill.errors import InputError
from rankdistill.students import load_student


def place(scores, positives):
    """Of the first positive, by sorting: among equals it comes first."""
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], j not in positives))
    return 1 + min(order.index(j) for j in positives)


def test_places_are_those_of_sorted_pools(table_of):
    rng = np.random.default_rng(0)
    pools = [rng.integers(0, 5, n).tolist() for n in (4, 7, 3, 6)]
    positives = [[1], [2, 5], [0], []]
    table = table_of(pools, positives)
    found = positive_ranks(table, table.scores).tolist()
    assert found[:3] == [place(*pair) for pair in zip(pools[:3], positives[:3], strict=True)]
    assert found[3] == np.inf


def test_written_queries_that_lead_elsewhere_are_left_out(table_of):
    """Places 1, 3, 2, none."""
    table = table_of([[9, 1, 0], [3, 9, 8], [4, 5, 1], [1, 2]], [[0], [0], [0], []])
    assert RoundTrip(2)(table).candidates.query_rows.tolist() == [0, 2]
    assert RoundTrip(1)(table).candidates.query_rows.tolist() == [0]


def test_a_retrievers_rank_is_that_of_the_whole_collection(table_of):
    """0 is the first; a positive that was not found is at no place, nor one without an order."""
    made = table_of([[9, 1, 0], [3, 9, 8], [4, 5], [1, 2]], [[0, 1], [0], [0], [1]])
    ranks = np.array([4, 2, 0, 3, 0, 1, 65535, 0, 0, 65534], np.uint16)
    table = replace(made, candidates=replace(made.candidates, ranks={"bm25": ranks}))
    for best, expected in ((3, [0]), (4, [0, 1]), (10**6, [0, 1])):
        assert RoundTrip(best, "bm25")(table).candidates.query_rows.tolist() == expected
    with pytest.raises(InputError, match="keeps none of 4 queries"):
        RoundTrip(2, "bm25")(table)
    with pytest.raises(InputError, match="no retriever of the pools is called so; there are bm25"):
        RoundTrip(1, "dense")(table)


def test_the_student_is_wrong_and_the_teacher_less_so(table, student_folder):
    model = load_student(student_folder)
    own, expected = student_scores(model, table), []
    for i, row in enumerate(table.candidates.query_rows):
        span = table.candidates.pool(i)
        positives = set(np.flatnonzero(table.candidates.positive[span]))
        of_student, of_teacher = (place(x[span].tolist(), positives) for x in (own, table.scores))
        if 2 <= of_student <= 6 and of_teacher < of_student:
            expected.append(row)
    found = Disagreement(model, 2, 6)(table)
    assert found.candidates.query_rows.tolist() == expected and 0 < len(expected) < len(table)
    for cut, message in (
        (lambda: Disagreement(model, 3, 2), "places, best <= worst"),
        (lambda: Disagreement("minilm"), "it must be a model"),
        (lambda: Disagreement(model, 99, 99)(table), "keeps none of 16 queries"),
    ):
        with pytest.raises(InputError, match=message):
            cut()


def test_of_the_gains_nine_eight_and_one_the_third_is_never_drawn():
    gains = np.array([0.1, 0.9, 0.8])
    assert robust_gains(gains, 1) == pytest.approx([0, 0.4235, 0.1618], abs=1e-4)
    drawn = [robust_choice(gains, 1, np.random.default_rng(i))[0] for i in range(4000)]
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares == pytest.approx([0, 0.8 / 1.7, 0.9 / 1.7], abs=0.03)


def test_equal_gains_are_drawn_alike_and_a_budget_for_all_takes_all():
    drawn = [robust_choice(np.full(5, 0.3), 2, np.random.default_rng(i)) for i in range(3000)]
    assert np.bincount(np.concatenate(drawn)) / 3000 == pytest.approx([0.4] * 5, abs=0.04)
    assert robust_choice(np.array([0.9, 0.0, 0.5]), 3, np.random.default_rng(0)).tolist() == [0, 1, 2]


def test_gains_are_of_the_students_own_scores(table, student_folder):
    """e, 1 and 1: the first leads by (e - 1) / (e + 2)."""
    assert gain_of(np.array([0.0, 1.0, 0.0])) == pytest.approx(1 - (np.e - 1) / (np.e + 2))
    model = load_student(student_folder)
    scores = student_scores(model, table).astype(float) / 0.1
    gains = np.array([gain_of(scores[table.candidates.pool(i)]) for i in range(len(table))])
    expected = robust_choice(gains, 4, np.random.default_rng(3))
    found = ActiveCut(model, 4, 0.1, 3)(table)
    assert found.candidates.query_rows.tolist() == table.candidates.query_rows[expected].tolist()
    with pytest.raises(InputError, match="cut.temperature=0"):
        ActiveCut(model, 4, 0)
