"""The index of token vectors, against a comparison of every query with every document by numpy."""

import numpy as np
import pytest

from rankdistill.errors import InputError
from rankdistill.retrieval import embed_tokens, index_of, max_sim, passing_index, stored_index
from rankdistill.students import late_interaction_student


@pytest.fixture(scope="module")
def model(student_folder):
    return late_interaction_student(student_folder, 8)


def by_hand(model, collection):
    q, d = (
        embed_tokens(model, kind, texts)
        for kind, texts in (("query", collection.queries), ("document", collection.documents))
    )
    return np.array(
        [[(q[i].astype(np.float64) @ d[j].T).max(axis=1).sum() for j in range(len(d))] for i in range(len(q))]
    )


def test_it_finds_what_an_exhaustive_search_finds_by_the_tie_rule(model, copied, monkeypatch):
    """The tiny collection with copies: equal documents have equal scores, the lesser id first."""
    exact = by_hand(model, copied)
    own = np.full(len(exact), -1)
    own[0] = int(exact[0].argmax())
    for sizes in ((256, 2000), (7, 11)):
        for name, size in zip(("QUERIES", "DOCUMENTS"), sizes, strict=True):
            monkeypatch.setattr(max_sim, name, size)
        index = stored_index(model, copied)
        for k in (5, 70, 1000):
            rows, scores = index.search(copied.queries, k, copied.document_ids, own)
            for i, (found, values) in enumerate(zip(rows, scores, strict=True)):
                order = sorted(
                    (j for j in range(len(copied.documents)) if j != own[i]),
                    key=lambda j: (-np.float32(exact[i, j]), copied.document_ids[j]),
                )[:k]
                assert found[: len(order)].tolist() == order and (found[len(order) :] == -1).all()
                np.testing.assert_allclose(values[: len(order)], exact[i, order], rtol=1e-5)


def test_scores_are_of_the_pairs(model, collection):
    index = index_of(model, collection.documents)
    assert index.vectors is None and index.active(collection.queries) == {}
    owners, rows = np.array([0, 0, 3]), np.array([1, 5, 2])
    found = index.scores(collection.queries, owners, rows)
    np.testing.assert_allclose(found, by_hand(model, collection)[owners, rows], rtol=1e-5)


def test_kept_and_passing_are_the_same_and_what_is_damaged_is_named(model, collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    first, second = (stored_index(model, collection).tokens for _ in range(2))
    passing = passing_index(model, collection).tokens
    for other in (second, passing):
        np.testing.assert_array_equal(first.vectors, other.vectors)
        np.testing.assert_array_equal(first.offsets, other.offsets)
    (folder,) = (tmp_path / "embeddings").glob("*.tokens")
    (folder / "vectors.npy").write_bytes(b"")
    with pytest.raises(InputError, match="tokens.*damaged"):
        stored_index(model, collection)


@pytest.mark.parametrize("fields", [{"index": "HNSW32"}, {"parameters": {"nprobe": 3}}])
def test_an_index_of_faiss_is_refused(model, collection, fields):
    with pytest.raises(InputError, match="token vectors are compared with all documents"):
        index_of(model, collection.documents).search(["w1"], 3, **fields)


def test_nothing_is_found_among_nothing(model):
    rows, scores = index_of(model, []).search(["w1", "w2"], 3)
    assert rows.shape == scores.shape == (2, 0)
