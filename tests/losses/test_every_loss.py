"""What every loss promises, held against plain loops over Python floats."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from embeddings import of_the_batch

from rankdistill.losses import (
    Harmonic,
    InfoNCE,
    KLDivergence,
    MixedNegatives,
    Relations,
    RelevanceMargin,
    WeightedSum,
    adr_mse,
    approx_ndcg,
    decoupled_kd,
    info_nce,
    kl_divergence,
    lambda_loss,
    lambda_rank,
    mann_whitney,
    margin_mse,
    multi_similarity,
    plackett_luce,
    pointwise_bce,
    rank_net,
    z_loss,
)
from rankdistill.losses.base import value_of
from rankdistill.vocabulary import Embeddings, Outputs


def margin_mse_oracle(student, teacher, positive, mask, pairs="positive"):
    errors = []
    for s, t, y, m in zip(student, teacher, positive, mask, strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                counted = {
                    "positive": y[i] and not y[j],
                    "teacher": t[i] > t[j],
                    "all": i != j,
                    "all_with_diagonal": True,
                }[pairs]
                if m[i] and m[j] and counted:
                    errors.append(((s[i] - s[j]) - (t[i] - t[j])) ** 2)
    return sum(errors) / len(errors) if errors else 0.0


def kl_oracle(
    student,
    teacher,
    positive,
    mask,
    student_temperature=1,
    teacher_temperature=1,
    rescale=False,
    direction="forward",
    student_scores="raw",
):
    def divergence(p, q):
        return sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True))

    divergences = []
    for s, t, m in zip(student, teacher, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        if kept:
            own = [s[j] for j in kept]
            if student_scores == "minmax":
                own = [(x - min(own)) / (max(own) - min(own) or 1) for x in own]
            p = [t[j] / teacher_temperature for j in kept]
            q = [x / student_temperature for x in own]
            p, q = p - np.logaddexp.reduce(p), q - np.logaddexp.reduce(q)
            m = np.logaddexp(p, q) - np.log(2)
            divergences.append(
                {
                    "forward": divergence(p, q),
                    "reverse": divergence(q, p),
                    "symmetric": (divergence(p, q) + divergence(q, p)) / 2,
                    "jensen_shannon": (divergence(p, m) + divergence(q, m)) / 2,
                }[direction]
            )
    mean = sum(divergences) / len(divergences) if divergences else 0.0
    return mean * student_temperature**2 if rescale else mean


def info_nce_oracle(
    student,
    teacher,
    positive,
    mask,
    temperature=1,
    false_negative_margin=None,
    more=None,
    more_mask=None,
    positives="each",
    focus=0.0,
):
    means = []
    for row, (s, t, y, m) in enumerate(zip(student, teacher, positive, mask, strict=True)):
        relevant = [j for j in range(len(s)) if m[j] and y[j]]
        if not relevant:
            continue
        others = [j for j in range(len(s)) if m[j] and not y[j]]
        if false_negative_margin is not None:
            lowest = min(t[i] for i in relevant) - Fraction(false_negative_margin)
            others = [j for j in others if t[j] <= lowest]
        negatives = [s[j] / temperature for j in others]
        if more is not None:
            negatives += [more[row][u] / temperature for u in range(len(more[row])) if more_mask[row][u]]
        own = [s[i] / temperature for i in relevant]
        own = {"each": own, "any": [np.logaddexp.reduce(own)], "sum": [sum(own)]}[positives]
        terms = [np.logaddexp.reduce([0.0, *(n - x for n in negatives)]) for x in own]
        means.append(sum(term * (1 - np.exp(-term)) ** focus for term in terms) / len(terms))
    return sum(means) / len(means) if means else 0.0


def ranks_of(scores, kept):
    """From 1, the highest first; equal ones share their mean rank."""
    ordered = sorted(-scores[j] for j in kept)
    return {i: np.mean([1 + k for k, x in enumerate(ordered) if x == -scores[i]]) for i in kept}


def mann_whitney_oracle(
    student, teacher, positive, mask, temperature=1, across=True, more=None, more_mask=None
):
    positives, negatives = [], []
    for row, (s, y, m) in enumerate(zip(student, positive, mask, strict=True)):
        positives += [(row, s[j]) for j in range(len(s)) if m[j] and y[j]]
        negatives += [(row, s[j]) for j in range(len(s)) if m[j] and not y[j]]
        if more is not None and any(m):
            negatives += [(row, more[row][u]) for u in range(len(more[row])) if more_mask[row][u]]
    terms = [
        np.logaddexp(0, (n - p) / temperature) for i, p in positives for j, n in negatives if across or i == j
    ]
    return sum(terms) / len(terms) if terms else 0.0


def lambda_rank_oracle(student, teacher, positive, mask, cut=200):
    means = []
    for s, y, m in zip(student, positive, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        value = {i: 1 / rank if rank <= cut else 0 for i, rank in ranks_of(s, kept).items()}
        terms = [
            abs(value[i] - value[j]) * np.logaddexp(0, s[j] - s[i])
            for i in kept
            for j in kept
            if y[i] and not y[j]
        ]
        means += [sum(terms) / len(terms)] if terms else []
    return sum(means) / len(means) if means else 0.0


def lambda_loss_oracle(student, grades, positive, mask, weights="ndcg_loss2++", mu=10):
    """The teacher's place holds the grades; gains are divided by 2^(the highest)."""
    means = []
    for s, g, m in zip(student, grades, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        highest = max((g[j] for j in kept), default=0)
        if highest <= 0:
            continue
        gain = {j: 2.0 ** (max(g[j], 0) - highest) - 2.0**-highest for j in kept}
        ideal = sum(x / np.log2(2 + k) for k, x in enumerate(sorted(gain.values(), reverse=True)))
        rank, terms = ranks_of(s, kept), []
        for i in kept:
            for j in kept:
                if gain[i] > gain[j]:
                    swap = abs(1 / np.log2(1 + rank[i]) - 1 / np.log2(1 + rank[j]))
                    apart = max(abs(rank[i] - rank[j]), 1)
                    bound = 1 / np.log2(1 + apart) - 1 / np.log2(2 + apart)
                    factor = swap if weights == "lambdarank" else mu * bound + swap
                    terms.append(factor * (gain[i] - gain[j]) / ideal * np.logaddexp(0, s[j] - s[i]))
        means += [sum(terms) / len(terms)] if terms else []
    return sum(means) / len(means) if means else 0.0


def adr_mse_oracle(student, teacher, positive, mask, temperature=1):
    means = []
    for s, t, m in zip(student, teacher, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        wanted, terms = ranks_of(t, kept), []
        for i in kept:
            smooth = 1 + sum(np.exp(-np.logaddexp(0, (s[i] - s[j]) / temperature)) for j in kept if j != i)
            terms.append((wanted[i] - smooth) ** 2 / np.log2(1 + wanted[i]))
        means += [sum(terms) / len(terms)] if terms else []
    return sum(means) / len(means) if means else 0.0


def plackett_luce_oracle(
    student,
    teacher,
    positive,
    mask,
    places=None,
    weights="none",
    of="group",
    hardest=None,
    more=None,
    more_mask=None,
):
    """Draws document after document from those that are left."""
    values = []
    for row, (s, t, y, m) in enumerate(zip(student, teacher, positive, mask, strict=True)):
        left = [j for j in range(len(s)) if m[j] and not (of == "negatives" and y[j])]
        left = sorted(left, key=lambda j: -s[j])[:hardest]
        if not left:
            continue
        left.sort(key=lambda j: -t[j])  # stable: equal ones in the student's order
        p = np.exp(np.array([t[j] for j in left]) - np.logaddexp.reduce([t[j] for j in left]))
        others = [] if more is None else [more[row][u] for u in range(len(more[row])) if more_mask[row][u]]
        value = 0.0
        for r in range(len(left) if places is None else min(places, len(left))):
            term = np.logaddexp.reduce([s[j] for j in left[r:]] + others) - s[left[r]]
            value += term * (p[r] if weights == "teacher" else 1)
        values.append(value)
    return sum(values) / len(values) if values else 0.0


def pointwise_bce_oracle(student, teacher, positive, mask, targets="labels", more=None, more_mask=None):
    means = []
    for row, (s, t, y, m) in enumerate(zip(student, teacher, positive, mask, strict=True)):
        terms = []
        for j in range(len(s)):
            if m[j]:
                p = {
                    "labels": float(y[j]),
                    "logits": np.exp(-np.logaddexp(0, -t[j])),
                    "probabilities": min(max(t[j], 0), 1),
                }[targets]
                terms.append(p * np.logaddexp(0, -s[j]) + (1 - p) * np.logaddexp(0, s[j]))
        if terms and more is not None:
            terms += [np.logaddexp(0, more[row][u]) for u in range(len(more[row])) if more_mask[row][u]]
        means += [sum(terms) / len(terms)] if terms else []
    return sum(means) / len(means) if means else 0.0


def z_loss_oracle(student, teacher, positive, mask, a=1, b=2):
    means = []
    for s, y, m in zip(student, positive, mask, strict=True):
        kept = [s[j] for j in range(len(s)) if m[j]]
        if kept and max(kept) > min(kept):
            z = [(s[j] - np.mean(kept)) / np.std(kept) for j in range(len(s)) if m[j] and y[j]]
            means += [np.mean([np.logaddexp(0, a * (b - x)) / a for x in z])] if z else []
    return sum(means) / len(means) if means else 0.0


def multi_similarity_oracle(
    student, teacher, positive, mask, alpha=2, beta=40, threshold=0.5, margin=0.1, more=None, more_mask=None
):
    values = []
    for row, (s, y, m) in enumerate(zip(student, positive, mask, strict=True)):
        own = [s[j] for j in range(len(s)) if m[j] and y[j]]
        others = [s[j] for j in range(len(s)) if m[j] and not y[j]]
        if more is not None:
            others += [more[row][u] for u in range(len(more[row])) if more_mask[row][u]]
        if not own or not others:
            continue
        if margin is not None:
            lowest, highest = min(own), max(others)
            own = [x for x in own if x < highest + margin]
            others = [x for x in others if x > lowest - margin]
        near = np.logaddexp.reduce([0.0, *(-alpha * (x - threshold) for x in own)]) / alpha
        values.append(near + np.logaddexp.reduce([0.0, *(beta * (x - threshold) for x in others)]) / beta)
    return sum(values) / len(values) if values else 0.0


def rank_net_oracle(student, teacher, positive, mask, weights="none", pooled=False):
    queries = []
    for s, t, m in zip(student, teacher, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        rank = ranks_of(t, kept)
        pairs = [(i, j) for i in kept for j in kept if t[i] > t[j]]
        queries.append(
            [
                np.logaddexp(0, s[j] - s[i]) / (rank[i] + rank[j] if weights == "first" else 1)
                for i, j in pairs
            ]
        )
    if pooled:
        queries = [[term for terms in queries for term in terms]]
    means = [sum(terms) / len(terms) for terms in queries if terms]
    return sum(means) / len(means) if means else 0.0


def decoupled_oracle(student, teacher, positive, mask, label_weight=1, order_weight=1, temperatures=(1, 1)):
    def kl(p, q):
        p, q = p - np.logaddexp.reduce(p), q - np.logaddexp.reduce(q)
        return sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True))

    values = []
    for s, t, y, m in zip(student, teacher, positive, mask, strict=True):
        own = [j for j in range(len(s)) if m[j] and y[j]]
        others = [j for j in range(len(s)) if m[j] and not y[j]]
        (p, r), (q, u) = (
            ([x[j] / T for j in own], [x[j] / T for j in others])
            for x, T in ((s, temperatures[0]), (t, temperatures[1]))
        )
        if own or others:
            label = order = 0.0
            if own and others:
                label = kl(
                    *(np.array([np.logaddexp.reduce(a), np.logaddexp.reduce(b)]) for a, b in ((q, u), (p, r)))
                )
            if others:
                order = kl(u, r)
            values.append(label_weight * label + order_weight * order)
    return sum(values) / len(values) if values else 0.0


def approx_ndcg_oracle(student, grades, positive, mask, temperature=1):
    """The teacher's place holds the grades; both sums are divided by 2^(the highest)."""
    terms = []
    for s, g, m in zip(student, grades, mask, strict=True):
        kept = [j for j in range(len(s)) if m[j]]
        highest = max((g[j] for j in kept), default=0)
        if highest <= 0:
            continue
        gains = {j: 2.0 ** (max(g[j], 0) - highest) - 2.0**-highest for j in kept}
        ranks = {
            i: 1 + sum(np.exp(-np.logaddexp(0, (s[i] - s[j]) / temperature)) for j in kept if j != i)
            for i in kept
        }
        ideal = sum(
            gain / np.log2(2 + place) for place, gain in enumerate(sorted(gains.values(), reverse=True))
        )
        terms.append(1 - sum(gains[i] / np.log2(1 + ranks[i]) for i in kept) / ideal)
    return sum(terms) / len(terms) if terms else 0.0


MORE = torch.randn(8, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
MORE_MASK = torch.rand(8, 5, generator=torch.Generator().manual_seed(6)) > 0.3


def with_more(loss, student, *rest, **settings):
    """The loss of the batch's documents too, of any batch."""
    more, more_mask = MORE[: len(student)], MORE_MASK[: len(student)]
    return loss(student, *rest, in_batch=more, in_batch_mask=more_mask, **settings)


def in_batch(loss, oracle, **settings):
    more = {"more": MORE.tolist(), "more_mask": MORE_MASK}
    return partial(with_more, loss, **settings), partial(oracle, **more, **settings)


class Case(NamedTuple):
    """``reads_teacher``: whether a NaN of the teacher's must show; ``invariant``: to a constant added to a
    row of the student's scores, and of the teacher's; ``whole``: whether its gradient is that of its value,
    no factor being without one."""

    loss: Callable
    oracle: Callable
    reads_teacher: bool = True
    invariant: tuple[bool, bool] = (True, True)
    whole: bool = True


def with_settings(loss, oracle, reads_teacher=True, invariant=(True, True), whole=True, **settings):
    return Case(partial(loss, **settings), partial(oracle, **settings), reads_teacher, invariant, whole)


labels = partial(with_settings, reads_teacher=False)  # InfoNCE reads teacher scores only as a filter


CASES = {
    "margin-mse": Case(margin_mse, margin_mse_oracle),
    "margin-mse-teacher": with_settings(margin_mse, margin_mse_oracle, pairs="teacher"),
    "margin-mse-all": with_settings(margin_mse, margin_mse_oracle, pairs="all"),
    "margin-mse-diagonal": with_settings(margin_mse, margin_mse_oracle, pairs="all_with_diagonal"),
    "kl": Case(kl_divergence, kl_oracle),
    "kl-temperatures": with_settings(
        kl_divergence, kl_oracle, student_temperature=0.5, teacher_temperature=2.0
    ),
    "kl-rescaled": with_settings(kl_divergence, kl_oracle, student_temperature=3.0, rescale=True),
    "kl-reverse": with_settings(kl_divergence, kl_oracle, direction="reverse"),
    "kl-symmetric": with_settings(kl_divergence, kl_oracle, direction="symmetric"),
    "kl-jensen": with_settings(kl_divergence, kl_oracle, direction="jensen_shannon"),
    "kl-minmax": with_settings(kl_divergence, kl_oracle, student_scores="minmax"),
    "decoupled": Case(decoupled_kd, decoupled_oracle),
    "decoupled-weights": with_settings(decoupled_kd, decoupled_oracle, label_weight=0.5, order_weight=3.0),
    "ranknet": Case(rank_net, rank_net_oracle),
    "ranknet-first": with_settings(rank_net, rank_net_oracle, weights="first"),
    "ranknet-pooled": with_settings(rank_net, rank_net_oracle, pooled=True),
    "approx-ndcg": with_settings(approx_ndcg, approx_ndcg_oracle, invariant=(True, False)),
    "approx-ndcg-cold": with_settings(
        approx_ndcg, approx_ndcg_oracle, invariant=(True, False), temperature=0.1
    ),
    "infonce": labels(info_nce, info_nce_oracle),
    "infonce-cold": labels(info_nce, info_nce_oracle, temperature=0.05),
    "infonce-margin": labels(info_nce, info_nce_oracle, false_negative_margin=0.5),
    "infonce-any": labels(info_nce, info_nce_oracle, positives="any"),
    "infonce-sum": labels(info_nce, info_nce_oracle, invariant=(False, True), positives="sum"),
    "infonce-focus": labels(info_nce, info_nce_oracle, whole=False, focus=2.0),
    "infonce-in-batch": Case(
        *in_batch(info_nce, info_nce_oracle), reads_teacher=False, invariant=(False, True)
    ),
    "list-mle": Case(plackett_luce, plackett_luce_oracle),
    "plackett-luce-2": with_settings(plackett_luce, plackett_luce_oracle, places=2),
    "plackett-luce-weights": with_settings(plackett_luce, plackett_luce_oracle, weights="teacher"),
    "plackett-luce-negatives": with_settings(
        plackett_luce, plackett_luce_oracle, of="negatives", hardest=3, places=2
    ),
    "plackett-luce-in-batch": Case(
        *in_batch(plackett_luce, plackett_luce_oracle, places=2), invariant=(False, True)
    ),
    "mann-whitney": labels(mann_whitney, mann_whitney_oracle, invariant=(False, True), temperature=0.5),
    "star": Case(
        partial(mann_whitney, across_queries=False),
        partial(mann_whitney_oracle, across=False),
        reads_teacher=False,
    ),
    "mann-whitney-in-batch": Case(
        *in_batch(mann_whitney, mann_whitney_oracle), reads_teacher=False, invariant=(False, True)
    ),
    "lambda-rank": labels(lambda_rank, lambda_rank_oracle, whole=False),
    "lambda-rank-cut": labels(lambda_rank, lambda_rank_oracle, whole=False, cut=2),
    "lambda-loss": with_settings(
        lambda_loss, lambda_loss_oracle, invariant=(True, False), whole=False, mu=2.0
    ),
    "lambda-loss-swaps": with_settings(
        lambda_loss, lambda_loss_oracle, invariant=(True, False), whole=False, weights="lambdarank"
    ),
    "bce": labels(pointwise_bce, pointwise_bce_oracle, invariant=(False, True)),
    "bce-logits": with_settings(
        pointwise_bce, pointwise_bce_oracle, invariant=(False, False), targets="logits"
    ),
    "bce-probabilities": with_settings(
        pointwise_bce, pointwise_bce_oracle, invariant=(False, False), targets="probabilities"
    ),
    "bce-in-batch": Case(
        *in_batch(pointwise_bce, pointwise_bce_oracle, targets="logits"), invariant=(False, False)
    ),
    "z-loss": labels(z_loss, z_loss_oracle),
    "z-loss-sharp": labels(z_loss, z_loss_oracle, a=3.0, b=1.0),
    "multi-similarity": labels(multi_similarity, multi_similarity_oracle, invariant=(False, True)),
    "multi-similarity-unmined": labels(
        multi_similarity, multi_similarity_oracle, invariant=(False, True), beta=5.0, margin=None
    ),
    "multi-similarity-in-batch": Case(
        *in_batch(multi_similarity, multi_similarity_oracle), reads_teacher=False, invariant=(False, True)
    ),
    "adr-mse": Case(adr_mse, adr_mse_oracle),
    "adr-mse-cold": with_settings(adr_mse, adr_mse_oracle, temperature=0.1),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def bits(*rows):
    return torch.tensor([[c == "1" for c in row] for row in rows])


def batch(dtype=torch.float64):
    """A full row, one of a single document, one without positives, several positives, no document."""
    rng = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 5, 6, generator=rng, dtype=torch.float64).mul(2).to(dtype)
    mask = bits("111111", "010000", "111101", "110111", "000000")
    positive = bits("100000", "010000", "000000", "110010", "100010")
    return student, teacher, positive, mask


def value_and_gradient(loss, student, *rest):
    student = student.clone().requires_grad_()
    value = loss(student, *rest)
    value.backward()
    return value.detach(), student.grad


@every
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1e-22, 1e-20, 1e-12, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_that_hardly_differ_have_a_finite_gradient(case, size, dtype):
    """So small that their squares are 0, or they are themselves; the norm of the gradient is finite too."""
    student, *rest = batch(dtype)
    value, gradient = value_and_gradient(case.loss, (student * size).to(dtype), *rest)
    assert value.isfinite() and gradient.float().square().sum().isfinite()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-30, 1e-20, 1e-12, 1e-6])
