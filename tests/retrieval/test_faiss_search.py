"""What FAISS makes of vectors, and the vectors; what every index promises: test_every_index.py."""

import logging
import re

import faiss
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from rankdistill.errors import InputError
from rankdistill.retrieval import embed_documents, embed_queries, faiss_search, search, stored_embeddings

RNG = np.random.default_rng(0)
DOCUMENTS = RNG.normal(size=(200, 8)).astype(np.float32)
QUERIES = RNG.normal(size=(6, 8)).astype(np.float32)


@pytest.fixture
def model(student_folder):
    return SentenceTransformer(student_folder, device="cpu")


@pytest.mark.parametrize("index", ["IVF8,Flat", "HNSW16", "SQ8", "PCA4,Flat", "IVF8,Flat,RFlat"])
def test_any_index_of_the_factory_finds_documents_by_inner_product(index):
    """The metric left at its default, L2, would rank by distance."""
    rows, scores = search(DOCUMENTS, QUERIES, 5, index)
    exact = np.take_along_axis(QUERIES @ DOCUMENTS.T, np.maximum(rows, 0), 1)
    assert rows.shape == (6, 5) and (rows >= 0).sum() > 20
    if "PCA" not in index:
        assert np.allclose(scores[rows >= 0], exact[rows >= 0], atol=0.2)
    assert (np.diff(scores[(rows >= 0).all(1)]) <= 0).all()


def test_an_index_that_finds_too_few_says_minus_one():
    """One probed list of eight holds about 25 of the 200 documents."""
    rows, _ = search(DOCUMENTS, QUERIES, 150, "IVF8,Flat")
    found = (rows >= 0).sum(1)
    assert (found > 0).all() and (found < 150).all()
    assert all((row[n:] == -1).all() and len(set(row[:n])) == n for row, n in zip(rows, found, strict=True))


@pytest.mark.parametrize(("index", "k", "moved"), [("Flat", 10, 2), ("IVF8,Flat", 10, 3), ("Flat", 150, 1)])
def test_gpus_that_faiss_sees_search(monkeypatch, index, k, moved):
    """The CPU plays them. Flat goes there by blocks, of 120 and 80, also to say what another index finds;
    one with too many results stays."""
    expected, taken = search(DOCUMENTS, QUERIES, k, index), []
    monkeypatch.setattr(faiss_search, "SEARCH_BLOCK", 120)
    monkeypatch.setattr(faiss_search, "GPU_RESULTS", 100)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda built: taken.append(built) or built)
    rows, scores = search(DOCUMENTS, QUERIES, k, index)
    assert len(taken) == moved and np.array_equal(rows, expected[0])
    assert np.allclose(scores, expected[1], atol=1e-5)


def tied(scores, n=300, seed=0):
    """Documents and queries of integers, most scores of which are equal."""
    rng = np.random.default_rng(seed)
    return [np.round(rng.normal(size=(m, 6))).astype(np.float32) for m in (n, scores)]


@pytest.mark.parametrize("block", [10**6, 64])
@pytest.mark.parametrize("queries", [3, 60], ids=["few", "many"])
@pytest.mark.parametrize("k", [1, 7, 100, 299, 300])
def test_equal_scores_at_the_cut_follow_the_ids(monkeypatch, block, queries, k):
    """FAISS takes any of them, by the size of its blocks: R@100 was 0.656 where 0.672 is right."""
    monkeypatch.setattr(faiss_search, "SEARCH_BLOCK", block)
    documents, asked = tied(queries)
    ids = [f"d{i}" for i in np.random.default_rng(1).permutation(300)]
    for names in (None, ids):
        rows, scores = search(documents, asked, k, ids=names)
        for query, found, values in zip(asked, rows, scores, strict=True):
            exact = documents @ query
            order = sorted(range(300), key=lambda row: (-exact[row], names[row] if names else row))[:k]
            assert found.tolist() == order and values.tolist() == exact[order].tolist()


