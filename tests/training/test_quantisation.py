"""Trained codebooks: what the step computes, and that they keep scores better than those of least error."""

import functools

import faiss
import numpy as np
import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.retrieval import product_quantiser
from rankdistill.training import JPQ, DistillVQ, FaissPQ
from rankdistill.training.quantisation import reconstructed, with_positives


def blind_case(queries=200, documents=400):
    """Queries that are blind to one of four dimensions, in which documents differ the most."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(documents, 4)).astype(np.float32)
    vectors[:, [0, 2]] *= 6
    asked = rng.normal(size=(queries, 4)).astype(np.float32)
    asked[:, [0, 2]] = 0
    return vectors, asked


def starts(documents, parts=2, bits=3):
    return functools.cache(lambda rotated: product_quantiser(documents, parts, bits, rotated))


def divergence(index, documents, queries):
    """Mean KL of softmax(q·d) and softmax(q·d̂) over all documents, in nats."""
    kept = index.sa_decode(index.sa_encode(documents))
    t, s = (queries.astype(float) @ x.T.astype(float) for x in (documents, kept))
    log_p, log_q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (t, s))
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()


def none(queries):
    return [np.empty(0, np.int64)] * len(queries)


def test_distilled_codebooks_keep_the_scores_of_queries_that_they_were_not_trained_by():
    documents, queries = blind_case()
    start = starts(documents)
    settings = {"epochs": 20, "batch": 20, "candidates": 100, "learning_rate": 0.3, "temperature": 5.0}
    distil = DistillVQ(**settings, scale=1.0, rotated=False)
    own, distilled = (
        q.fit(start, documents, queries[:150], none(queries[:150])) for q in (FaissPQ(), distil)
    )
    before, after = (divergence(index, documents, queries[150:]) for index in (own, distilled))
    assert after < 0.5 * before
    assert own.sa_code_size() == distilled.sa_code_size()


def test_codebooks_that_are_the_vectors_have_nothing_to_learn():
    documents = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 4, np.float32)
    queries = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    index = DistillVQ(epochs=2, candidates=4, rotated=False).fit(
        starts(documents, 2, 1), documents, queries, none(queries)
    )
    assert divergence(index, documents, queries) == pytest.approx(0, abs=1e-6)


def test_the_forward_pass_has_hard_codes_and_the_gradient_reaches_every_centroid():
    documents, _ = blind_case()
    made = product_quantiser(documents, 2, 3)
    codebooks = torch.from_numpy(made.codebooks).requires_grad_()
    kept = reconstructed(torch.from_numpy(documents), codebooks, 1.0)
    assert kept.detach().numpy() == pytest.approx(made.decode(made.encode(documents)), abs=1e-5)
    kept.square().sum().backward()
    assert (codebooks.grad.abs().sum(dim=2) > 0).all()


def test_the_gradient_of_a_choice_is_that_of_the_soft_one():
    """Of one part, two centroids a and b and a vector x nearer to a: kept = a + p(b) (b - a), p = softmax."""
    x, a, b, temperature = 0.3, 0.0, 1.0, 0.5
    codebooks = torch.tensor([[[a], [b]]], requires_grad=True)
    kept = reconstructed(torch.tensor([[x]]), codebooks, temperature)
    assert kept.item() == a
    kept.sum().backward()
    p = 1 / (1 + np.exp(((x - b) ** 2 - (x - a) ** 2) / temperature))  # of b
    slope = 2 * p * (1 - p) / temperature * (b - a)  # d p(b) / d b = p (1 - p) 2 (x - b) / T
    assert codebooks.grad.ravel().tolist() == pytest.approx([1 - slope * (x - a), slope * (x - b)], abs=1e-5)


def test_jpq_leaves_the_codes_and_ranks_what_is_relevant_higher():
    documents, queries = blind_case(queries=100)
    start = starts(documents)
    positives = [np.array([row]) for row in (queries @ documents.T).argmax(axis=1)]
    own = FaissPQ(rotated=True).fit(start, documents, queries, positives)
    trained = JPQ(epochs=10, batch=20, learning_rate=0.05, scale=1.0).fit(
        start, documents, queries, positives
    )
    codes = [
        faiss.vector_to_array(faiss.downcast_index(index.index).codes).tolist() for index in (own, trained)
    ]
    assert codes[0] == codes[1] and own.sa_code_size() == trained.sa_code_size()

    def reciprocal_rank(index):
        _, rows = index.search(queries, len(documents))
        return np.mean([1 / (1 + np.flatnonzero(a == b[0])[0]) for a, b in zip(rows, positives, strict=True)])

    assert reciprocal_rank(trained) > 1.2 * reciprocal_rank(own)
    with pytest.raises(InputError, match="JPQ: no training query has a relevant document"):
        JPQ().fit(start, documents, queries, none(queries))


def test_positives_that_were_not_found_are_added():
    found = np.array([[4, 2, -1], [1, 0, 3]])
    rows, positive, mask = with_positives(found, [np.array([2, 7]), np.array([5])])
    assert rows.tolist() == [[4, 2, 7, 0], [1, 0, 3, 5]]
    assert positive.tolist() == [[False, True, True, False], [False, False, False, True]]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize("make", [lambda: DistillVQ(temperature=0), lambda: JPQ(learning_rate=-1.0)])
def test_settings_below_0_are_refused(make):
    with pytest.raises(InputError, match="it must be above 0"):
        make()