@pytest.mark.parametrize("loss", [Harmonic(), Relations(), RelevanceMargin(), MixedNegatives()], ids=str)
def test_embeddings_that_hardly_have_a_length_have_a_finite_gradient(loss, size):
    """What divides by a length or a distance: of each text's own, and of two equal ones."""
    student, _, whole, _ = of_the_batch()
    queries = (student.queries.vectors.detach().float() * size).requires_grad_()
    documents = (student.documents.vectors.detach().float() * size).requires_grad_()
    vectors = Embeddings(queries), Embeddings(documents)
    small = Outputs(student.scores.detach().float(), None, *vectors, scale=student.scale)
    other = of_the_batch(seed=1)[0]
    value = value_of(loss, small, other, whole)
    value.backward()
    assert value.isfinite()
    for side in (queries, documents):
        assert side.grad is None or side.grad.square().sum().isfinite()


@every
def test_value_is_that_of_plain_loops(case):
    student, teacher, positive, mask = batch()
    batches = [(student, teacher, positive, mask)]
    for seed in range(30):  # every row and density of labels that chance brings, none and all included
        rng = torch.Generator().manual_seed(seed)
        positive, mask = torch.rand(2, 4, 5, generator=rng) < torch.rand(2, 1, 1, generator=rng)
        batches.append((*torch.randn(2, 4, 5, generator=rng, dtype=torch.float64), positive, mask))
    for inputs in batches:
        expected = case.oracle(*(x.tolist() for x in inputs))
        assert case.loss(*inputs).shape == ()
        # torch's softplus(x) is x above 20, which drops e^-20 = 2e-9.
        assert case.loss(*inputs).item() == pytest.approx(expected, rel=1e-12, abs=3e-9)


@pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items() if c.whole])
def test_gradient_is_that_of_the_value(case):
    student, *rest = batch()
    assert torch.autograd.gradcheck(lambda s: case.loss(s, *rest), student.requires_grad_())


@every
def test_order_of_columns_does_not_matter(case):
    """A loss that takes column 0 for the positive would change."""
    value, gradient = value_and_gradient(case.loss, *batch())
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    permuted_value, permuted = value_and_gradient(case.loss, *(x[:, order] for x in batch()))
    torch.testing.assert_close(permuted_value, value)
    torch.testing.assert_close(permuted, gradient[:, order])


SHIFTED = [(name, side) for name, case in CASES.items() for side in (0, 1) if case.invariant[side]]


@pytest.mark.parametrize(("name", "side"), SHIFTED)
def test_adding_a_constant_to_a_row_changes_nothing(name, side):
    inputs = list(batch())
    before = CASES[name].loss(*inputs)
    inputs[side] = inputs[side] + torch.tensor([[3.0], [-1.0], [0.5], [10.0], [2.0]])
    torch.testing.assert_close(CASES[name].loss(*inputs), before)


@every
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_padding_equals_its_absence_whatever_is_there(case, garbage):
    """Padding at -inf makes 0 * inf = NaN, in the value or only in the gradient."""
    inputs = batch()
    value, gradient = value_and_gradient(case.loss, *inputs)
    order = torch.tensor([6, 0, 1, 7, 2, 3, 4, 5])
    filler = torch.full((5, 2), garbage, dtype=torch.float64)
    pads = filler, filler, torch.ones(5, 2, dtype=torch.bool), torch.zeros(5, 2, dtype=torch.bool)
    wide = [torch.cat([x, pad], dim=1)[:, order] for x, pad in zip(inputs, pads, strict=True)]
    wide_value, wide_gradient = value_and_gradient(case.loss, *wide)
    torch.testing.assert_close(wide_value, value)
    torch.testing.assert_close(wide_gradient[:, order < 6], gradient)
    assert (wide_gradient[:, order >= 6] == 0).all()


