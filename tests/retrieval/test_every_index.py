"""What every index promises, held against sentence-transformers' own encodings, compared pair by pair."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import with_copies
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from torch import nn

from rankdistill.data import read_beir
from rankdistill.errors import InputError
from rankdistill.retrieval import (
    dense,
    faiss_search,
    index_of,
    inverted,
    max_sim,
    passing_index,
    rerank,
    stored_index,
)
from rankdistill.students import (
    cross_encoder,
    late_interaction_student,
    load_cross_encoder,
    load_student,
    sparse_student,
)


class Case(NamedTuple):
    """``make(bi_encoder, cross_encoder)`` is the model; ``index`` and ``parameters`` are FAISS's, so that it
    looks at every document; ``cut``: dimensions that are compared; ``searches``: whether it does at all."""

    make: Callable[[str, str], Any]
    index: str = "Flat"
    parameters: Mapping[str, float] | None = None
    cut: int | None = None
    searches: bool = True


def bi_encoder(folder: str, _: str) -> SentenceTransformer:
    return load_student(folder, max_length=None)


def sparse(folder: str, _: str) -> SparseEncoder:
    return sparse_student(folder)


def late_interaction(folder: str, _: str) -> MultiVectorEncoder:
    return late_interaction_student(folder, 8)


def compared_by(make: Callable, similarity: str) -> Callable:
    def made(*folders: str) -> Any:
        model = make(*folders)
        model.similarity_fn_name = similarity
        return model

    return made


CASES = {
    "flat": Case(bi_encoder),
    "flat, dot product": Case(compared_by(bi_encoder, "dot")),
    "flat, the first dimensions": Case(bi_encoder, cut=8),
    "IVF": Case(bi_encoder, "IVF4,Flat", {"nprobe": 4}),
    "HNSW": Case(bi_encoder, "HNSW32", {"efSearch": 400}),
    "PQ, refined": Case(bi_encoder, "PQ2x2,RFlat", {"k_factor": 10}),
    "inverted": Case(sparse),
    "inverted, cosine": Case(compared_by(sparse, "cosine")),
    "MaxSim": Case(late_interaction),
    "MaxSim, means": Case(compared_by(late_interaction, "meanmaxsim")),
    "rerank": Case(lambda _, folder: load_cross_encoder(folder, max_length=64), searches=False),
}
BLOCKS = [
    (faiss_search, "SEARCH_BLOCK"),
    (dense, "BLOCK"),
    (inverted, "BLOCK"),
    (inverted, "MATCHES"),
    (inverted, "PAIRS"),
    (max_sim, "WINDOW"),
    (max_sim, "QUERIES"),
    (max_sim, "DOCUMENTS"),
    (max_sim, "PAIRS"),
    (rerank, "BLOCK"),
]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """As encode and predict have it."""
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)
    monkeypatch.setattr(cross_encoder, "has_bf16", lambda: False)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def model(case, student_folder, wide_cross_encoder_folder):
    return case.make(student_folder, wide_cross_encoder_folder)


@pytest.fixture
def copied(copied, model):
    """With the same text to the letter where a vector's last digit may depend on the texts beside it.

    As it does of a whole vocabulary's numbers, without AVX-512: the same texts are encoded once.
    """
    if not isinstance(model, SparseEncoder):
        return copied
    return replace(copied, documents=[text.strip() for text in copied.documents])


@pytest.fixture(scope="module")
def exact(case, model, beir):
    """Of every query and document, float64 (Q, D): each text is encoded alone, the same texts are equal."""
    collection = with_copies(read_beir(beir))
    texts = [text.strip() for text in collection.documents]
    if isinstance(model, CrossEncoder):
        return np.array(
            [
                model.predict([(query, text) for text in texts], activation_fn=nn.Identity())
                for query in collection.queries
            ],
            dtype=np.float64,
        )
    options = {"truncate_dim": case.cut, "show_progress_bar": False}
    if isinstance(model, (SparseEncoder, MultiVectorEncoder)):
        del options["truncate_dim"]
    queries = [_alone(model.encode_query, text, options) for text in collection.queries]
    known = {text: _alone(model.encode_document, text, options) for text in dict.fromkeys(texts)}
    return np.array([[_similarity(model, q, known[text]) for text in texts] for q in queries])


def _alone(encode: Callable, text: str, options: dict) -> np.ndarray:
    found = encode([text], **options)[0]
    if not isinstance(found, np.ndarray):
        found = (found.to_dense() if found.is_sparse else found).numpy()
    return found.astype(np.float64)


def _similarity(model: Any, query: np.ndarray, document: np.ndarray) -> float:
    if isinstance(model, MultiVectorEncoder):
        best = [max(float(q @ d) for d in document) for q in query]
        return sum(best) / (len(best) if model.similarity_fn_name == "meanmaxsim" else 1)
    product = float(query @ document)
    if model.similarity_fn_name == "cosine":
        product /= float(np.linalg.norm(query) * np.linalg.norm(document))
    return product


def built(case: Case, index: Any) -> Any:
    return index if case.cut is None else index.cut(case.cut)


def search(case: Case, index: Any, queries, k: int, ids=None, own=None):
    return index.search(queries, k, ids, own, index=case.index, parameters=case.parameters)


def assert_best(found, scores, exact, collection, k, own=-1):
    """``found`` and ``scores`` (n,) are the ``k`` best by ``exact`` (D,), copies by their ids.

    Other documents whose scores differ by less than rounding does may change places.
    """
    ids = collection.document_ids
    allowed = [row for row in range(len(ids)) if row != own and exact[row] != 0]  # 0: nothing is shared
    order = sorted(allowed, key=lambda row: (-exact[row], ids[row]))[:k]
    assert (found[len(order) :] == -1).all()
    found, scores = found[: len(order)], scores[: len(order)]
    assert len(set(found.tolist())) == len(order) and set(found.tolist()) <= set(allowed)
    rounding = 1e-6 * np.abs(exact).max()
    np.testing.assert_allclose(scores, exact[order], rtol=1e-5, atol=rounding)
    np.testing.assert_allclose(exact[found], exact[order], rtol=0, atol=rounding)
    for i in range(20):
        copies = [row for row in (60 + i, i) if row != own]  # c0 is before d0
        present = [row for row in found.tolist() if row in copies]
        assert present == copies[: len(present)]
        values = scores[np.isin(found, copies)]
        assert len(set(values.tolist())) <= 1


def searching(case):
    if not case.searches:
        pytest.skip("it scores pairs and searches nothing")


@pytest.mark.parametrize("size", [None, 7], ids=["whole", "blocks"])
def test_it_finds_what_an_exhaustive_search_finds_by_the_tie_rule(
    case, model, exact, copied, monkeypatch, size
):
    """For k beyond the collection too, and without a query's own document."""
    searching(case)
    for module, name in BLOCKS if size else ():
        monkeypatch.setattr(module, name, size)
    index = built(case, index_of(model, copied.documents))
    own = np.full(len(exact), -1)
    own[0], own[5] = int(exact[0].argmax()), 7
    for k in (1, 5, 70, 1000):
        rows, scores = search(case, index, copied.queries, k, copied.document_ids, own)
        assert rows.shape == scores.shape == (len(exact), min(k, 80))
        assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
        for query in range(len(exact)):
            assert_best(rows[query], scores[query], exact[query], copied, k, own[query])


