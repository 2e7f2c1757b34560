"""The inverted index, against a product of the whole matrices."""

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from rankdistill.errors import InputError
from rankdistill.retrieval import InvertedIndex, embed_sparse, index_of, passing_index, stored_index
from rankdistill.students import sparse_student


@pytest.fixture(scope="module")
def model(student_folder):
    return sparse_student(student_folder)


def test_it_finds_what_an_exhaustive_search_finds_by_the_tie_rule(model, copied):
    """The tiny collection with copies: equal documents have equal scores, the lesser id first."""
    index = stored_index(model, copied)
    q, d = (
        embed_sparse(model, kind, texts).toarray()
        for kind, texts in (("query", copied.queries), ("document", copied.documents))
    )
    exact = q.astype(np.float64) @ d.T.astype(np.float64)
    own = np.full(len(q), -1)
    own[0] = int(exact[0].argmax())
    for k in (5, 70, 1000):
        rows, scores = index.search(copied.queries, k, copied.document_ids, own)
        for i, (found, values) in enumerate(zip(rows, scores, strict=True)):
            order = sorted(
                (j for j in range(len(d)) if exact[i, j] > 0 and j != own[i]),
                key=lambda j: (-np.float32(scores_of(index, copied, i, j)), copied.document_ids[j]),
            )[:k]
            assert found[: len(order)].tolist() == order and (found[len(order) :] == -1).all()
            np.testing.assert_allclose(values[: len(order)], exact[i, order], rtol=1e-5)


def scores_of(index, collection, query, row):
    """As the lists add it up, dimension by dimension."""
    found = (index._encoded(collection.queries)[query] @ index.lists).toarray()[0]
    return found[row]


def test_scores_and_active_dimensions(model, collection):
    index = index_of(model, collection.documents)
    assert index.vectors is None
    q, d = index._encoded(collection.queries).toarray(), index.matrix.toarray()
    owners, rows = np.array([0, 0, 3]), np.array([1, 5, 2])
    np.testing.assert_allclose(
        index.scores(collection.queries, owners, rows), (q[owners] * d[rows]).sum(1), rtol=1e-5
    )
    assert index.active(collection.queries) == {
        "queries": round((q != 0).sum() / len(q), 1),
        "documents": round((d != 0).sum() / len(d), 1),
    }


def test_kept_and_passing_are_the_same_and_what_is_damaged_is_named(model, collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    first, second = (stored_index(model, collection).matrix for _ in range(2))
    passing = passing_index(model, collection).matrix
    assert (first != second).nnz == 0 and (first != passing).nnz == 0
    (folder,) = (tmp_path / "embeddings").glob("*.csr")
    (folder / "data.npy").write_bytes(b"")
    with pytest.raises(InputError, match="csr.*damaged"):
        stored_index(model, collection)


@pytest.mark.parametrize("fields", [{"index": "HNSW32"}, {"parameters": {"nprobe": 3}}])
def test_an_index_of_faiss_is_refused(model, collection, fields):
    with pytest.raises(InputError, match="searched through an inverted index"):
        index_of(model, collection.documents).search(["w1"], 3, **fields)


def test_a_text_without_any_dimension_finds_nothing(model):
    empty = index_of(model, ["w1", "w2"])
    empty = InvertedIndex(model, empty.matrix * 0)
    rows, _ = empty.search(["w1"], 2)
    assert (rows == -1).all()


def test_a_distance_is_refused(student_folder):
    model = sparse_student(student_folder)
    model.similarity_fn_name = "euclidean"
    assert isinstance(model, SparseEncoder)
    with pytest.raises(InputError, match="compares by euclidean"):
        embed_sparse(model, "document", ["w1"])
