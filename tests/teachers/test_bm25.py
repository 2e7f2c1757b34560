import math

import numpy as np
import pytest

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.teachers import BM25Teacher, bm25, score_candidates


def by_hand(query, document, documents, k1, b):
    """Lucene's BM25 of words that are their own stems (Kamphuis et al., ECIR 2020)."""
    texts = [text.split() for text in documents]
    mean = sum(map(len, texts)) / len(texts)
    words, score = document.split(), 0.0
    for word in query.split():
        n = sum(word in text for text in texts)
        tf = words.count(word)
        idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
        score += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
    return score


def pairs_of(candidates):
    return list(candidates.pairs(0, len(candidates.document_rows)))


@pytest.mark.parametrize("block", [7, 100_000])
@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75), (2, 0)])
def test_scores_are_bm25_over_the_collection(collection, monkeypatch, block, k1, b):
    monkeypatch.setattr(bm25, "BLOCK", block)
    candidates = mine(collection, [BM25(5), Random(5)])
    scores = BM25Teacher(k1, b).score_pools(candidates)
    expected = [by_hand(q, d, collection.documents, k1, b) for q, d in pairs_of(candidates)]
    assert scores.dtype == np.float32 and min(expected) == 0 < max(expected)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def small(documents, queries):
    ids = [f"d{i}" for i in range(len(documents))], [f"q{i}" for i in range(len(queries))]
    qrels = {"train": {query: {"d0": 1} for query in ids[1]}}
    return Collection("small", ids[0], documents, ids[1], queries, qrels)


def test_words_repeated_or_unknown_in_the_query():
    """A repeated word counts twice; one that no document has, and stop words, count nothing."""
    documents = ["apple pear", "apple apple plum", "fig"]
    collection = small(documents, ["apple apple", "kiwi apple", "the and", "kiwi"])
    candidates = mine(collection, [Random(3)])
    scores = BM25Teacher().score_pools(candidates).reshape(4, -1)
    expected = [[by_hand(q, documents[d], documents, 0.9, 0.4) for d in (0, 1, 2)] for q in ("apple", "kiwi")]
    np.testing.assert_allclose(scores, [2 * np.array(expected[0]), expected[0], [0] * 3, [0] * 3], rtol=1e-5)


def test_a_collection_of_stop_words_scores_0():
    candidates = mine(small(["the", "and the"], ["the"]), [Random(2)])
    assert BM25Teacher().score_pools(candidates).tolist() == [0, 0]


def test_the_table_is_kept(collection, monkeypatch):
    candidates = mine(collection, [BM25(5)])
    first = score_candidates(BM25Teacher(), candidates).scores
    monkeypatch.setattr(BM25Teacher, "score_pools", None)
    assert np.array_equal(score_candidates(BM25Teacher(), candidates).scores, first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": -1}, "k1=-1: it must be a finite number, 0 or more"),
        ({"k1": float("nan")}, "k1=nan: it must be a finite number"),
        ({"k1": float("inf")}, "k1=inf: it must be a finite number"),
        ({"b": 1.5}, "b=1.5: it must be between 0 and 1"),
        ({"b": float("nan")}, "b=nan: it must be between 0 and 1"),
    ],
)
def test_settings_out_of_range_raise(settings, message):
    with pytest.raises(InputError, match=f"^teacher.{message}"):
        BM25Teacher(**settings)
    with pytest.raises(InputError, match=f"^{message}"):
        BM25(**settings)