def test_what_it_finds_does_not_depend_on_the_queries_beside(case, model, exact, copied):
    searching(case)
    index = built(case, index_of(model, copied.documents))
    for chosen in ([0], [3], [5, 1], list(range(23, 10, -1))):
        rows, scores = search(case, index, [copied.queries[i] for i in chosen], 12, copied.document_ids)
        for query, found, values in zip(chosen, rows, scores, strict=True):
            assert_best(found, values, exact[query], copied, 12)


def test_without_ids_equal_documents_follow_their_rows(case, model, copied):
    searching(case)
    rows, _ = search(case, built(case, index_of(model, copied.documents)), copied.queries, 80)
    for found in rows.tolist():
        assert all(found.index(i) < found.index(60 + i) for i in range(20) if i in found)


def test_stored_and_passing_ones_find_the_same(case, model, copied):
    """The second of the stored ones is read from the cache."""
    searching(case)
    indexes = [stored_index(model, copied), stored_index(model, copied), passing_index(model, copied)]
    assert [len(index) for index in indexes] == [80] * 3
    results = [search(case, built(case, index), copied.queries, 20, copied.document_ids) for index in indexes]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("size", [None, 7], ids=["whole", "blocks"])
def test_scores_are_of_the_pairs_whatever_is_beside_them(case, model, exact, copied, monkeypatch, size):
    for module, name in BLOCKS if size else ():
        monkeypatch.setattr(module, name, size)
    owners, rows = (x.ravel() for x in np.indices(exact.shape))
    order = np.random.default_rng(0).permutation(len(owners))[:500]
    index = built(case, index_of(model, copied.documents))
    scores = index.scores(copied.queries, owners[order], rows[order])
    assert (scores.dtype, scores.shape) == (np.float32, (500,))
    np.testing.assert_allclose(scores, exact[owners[order], rows[order]], rtol=1e-5, atol=1e-5)
    alone = built(case, index_of(model, copied.documents))
    for i in (0, 9):
        one = slice(i, i + 1)
        found = alone.scores(copied.queries, owners[order][one], rows[order][one])
        np.testing.assert_allclose(found, scores[one], rtol=1e-5, atol=1e-5)


def test_vectors_are_those_of_one_vector_a_document(case, model, copied):
    index = built(case, index_of(model, copied.documents))
    if isinstance(index, dense.DenseIndex):
        assert index.vectors.shape == (80, case.cut or 16) and index.vectors.dtype == np.float32
    else:
        assert index.vectors is None


@pytest.mark.parametrize("fields", [{"index": "HNSW32"}, {"parameters": {"nprobe": 3}}], ids=str)
def test_an_index_of_faiss_is_refused_where_there_are_no_single_vectors(case, model, copied, fields):
    index = index_of(model, copied.documents)
    if isinstance(index, dense.DenseIndex):
        pytest.skip("FAISS searches it")
    says = {
        inverted.InvertedIndex: "searched through an inverted index",
        max_sim.MaxSimIndex: "token vectors are compared with all documents",
        rerank.PairIndex: "a cross-encoder searches nothing",
    }[type(index)]
    with pytest.raises(InputError, match=says):
        index.search(["w1"], 3, **fields)


def test_nothing_is_found_among_nothing(case, model):
    if not case.searches or case.index != "Flat":
        pytest.skip("needs documents")
    rows, scores = built(case, index_of(model, [])).search(["w1", "w2"], 3)
    assert rows.shape == scores.shape == (2, 0)