def test_the_rule_by_hand():
    ones = np.array([[1.0]] * 6 + [[2.0]] * 3, np.float32)
    assert search(ones, np.ones((1, 1), np.float32), 5)[0].tolist() == [[6, 7, 8, 0, 1]]
    rows, _ = search(np.ones((3, 1), np.float32), np.ones((1, 1), np.float32), 1, ids=["c", "b", "a"])
    assert rows.tolist() == [[2]]


@pytest.mark.parametrize("index", ["Flat", "IVF4,Flat", "HNSW16", "SQ8", "PCA64,Flat"])
def test_equal_documents_are_equal_to_every_index(index):
    """One matrix product gives copies of a document scores that differ in the last bits, by their place."""
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(1003, 384 if index in ("Flat", "PCA64,Flat") else 64)).astype(np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    copies = rng.permutation(1003)[:40]
    documents[copies] = documents[7]
    queries = documents[[7] * 400] + rng.normal(size=(400, documents.shape[1])).astype(np.float32) * 0.02
    rows, scores = search(documents, queries, 20, index, {"nprobe": 4} if "IVF" in index else None)
    assert (np.sort(rows) == np.sort([*copies, 7])[:20]).all() if index != "HNSW16" else True
    assert (np.diff(rows) > 0).all() and (np.ptp(scores, axis=1) == 0).all()


def test_where_everything_ties_the_first_ids_are_found():
    """As with embeddings that are all 0: every search for more ends at the whole collection."""
    rows, _ = search(np.zeros((5000, 4), np.float32), np.ones((30, 4), np.float32), 3)
    assert (rows == [0, 1, 2]).all()


@pytest.mark.parametrize(("index", "k"), [("Flat", 3), ("Flat", 200), ("HNSW16", 3)])
def test_a_querys_own_document_is_left_out(index, k):
    similarity = DOCUMENTS[:6] @ DOCUMENTS.T
    similarity[range(5), range(5)] = -np.inf
    rows, scores = search(DOCUMENTS, DOCUMENTS[:6], k, index, own=np.array([0, 1, 2, 3, 4, -1]))
    assert rows.shape == (6, k)
    for i, (found, values) in enumerate(zip(rows, scores, strict=True)):
        n = min(k, 199 + (i == 5))
        assert np.array_equal(found[:n], np.argsort(-similarity[i])[:n]) and (found[n:] == -1).all()
        assert np.allclose(values[:n], similarity[i, found[:n]], atol=1e-5)


def test_few_are_searched_again_and_only_for_the_queries_that_tie(monkeypatch):
    """Fifty copies of a document tie at the cut of one query; the others are done at the first time."""
    documents, asked = DOCUMENTS.copy(), []
    documents[100:150] = 10 * QUERIES[2]
    queries = QUERIES * -np.sign(QUERIES @ QUERIES[2])[:, None]
    queries[2] *= -1
    plain = faiss_search._search_blocks
    monkeypatch.setattr(
        faiss_search, "_search_blocks", lambda d, q, n: asked.append((len(q), n)) or plain(d, q, n)
    )
    rows, _ = search(documents, queries, 10)
    assert rows[2].tolist() == list(range(100, 110)) and asked == [(6, 18), (1, 72)]


@pytest.mark.parametrize(
    ("index", "few", "many"),
    [
        ("IVF16,Flat", {"nprobe": 1}, {"nprobe": 16}),
        ("HNSW4", {"efSearch": 1}, {"efSearch": 400}),
        ("PCA2,Flat,RFlat", {"k_factor": 1}, {"k_factor": 80.0}),
    ],
)
def test_what_an_index_is_searched_with_can_be_set_and_what_it_finds_is_said(index, few, many, caplog):
    rng = np.random.default_rng(3)
    documents, queries = (rng.normal(size=(n, 16)).astype(np.float32) for n in (800, 150))
    exact = np.argsort(-queries @ documents.T, axis=1)[:, :10]
    caplog.set_level(logging.INFO)
    shares = []
    for parameters in (few, many):
        rows, _ = search(documents, queries, 10, index, parameters)
        shares.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, rows, strict=True)]))
    assert shares[0] < 0.9 and shares[1] > 0.98 > shares[0] + 0.2
    said = [float(re.search(r"finds ([\d.]+) % of the 10 best", m)[1]) / 100 for m in caplog.messages]
    assert said == pytest.approx(shares, abs=0.05)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("index", "parameters", "message"),
    [
        ("Flat", {"nprobe": 2}, "evaluator.search={'nprobe': 2}: index=Flat has no such parameter"),
        ("HNSW16", {"nprobe": 2}, "evaluator.search: nprobe=2: index=HNSW16 does not take it"),
        ("IVF4,Flat", {"nprobes": 2}, "evaluator.search: nprobes=2: index=IVF4,Flat does not take it"),
        ("IVF4,Flat", {"nprobe": 0}, "nprobe=0: .*a number of 1 or more"),
        ("IVF4,Flat", {"nprobe": "many"}, "nprobe=many: .*a number of 1 or more"),
    ],
)
def test_a_parameter_that_an_index_has_not_is_named(index, parameters, message):
    with pytest.raises(InputError, match=message):
        search(DOCUMENTS, QUERIES, 5, index, parameters)


