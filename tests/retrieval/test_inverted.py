"""Sparse vectors, and those that are kept; what the index finds: test_every_index.py."""

import pytest
from sentence_transformers import SparseEncoder

from rankdistill.errors import InputError
from rankdistill.retrieval import InvertedIndex, embed_sparse, index_of, passing_index, stored_index
from rankdistill.students import sparse_student


@pytest.fixture(scope="module")
def model(student_folder):
    return sparse_student(student_folder)


def test_active_dimensions_are_counted(model, collection):
    index = index_of(model, collection.documents)
    q, d = index._encoded(collection.queries).toarray(), index.matrix.toarray()
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
