"""A run in words."""

import pytest

from rankdistill.data import Collection
from rankdistill.summary import measured_queries


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