def test_an_index_that_gpus_refuse_stays_on_the_cpu(monkeypatch):
    def refuse(index):
        raise RuntimeError("Error: This index type is not implemented on GPU.")

    expected = search(DOCUMENTS, QUERIES, 10, "HNSW16")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", refuse)
    assert np.array_equal(search(DOCUMENTS, QUERIES, 10, "HNSW16")[0], expected[0])


@pytest.mark.parametrize("index", ["HNSW0", "Flatt", "", "IVF500,Flat", "PQ3", "PCA99,Flat", "LSH"])
def test_an_index_that_faiss_refuses_is_named(index):
    with pytest.raises(InputError, match=f"evaluator.index='{index}': FAISS refuses it .*such as Flat"):
        search(DOCUMENTS, QUERIES, 5, index)


@pytest.mark.parametrize("index", ["HNSW1", "HNSW01", "HNSW1_SQ8", "HNSW1,Flat", "IVF4_HNSW1,Flat", "NSG7"])
def test_a_graph_of_too_few_neighbours_is_refused(index):
    """FAISS ends the whole process, or never returns, and no error says why."""
    graph, least = ("NSG", 8) if "NSG" in index else ("HNSW", 2)
    with pytest.raises(InputError, match=f"index='{index}': .*{graph} needs {least} neighbours or more"):
        faiss_search.faiss_index(64, index)


def test_graphs_of_the_fewest_neighbours_search():
    for index in ("HNSW2", "NSG8", "IVF4_HNSW2,Flat"):
        rows, _ = search(DOCUMENTS, QUERIES, 1, index)
        assert rows.min() >= 0


def test_an_index_that_refuses_documents_is_named():
    with pytest.raises(InputError, match="IDMap,Flat"):
        search(DOCUMENTS, QUERIES, 5, "IDMap,Flat")


@pytest.mark.parametrize("embed", [embed_queries, embed_documents])
def test_embeddings_are_the_models_normalised_for_cosine(model, collection, embed):
    """Within bf16's rounding, which is used where the machine computes in it natively."""
    embeddings = embed(model, collection.queries)
    exact = model.encode(collection.queries, normalize_embeddings=True)
    assert embeddings.dtype == np.float32 and np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert (embeddings * exact).sum(1).min() > 0.999


def test_embeddings_for_dot_keep_their_length(model, collection):
    model.similarity_fn_name = "dot"
    embeddings, exact = embed_documents(model, collection.documents), model.encode(collection.documents)
    assert np.allclose(embeddings, exact, atol=0.05 * np.abs(exact).max())


def test_a_model_that_compares_by_distance_is_refused(model):
    """Its documents would be ranked by an inner product that it was not trained for."""
    model.similarity_fn_name = "euclidean"
    with pytest.raises(InputError, match="compares by euclidean, and documents are ranked by cosine or dot"):
        embed_documents(model, ["w1"])


