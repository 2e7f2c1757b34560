"""A run file given to ``rankdistill evaluate``: what it lacks, and ids that are almost the collection's."""

import re

import pytest

from rankdistill.commands.evaluate import check_run, measure_run
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, Run

TOY = Collection(
    "toy",
    ["caf\u00e9", "b", "c", "d"],
    list("1234"),
    ["na\u00efve", "r"],
    ["?", "!"],
    {"test": {"na\u00efve": {"b": 1}, "r": {"d": 1}}},
)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            {"nai\u0308ve": {"b": 1.0}},
            "none of its queries .*differs from 'na\u00efve' only by Unicode normalisation",
        ),
        (
            {"r": {"cafe\u0301": 1.0}},
            "none of its documents .*differs from 'caf\u00e9' only by Unicode normalisation",
        ),
    ],
)
def test_ids_that_differ_by_unicode_normalisation_alone_are_named_as_such(scores, message, caplog):
    with pytest.raises(InputError, match=message):
        check_run(Run.from_scores(scores), TOY, "test", "a.run")
    more = {"na\u00efve": {"b": 1.0}, "r": {"d": 1.0}}
    check_run(Run.from_scores({**scores, **more} if "r" not in scores else {"r": {**scores["r"], "d": 1.0}}),
              TOY, "test", "a.run")  # fmt: skip
    assert "only by Unicode normalisation" in caplog.text


@pytest.mark.parametrize(("depth", "said"), [(1, True), (3, False)])
def test_a_run_shallower_than_a_measure_is_said(depth, said, caplog):
    caplog.set_level("INFO")
    ranked = dict(zip("bcd", (3.0, 2.0, 1.0), strict=True))
    run = Run.from_scores({q: dict(list(ranked.items())[:depth]) for q in TOY.query_ids})
    measure_run(run, "a.run", Evaluator(["R@2", "AP"]), TOY, "test")
    warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
    line = "a.run: has at most 1 documents a query, fewer than the deepest measure's 2"
    assert [m.startswith(line) for m in warned] == [True] * said
    assert f"a.run: AP: over all its documents, {depth} at most" in caplog.messages


@pytest.mark.parametrize(("limit", "given"), [(15, None), (15, 20), (1, None)])
def test_the_remedy_for_a_run_of_some_queries_measures_it_as_it_was(limit, given, caplog):
    """A training run's file has the queries that its evaluator drew, whatever its limit was."""
    ids = [f"q{i}" for i in range(40)]
    judged = {query: {"b": 1} for query in ids} | {"none": {"b": 0}}
    many = Collection("many", ["a", "b"], list("12"), [*ids, "none"], [*ids, "none"], {"test": judged})
    drawn = [many.query_ids[row] for row in many.query_rows("test", limit, 0)]
    run = Run.from_scores({query: {"a": 2.0, "b": 1.0} for query in drawn})
    measured = Evaluator(["RR"], limit=limit).measure(run, many)
    measure_run(run, "a.run", Evaluator(["RR"], limit=given), many, "test")
    (said,) = (message for message in caplog.messages if "no results" in message)
    remedy = re.fullmatch(
        r".*; they count 0 \(evaluator.limit=(\d+) measures those alone that it has\)", said
    )
    again = Evaluator(["RR"], limit=int(remedy[1]))
    caplog.clear()
    assert measure_run(run, "a.run", again, many, "test").mean == measured.mean == {"RR": 0.5}
    assert not any("no results" in message for message in caplog.messages)


def test_a_run_of_other_queries_has_no_such_remedy(caplog):
    run = Run.from_scores({"na\u00efve": {"d": 1.0}})  # one query is drawn, and it is the other one
    measure_run(run, "a.run", Evaluator(["RR"]), TOY, "test")
    assert "a.run: has no results for 1 of 2 queries; they count 0" in caplog.messages


def test_an_empty_run_is_said_to_be_empty():
    with pytest.raises(InputError, match="^a.run: it is empty$"):
        check_run(Run({}), TOY, "test", "a.run")
