"""A run in words."""

import pytest

from rankdistill.commands.summary import measured_queries, write_judgments
from rankdistill.data import Collection
from rankdistill.evaluation import Evaluation, Run


@pytest.mark.parametrize(
    ("relevant", "n", "said"),
    [
        (3, 3, "all 3 queries of test"),
        (3, 2, "2 of 3 queries of test, drawn at random (evaluator.limit=2)"),
        (2, 2, "all 2 queries of test that have a relevant document (1 have none)"),
        (
            2,
            1,
            "1 of 2 queries of test that have a relevant document (1 have none), drawn at random "
            "(evaluator.limit=1)",
        ),
        (1, 1, "the one query of test that has a relevant document (2 have none)"),
    ],
)
def test_queries_without_a_relevant_document_are_not_among_all(relevant, n, said):
    queries = [f"q{i}" for i in range(3)]
    judged = {query: {"d": int(i < relevant)} for i, query in enumerate(queries)}
    collection = Collection("c", ["d"], ["text"], queries, queries, {"test": judged})
    assert measured_queries(collection, "test", n) == said


@pytest.mark.parametrize(("query", "asked"), [("34", ["ERR@10", "AP"]), ("q34", ["AP"])])
def test_what_gdeval_computes_is_not_asked_of_it_where_it_cannot_read_the_queries(query, asked, tmp_path):
    collection = Collection("c", ["d"], ["text"], [query], ["a"], {"test": {query: {"d": 1}}})
    measured = Evaluation(Run({query: [("d", 1.0)]}, "a"), {"ERR@10": {query: 0.5}, "AP": {query: 1.0}})
    command = write_judgments(tmp_path, collection, "test", measured)
    assert command.split()[3:] == asked
    assert (tmp_path / "qrels.trec").read_text() == f"{query} 0 d 1\n"