def test_queries_and_documents_have_prompts_of_their_own(model):
    model.prompts = {"query": "w1 w2 w3 ", "document": ""}
    query, document = embed_queries(model, ["w9"]), embed_documents(model, ["w9"])
    assert not np.allclose(query, document, atol=1e-3)
    assert np.allclose(query, embed_documents(model, ["w1 w2 w3 w9"]), atol=1e-3)


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": "w1 w2 ", "passage": "w3 "}, None),
        ({"query": "w1 w2 ", "corpus": "w3 "}, None),
        ({"query": "", "document": "", "web": "w7 w8 "}, "web"),
        ({"web": "w7 w8 "}, "web"),
    ],
)
def test_prompts_are_those_that_the_model_encodes_with(model, prompts, default):
    """Of any name that encode_document knows; an empty one keeps the default prompt away."""
    model.prompts, model.default_prompt_name = prompts, default
    texts = ["w9", "w4 w5"]
    for embed, encode in ((embed_queries, model.encode_query), (embed_documents, model.encode_document)):
        assert (embed(model, texts) * encode(texts, normalize_embeddings=True)).sum(1).min() > 0.9999


def test_stored_embeddings_are_computed_once(model, collection, caplog):
    caplog.set_level(logging.INFO)
    first = stored_embeddings(model, collection)
    assert "reusing" not in caplog.text
    second = stored_embeddings(model, collection)
    assert "reusing embeddings" in caplog.text
    assert np.array_equal(first, second) and np.array_equal(
        first, embed_documents(model, collection.documents)
    )


def change_weights(model):
    next(model.parameters()).data.mul_(1.5)


def change_prompts(model):
    model.prompts = {"query": "", "document": "w1 w2 "}


def change_default_prompt(model):
    model.prompts, model.default_prompt_name = {"web": "w1 w2 "}, "web"


def change_length(model):
    model.max_seq_length = 6


def change_similarity(model):
    model.similarity_fn_name = "dot"


def change_size(model):
    model.truncate_dim = 8


def change_pooling(model):
    model[1] = Pooling(16, pooling_mode="cls")


@pytest.mark.parametrize(
    "change",
    [
        change_weights,
        change_prompts,
        change_default_prompt,
        change_length,
        change_similarity,
        change_pooling,
    ],
)
def test_stored_embeddings_are_of_this_very_model(model, student_folder, collection, change):
    """Embeddings of another model under the same key would be measured in its place."""
    before = stored_embeddings(model, collection)
    transformer = Transformer(student_folder)
    other = SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu")
    change(other)
    expected = embed_documents(other, collection.documents)
    assert not np.allclose(before, expected, atol=1e-3)
    assert np.allclose(stored_embeddings(other, collection), expected, atol=1e-6)


@pytest.mark.parametrize("cut", [lambda raw: b"", lambda raw: raw[:200], lambda raw: raw[:-8] + b"damaged!"])
def test_a_damaged_cache_is_named(model, collection, tmp_path, monkeypatch, cut):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    stored_embeddings(model, collection)
    (file,) = (tmp_path / "embeddings").glob("*.npy")
    file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(InputError, match="npy: damaged .*delete it to build it again"):
        stored_embeddings(model, collection)
    file.unlink()
    stored_embeddings(model, collection)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[:-1], r"\(59, 16\) float32, not \(60, 16\)"),
        (lambda found: found[:, :8], r"\(60, 8\) float32"),
        (lambda found: found.astype(np.float64), r"\(60, 16\) float64"),
        (lambda found: np.where(np.arange(16) == 3, np.inf, found), "not finite"),
    ],
)
def test_stored_embeddings_without_a_seal_are_checked(
    model, collection, tmp_path, monkeypatch, change, message
):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    expected = np.array(stored_embeddings(model, collection))
    (file,) = (tmp_path / "embeddings").glob("*.npy")
    seal = file.with_name(f"{file.name}.sha256")
    seal.unlink()
    np.save(file, change(expected))
    with pytest.raises(InputError, match=f"npy: damaged .*{message}.*delete it"):
        stored_embeddings(model, collection)
    np.save(file, expected)
    assert np.array_equal(stored_embeddings(model, collection), expected) and seal.exists()
