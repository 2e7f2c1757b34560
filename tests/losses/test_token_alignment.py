"""Which token is which, and how far apart they are, by loops."""

import numpy as np
import pytest
import torch
from embeddings import of_the_batch

from rankdistill.errors import InputError
from rankdistill.losses import TokenAlignment, token_alignment
from rankdistill.losses.token_alignment import aligned
from rankdistill.vocabulary import Embeddings, Outputs


def tokens(lengths, dimensions=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(lengths), max(lengths), dimensions, generator=rng, dtype=torch.float64)
    return Embeddings(vectors, torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))


def pairs_of(own, others):
    """(i, j) of the highest cosine left, until one side has no token left."""
    cosines = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in others] for x in own]
    left = {(i, j) for i in range(len(own)) for j in range(len(others))}
    chosen = []
    while left:
        i, j = max(left, key=lambda pair: cosines[pair[0]][pair[1]])
        chosen.append((i, j))
        left = {(a, b) for a, b in left if a != i and b != j}
    return chosen


def texts_of(embeddings):
    sides = zip(embeddings.vectors.detach().numpy(), embeddings.mask.numpy(), strict=True)
    return [vectors[mask] for vectors, mask in sides]


def test_the_distance_is_that_of_plain_loops():
    student, teacher = tokens([3, 6, 1]), tokens([5, 2, 4], seed=1)
    means = []
    for own, others in zip(texts_of(student), texts_of(teacher), strict=True):
        means.append(np.mean([((own[i] - others[j]) ** 2).sum() for i, j in pairs_of(own, others)]))
    assert token_alignment(student, teacher).item() == pytest.approx(np.mean(means))


def test_the_same_tokens_in_another_order_cost_nothing():
    student = tokens([4, 6])
    order = torch.tensor([2, 0, 3, 1, 5, 4])
    again = Embeddings(student.vectors[:, order], student.mask[:, order])
    assert token_alignment(student, again).item() == pytest.approx(0, abs=1e-15)


def test_greedy_is_not_the_best_there_is():
    """Directions in degrees: 0 takes 10, the nearest of all, and leaves 25 the -20 that is 45 away."""
    student, teacher = (
        torch.tensor([[[np.cos(x), np.sin(x)] for x in np.radians(degrees)]])
        for degrees in ([0, 25], [10, -20])
    )
    everything = torch.ones(1, 2, dtype=torch.bool)
    partner = aligned(student, teacher, everything, everything)[0].tolist()
    assert partner == [0, 1]
    sums = [np.cos(np.radians(x)).sum() for x in ([10, 45], [20, 15])]
    assert sums[0] < sums[1]
    found = token_alignment(Embeddings(student, everything), Embeddings(teacher, everything))
    assert found.item() == pytest.approx((2 - 2 * np.cos(np.radians([10, 45]))).mean())


def test_padding_is_no_token_whatever_is_there():
    student, teacher = tokens([2, 3]), tokens([3, 1], seed=1)
    before = token_alignment(student, teacher)
    wide = [
        Embeddings(torch.cat([x.vectors, torch.full((2, 1, 5), 1e9, dtype=torch.float64)], 1),
                   torch.cat([x.mask, torch.zeros(2, 1, dtype=torch.bool)], 1))
        for x in (student, teacher)
    ]  # fmt: skip
    torch.testing.assert_close(token_alignment(*wide), before)


def outputs(embeddings, others):
    return Outputs(torch.zeros(2, 2), queries=embeddings, documents=others)


def test_the_weight_is_that_of_the_queries_and_the_teacher_has_no_gradient():
    sides = [tokens([2, 3]), tokens([3, 3, 2], seed=1)], [tokens([3, 1], seed=2), tokens([4, 4, 1], seed=3)]
    for side in sides[0] + sides[1]:
        side.vectors.requires_grad_()
    student, teacher = (outputs(*side) for side in sides)
    _, _, batch, _ = of_the_batch()
    of_queries, of_documents = (token_alignment(*pair) for pair in zip(*sides, strict=True))
    value = TokenAlignment(0.25)(student, teacher, batch)
    torch.testing.assert_close(value, 0.25 * of_queries + 0.75 * of_documents)
    value.backward()
    assert all(side.vectors.grad is not None for side in sides[0])
    assert all(side.vectors.grad is None for side in sides[1])


def test_what_has_no_token_vectors_or_others_is_refused():
    _, _, batch, _ = of_the_batch()
    one, other = outputs(tokens([2]), tokens([2])), outputs(tokens([2], 7), tokens([2], 7))
    single = outputs(Embeddings(torch.zeros(1, 5)), Embeddings(torch.zeros(1, 5)))
    with pytest.raises(InputError, match="tokens have 5 dimensions, the teacher's 7; give both as many"):
        TokenAlignment()(one, other, batch)
    with pytest.raises(InputError, match="the teacher has one vector per text; take a model of late"):
        TokenAlignment()(one, single, batch)
    with pytest.raises(InputError, match="query_weight=1.5"):
        TokenAlignment(1.5)
