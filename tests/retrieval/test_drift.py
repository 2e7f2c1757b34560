"""Queries that moved, on vectors that did not."""

import numpy as np
import pytest

from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import compensated, drift, embed_queries, query_drift, stored_index
from rankdistill.students import load_student


@pytest.fixture
def moved(student_folder, monkeypatch):
    """An older model, and a newer one whose queries are the older's and a constant; no document twice."""
    old, new = (load_student(student_folder) for _ in range(2))
    shift = 0.5 * np.random.default_rng(0).normal(size=16).astype(np.float32)
    embed = lambda model, texts: embed_queries(model, texts) + (shift if model is new else 0)  # noqa: E731
    monkeypatch.setattr(drift, "embed_queries", embed)
    return old, new, shift


def test_the_drift_is_the_mean_of_the_differences(moved, collection):
    old, new, shift = moved
    assert query_drift(old, new, collection.queries) == pytest.approx(shift, abs=1e-6)


def test_a_constant_drift_is_taken_back_whole(moved, collection, monkeypatch):
    """The ranking is the older model's; without compensation it is another."""
    old, new, _ = moved
    index = stored_index(old, collection)
    monkeypatch.setattr("rankdistill.students.embed.embed_documents", None)  # nothing is encoded again
    rows = collection.query_rows("train")
    delta = query_drift(old, new, [collection.queries[row] for row in rows])
    searched = collection.queries
    expected, _ = index.search(searched, 10, collection.document_ids)
    found, _ = compensated(index, new, delta).search(searched, 10, collection.document_ids)
    assert np.array_equal(found, expected)
    left, _ = compensated(index, new, 0 * delta).search(searched, 10, collection.document_ids)
    assert not np.array_equal(left, expected)
    measured = [
        Evaluator().evaluate(None, collection, "test", documents=one).mean
        for one in (index, compensated(index, new, delta))
    ]
    assert measured[0] == pytest.approx(measured[1])