@every
def test_a_row_without_documents_equals_its_absence(case):
    value, gradient = value_and_gradient(case.loss, *batch())
    fewer_value, fewer = value_and_gradient(case.loss, *(x[:4] for x in batch()))
    torch.testing.assert_close(value, fewer_value)
    torch.testing.assert_close(gradient[:4], fewer)
    assert (gradient[4] == 0).all()


@every
@pytest.mark.parametrize("queries", [0, 2])
def test_a_batch_without_documents_is_zero_with_zero_gradient(case, queries):
    none = torch.zeros(queries, 3, dtype=torch.bool)
    scores = torch.ones(queries, 3)
    value, gradient = value_and_gradient(case.loss, scores, scores, none, none)
    assert value == 0 and (gradient == 0).all()


@every
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
        ([0.3], [5.0]),
        ([0.3, 0.1], [5.0, -2.0]),
        ([0.0, 0.0], [60.0, 0.0]),
        ([0.0, 0.0, 0.0], [1e4, 0.0, -1e4]),
        ([-1e4, 0.0, 1e4], [1e4, 0.0, -1e4]),
    ],
    ids=["ties", "G=1", "G=2", "gap-60", "gap-1e4", "opposite-1e4"],
)
def test_extremes_are_finite_and_exact(case, student, teacher):
    positive = torch.tensor([[True] + [False] * (len(student) - 1)])
    mask = torch.ones_like(positive)
    value, gradient = value_and_gradient(
        case.loss, torch.tensor([student]), torch.tensor([teacher]), positive, mask
    )
    expected = case.oracle([student], [teacher], positive.tolist(), mask.tolist())
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert gradient.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(case, dtype):
    student, teacher, positive, mask = batch(dtype)
    value, gradient = value_and_gradient(case.loss, student, teacher, positive, mask)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value, case.loss(student.float(), teacher.float(), positive, mask))


