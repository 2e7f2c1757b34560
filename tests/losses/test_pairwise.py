import math

import numpy as np
import pytest
import torch

from rankdistill.losses import PairwisePreference, WeightedSum, pairwise_preference, rank_net
from rankdistill.losses.base import columns_of
from rankdistill.vocabulary import Batch, Outputs


def oracle(student, pairs, probabilities):
    """Plain loops over Python floats."""
    terms = {}
    for (b, i, j), p in zip(pairs, probabilities, strict=True):
        x = student[b][i] - student[b][j]
        terms.setdefault(b, []).append(p * np.logaddexp(0, -x) + (1 - p) * np.logaddexp(0, x))
    means = [sum(x) / len(x) for x in terms.values()]
    return sum(means) / len(means) if means else 0.0


def drawn(seed, queries=5, documents=6, most=12):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(queries, documents)) * 3
    pairs = [
        [b, *rng.choice(documents, 2, replace=False)]
        for b in range(queries)
        for _ in range(rng.integers(most))
    ]
    pairs = np.array(pairs, np.int64).reshape(-1, 3)
    return student, pairs, rng.choice([0, 1, 0.5, 0.7, 0.01], len(pairs))


@pytest.mark.parametrize("seed", range(20))
def test_value_and_gradient_are_those_of_plain_loops(seed):
    student, pairs, p = drawn(seed, most=1 + seed % 12)
    scores = torch.tensor(student, requires_grad=True)
    rest = torch.tensor(pairs), torch.tensor(p)
    value = pairwise_preference(scores, *rest)
    assert value.shape == () and value.item() == pytest.approx(oracle(student, pairs, p), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: pairwise_preference(s, *rest), scores)
    moved = pairwise_preference(scores + torch.arange(5.0, dtype=torch.float64)[:, None], *rest)
    torch.testing.assert_close(moved, value)


def test_by_hand():
    """One query: ln(1 + e^-2) at p = 1, and ln 2 whatever p says of equal scores; another: p = 0."""
    student = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    pairs, p = torch.tensor([[0, 0, 1], [0, 1, 2], [1, 0, 1]]), torch.tensor([1.0, 0.3, 0.0])
    expected = ((np.log1p(np.exp(-2)) + np.log(2)) / 2 + np.log1p(np.exp(1))) / 2
    assert pairwise_preference(student, pairs, p).item() == pytest.approx(expected, rel=1e-6)


def test_less_the_preferences_entropy_it_is_the_divergence_of_pairdistill():
    """KL(p || sigmoid(s_i - s_j)) of p = .8 and a lead of 1; the pair turned round too."""
    student, entropy = torch.tensor([[1.0, 0.0]]), -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    for pair, p in (([0, 0, 1], 0.8), ([0, 1, 0], 0.2)):
        value = pairwise_preference(student, torch.tensor([pair]), torch.tensor([p])).item()
        assert value - entropy == pytest.approx(0.012859, abs=1e-6)


def test_with_the_teachers_order_as_preferences_it_is_ranknet():
    rng = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=rng, dtype=torch.float64)
    pairs = [[b, i, j] for b in range(4) for i in range(5) for j in range(5) if teacher[b, i] > teacher[b, j]]
    everything = torch.ones(4, 5, dtype=torch.bool)
    expected = rank_net(student, teacher, everything, everything)
    found = pairwise_preference(student, torch.tensor(pairs), torch.ones(len(pairs), dtype=torch.float64))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("queries", [0, 3])
def test_without_a_pair_it_is_zero_with_zero_gradient(queries):
    student = torch.ones(queries, 4, requires_grad=True)
    value = pairwise_preference(student, torch.empty(0, 3, dtype=torch.long), torch.empty(0))
    value.backward()
    assert value == 0 and (student.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, pairs, p = drawn(3)
    student, pairs, p = torch.tensor(student, dtype=dtype), torch.tensor(pairs), torch.tensor(p).float()
    value = pairwise_preference(student, pairs, p)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, pairwise_preference(student.float(), pairs, p))


def test_huge_margins_are_finite():
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = pairwise_preference(student, torch.tensor([[0, 0, 1], [0, 1, 0]]), torch.tensor([1.0, 1.0]))
    value.backward()
    assert value.item() == 1e4 and student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("pairs", "p"), [((2, 3), (3,)), ((2, 2), (2,)), ((2,), (2,)), ((2, 3), (2, 1))], ids=str
)
def test_other_shapes_raise(pairs, p):
    with pytest.raises(ValueError, match=r"must be \(B, G\), \(P, 3\) and \(P,\)"):
        pairwise_preference(torch.zeros(2, 4), torch.zeros(pairs, dtype=torch.long), torch.zeros(p))


def test_the_module_reads_the_batchs_columns_alone_and_in_a_sum():
    student, pairs, p = drawn(1)
    scores, nothing = torch.tensor(student), torch.zeros(5, 6)
    targets = {"scores": nothing, "pairs": torch.tensor(pairs), "pair_p": torch.tensor(p)}
    whole = torch.ones(5, 6, dtype=torch.bool)
    batch = Batch(torch.arange(5), torch.arange(6), torch.arange(6).expand(5, 6), whole, whole, targets)
    outputs = Outputs(scores), Outputs(nothing)
    expected = pairwise_preference(scores, targets["pairs"], targets["pair_p"])
    assert PairwisePreference()(*outputs, batch) == expected
    both = WeightedSum({"pairs": PairwisePreference()}, {"pairs": 2.0})
    assert columns_of(both) == {"pairs"} and both(*outputs, batch) == 2 * expected