@every
@pytest.mark.parametrize("which", range(4), ids=["student", "teacher", "positive", "mask"])
@pytest.mark.parametrize("cut", [lambda x: x[:, :1], lambda x: x[:, 0], lambda x: x[:1]])
def test_one_input_of_another_shape_raises(case, which, cut):
    """(B,) against (B, 1) broadcasts to (B, B) and trains on nonsense."""
    inputs = list(batch())
    inputs[which] = cut(inputs[which])
    with pytest.raises(ValueError, match=r"must all be \(B, G\)"):
        case.loss(*inputs)


@every
def test_vectors_raise(case):
    with pytest.raises(ValueError, match=r"must all be \(B, G\)"):
        case.loss(*(x[0] for x in batch()))


@every
@pytest.mark.parametrize("which", [2, 3], ids=["positive", "mask"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_a_mask_that_is_not_bool_raises(case, which, dtype):
    """~ of an integer mask flips bits: ~1 is -2, which is true."""
    inputs = list(batch())
    inputs[which] = inputs[which].to(dtype)
    with pytest.raises(TypeError, match="must be bool"):
        case.loss(*inputs)


READ = [(name, side) for name, case in CASES.items() for side in (0, 1) if side == 0 or case.reads_teacher]


@pytest.mark.parametrize(("name", "side"), READ)
@pytest.mark.parametrize("column", [0, 3], ids=["positive", "negative"])
def test_a_valid_nan_shows_in_the_loss(name, side, column):
    """A hidden NaN is found only when the model is gone."""
    inputs = list(batch())
    inputs[side][0, column] = float("nan")
    assert CASES[name].loss(*inputs).isnan()


HUGE = {
    "beyond-float32": [3e38, -3e38, 2e38, 0.0, 1.0],
    "lowest": [-3.4e38, -3.3e38, -3.35e38, -3.4e38, -3.3e38],
    "one-lowest": [1.0, 3.0, -3.4e38, 2.0, 0.5],
    "tiny": [2.0**-149, 0.0, 2.0**-148, 1e-40, 0.0],
    "like": [1e8, 1e8 + 8, 1e8 + 16, 1e8 + 8, 1e8],
}


@pytest.mark.parametrize("name", ["kl", "kl-rescaled", "ranknet", "infonce", "infonce-margin"])
@pytest.mark.parametrize("teacher", HUGE.values(), ids=HUGE)
def test_teacher_scores_of_any_size_give_the_value_of_float64(name, teacher):
    """Padding above a real score took its share of the distribution, and 0 log 0 was NaN."""
    student = torch.tensor([[1.0, -2.0, 3.0, 0.5, 2.0], [0.0, 1.0, -1.0, 2.0, 4.0]])
    teacher = torch.tensor([teacher, teacher[::-1]])
    positive, mask = bits("10010", "01000"), bits("11110", "11111")
    case = CASES[name]
    value, gradient = value_and_gradient(case.loss, student, teacher, positive, mask)
    highest = teacher.double().amax(dim=1, keepdim=True)  # a shift changes none of these losses
    exact = (
        (teacher.double() - highest).tolist()
        if "kl" in name
        else [list(map(Fraction, x)) for x in teacher.tolist()]
    )
    oracle = case.oracle(student.tolist(), exact, positive.tolist(), mask.tolist())
    assert value.item() == pytest.approx(oracle, rel=1e-5, abs=1e-6)
    assert gradient.isfinite().all()


def test_margin_mse_ignores_pairs_that_it_does_not_count():
    """The square of two negatives' difference overflows; times 0 it made NaN of the whole batch."""
    student, positive, mask = torch.zeros(1, 3), bits("100"), bits("111")
    teacher = torch.tensor([[0.0, 1.2e19, -1.2e19]])
    value, gradient = value_and_gradient(margin_mse, student, teacher, positive, mask)
    assert value.item() == pytest.approx(1.44e38, rel=1e-6) and gradient.isfinite().all()


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), True, "1", None])
def test_a_temperature_is_finite_and_above_0(value):
    """An infinite one makes all scores equal: a loss without a gradient."""
    for make in (KLDivergence, partial(KLDivergence, 1.0)):
        with pytest.raises(ValueError, match="a temperature is a finite number above 0"):
            make(value)
    with pytest.raises(ValueError, match="temperature="):
        InfoNCE(value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, "1"])
def test_margins_and_weights_are_finite_numbers(value):
    with pytest.raises(ValueError, match="false_negative_margin="):
        InfoNCE(false_negative_margin=value)
    with pytest.raises(ValueError, match="weights="):
        WeightedSum({"kl": KLDivergence()}, {"kl": value})


def test_a_temperature_may_be_learnt():
    student, teacher, positive, mask = batch()
    temperature = torch.tensor(2.0, requires_grad=True)
    kl_divergence(student, teacher, positive, mask, temperature).backward()
    assert temperature.grad != 0
