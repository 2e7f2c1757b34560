import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, info_nce

NAN = float("nan")
S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def first_positive(shape):
    positive = torch.zeros(shape, dtype=torch.bool)
    positive[:, 0] = True
    return positive, torch.ones_like(positive)


def test_toy_group():
    assert info_nce(S, T, FIRST, ALL).item() == pytest.approx(0.407606, abs=1e-6)
    assert InfoNCE()(S, T, FIRST, ALL).item() == pytest.approx(0.407606, abs=1e-6)


def test_equal_scores_cost_the_logarithm_of_the_groups_size():
    value = info_nce(torch.zeros(2, 8), torch.randn(2, 8), *first_positive((2, 8)))
    assert value.item() == pytest.approx(math.log(8))


def test_temperature_divides_the_scores():
    torch.testing.assert_close(info_nce(S, T, FIRST, ALL, 0.05), info_nce(S / 0.05, T, FIRST, ALL))


def test_the_positive_is_the_labelled_one_not_the_teachers_favourite():
    last = torch.tensor([[False, False, True]])
    assert info_nce(S, T, last, ALL).item() == pytest.approx(2.407606, abs=1e-6)
    assert info_nce(S, -T, last, ALL) == info_nce(S, T, last, ALL)


def test_several_positives_are_each_held_against_the_negatives_alone():
    both = info_nce(S, T, torch.tensor([[True, True, False]]), ALL)
    apart = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1))]  # each against the last document
    assert both.item() == pytest.approx(sum(apart) / 2)


@pytest.mark.parametrize("positive", [~ALL, ALL], ids=["no-positive", "all-positive"])
def test_without_a_positive_or_a_negative_it_is_zero_with_zero_gradient(positive):
    student = S.clone().requires_grad_()
    value = info_nce(student, T, positive, ALL)
    value.backward()
    assert value == 0 and (student.grad == 0).all()


def test_a_query_without_positives_is_left_out_of_the_mean():
    two = [torch.cat([x, x]) for x in (S, T, FIRST, ALL)]
    two[2][1] = False
    torch.testing.assert_close(info_nce(*two), info_nce(S, T, FIRST, ALL))


def test_a_finite_loss_has_a_finite_gradient():
    """A NaN score of a query without positives must either show or do no harm."""
    student = torch.tensor([[2.0, 1.0], [NAN, 0.0]], requires_grad=True)
    positive = torch.tensor([[True, False], [False, False]])
    value = info_nce(student, torch.zeros(2, 2), positive, torch.ones_like(positive))
    value.backward()
    assert value.isnan() or student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0, -0.1, NAN])
def test_a_temperature_not_above_zero_raises(temperature):
    with pytest.raises(ValueError, match="temperature"):
        InfoNCE(temperature)
    with pytest.raises(ValueError, match="temperature"):
        info_nce(S, T, FIRST, ALL, temperature)


# Negatives from the batch.


def random_in_batch(queries=3, group=4, more=5):
    student, teacher = torch.randn(2, queries, group, dtype=torch.float64)
    in_batch, known = torch.randn(2, queries, more, dtype=torch.float64)
    valid = torch.rand(queries, more) < 0.7
    return student, teacher, *first_positive(student.shape), in_batch, valid, known


def test_in_batch_counts_each_document_once_and_no_known_positive():
    """Documents of several groups would count twice; another query's document may be relevant to this one."""
    ids = [[0, 1, 2], [3, 1, 4], [5, 0, 6], [7, 8, 9]]  # 1 is in two groups; 0 a positive and a negative
    known = [{0, 4}, {3}, {5, 1}, {7, 8}]  # 4 and 1 are in another group, 8 in the same
    mask = torch.tensor([[True, True, True], [True, True, True], [True, True, False], [True, True, True]])
    queries, documents = torch.randn(4, 8, dtype=torch.float64), torch.randn(10, 8, dtype=torch.float64)
    scores = (queries @ documents.T).tolist()

    expected = 0.0
    rows = list(zip(ids, known, strict=True))
    shown = set(torch.tensor(ids)[mask].tolist())  # without 6, which is padding
    for row, (group, relevant) in enumerate(rows):
        negatives = sum(math.exp(scores[row][i]) for i in shown - relevant)
        own = [math.exp(scores[row][i]) for i in group if i in relevant]
        expected -= sum(math.log(p / (p + negatives)) for p in own) / len(own) / len(ids)

    unique = sorted(shown)
    serves = torch.tensor([[i not in relevant.union(group) for i in unique] for group, relevant in rows])
    student = torch.tensor([[scores[row][i] for i in group] for row, group in enumerate(ids)])
    positive = torch.tensor([[i in relevant for i in group] for group, relevant in rows])
    value = InfoNCE(in_batch=True)(
        student, torch.zeros_like(student), positive, mask, queries @ documents[unique].T, serves
    )
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_in_batch_has_the_gradient_of_its_value():
    student, teacher, positive, mask, in_batch, valid, known = random_in_batch()
    mask[1, 2] = False

    def loss(student, in_batch):
        return info_nce(student, teacher, positive, mask, 0.5, 0.3, in_batch, valid, known)

    assert torch.autograd.gradcheck(loss, (student.requires_grad_(), in_batch.requires_grad_()))


@pytest.mark.parametrize("garbage", [NAN, float("inf"), -float("inf")])
def test_in_batch_documents_that_do_not_serve_equal_their_absence(garbage):
    student, teacher, positive, mask, in_batch, _, _ = random_in_batch()
    valid = torch.tensor([True, False, True, True, False]).expand(3, 5)
    fewer = {"in_batch": in_batch[:, valid[0]], "in_batch_mask": torch.ones(3, 3, dtype=torch.bool)}
    rest = info_nce(student, teacher, positive, mask, **fewer)
    in_batch[~valid] = garbage
    in_batch.requires_grad_()
    value = info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), rest)
    assert (in_batch.grad[~valid] == 0).all() and (in_batch.grad[valid] > 0).all()


def test_in_batch_is_unchanged_by_a_constant_on_all_scores_of_a_query():
    student, teacher, positive, mask, in_batch, valid, _ = random_in_batch()
    before = info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=valid)
    shift = torch.tensor([[5.0], [-2.0], [0.5]])
    after = info_nce(student + shift, teacher, positive, mask, in_batch=in_batch + shift, in_batch_mask=valid)
    torch.testing.assert_close(after, before)


def test_the_module_uses_in_batch_scores_only_when_told_to():
    student, teacher, positive, mask, in_batch, valid, _ = random_in_batch()
    value = InfoNCE()(student, teacher, positive, mask, in_batch, valid)
    assert value == info_nce(student, teacher, positive, mask)
    value = InfoNCE(0.5, in_batch=True)(student, teacher, positive, mask, in_batch, valid)
    assert value == info_nce(student, teacher, positive, mask, 0.5, in_batch=in_batch, in_batch_mask=valid)


@pytest.mark.parametrize("change", ["no-mask", "narrow-mask", "other-queries"])
def test_in_batch_of_another_shape_raises(change):
    student, teacher, positive, mask, in_batch, valid, _ = random_in_batch()
    valid = {"no-mask": None, "narrow-mask": valid[:, :1], "other-queries": valid[:2]}[change]
    in_batch = in_batch[:2] if change == "other-queries" else in_batch
    with pytest.raises(ValueError, match="in_batch"):
        info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=valid)


# Negatives that look like unlabelled positives. The margin is 0.25; a score at the limit stays.

LIMITS = pytest.mark.parametrize(
    ("positives", "others", "kept"),
    [
        ([5.0], [5.0, 4.875, 4.75, -3.0, NAN], [False, False, True, True, True]),
        ([-2.0], [1.0, -2.0, -2.125, -2.25, NAN], [False, False, False, True, True]),
        ([5.0, -2.0], [4.0, -2.125, -2.25, -9.0, NAN], [False, False, True, True, True]),
    ],
    ids=["scores-above-0", "scores-below-0", "lowest-positive-counts"],
)


@LIMITS
def test_margin_leaves_out_high_scored_negatives_of_the_group(positives, others, kept):
    teacher = torch.tensor([positives + others])
    positive = torch.tensor([[True] * len(positives) + [False] * len(others)])
    student, mask = torch.randn(teacher.shape), torch.ones_like(positive)
    value = InfoNCE(false_negative_margin=0.25)(student, teacher, positive, mask)
    fewer = info_nce(student, teacher, positive, positive | torch.tensor([[False] * len(positives) + kept]))
    torch.testing.assert_close(value, fewer)


@LIMITS
def test_margin_leaves_out_high_scored_negatives_of_the_batch(positives, others, kept):
    """NaN is a pair that no teacher scored: it stays a negative."""
    teacher, known = torch.tensor([positives + [-50.0]]), torch.tensor([others])
    positive = torch.tensor([[True] * len(positives) + [False]])
    student, in_batch = torch.randn(teacher.shape), torch.randn(known.shape)
    mask, valid = torch.ones_like(positive), torch.ones(known.shape, dtype=torch.bool)
    loss = InfoNCE(in_batch=True, false_negative_margin=0.25)
    value = loss(student, teacher, positive, mask, in_batch, valid, known)
    fewer = info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=torch.tensor([kept]))
    torch.testing.assert_close(value, fewer)


def test_margin_without_the_teachers_in_batch_scores_raises():
    student, teacher, positive, mask, in_batch, valid, known = random_in_batch()
    for missing in (None, known[:, :1]):
        with pytest.raises(ValueError, match="in_batch_teacher"):
            info_nce(student, teacher, positive, mask, 1.0, 0.1, in_batch, valid, missing)


def test_padding_does_not_set_the_limit():
    """A padded positive with a low score would leave every negative out."""
    teacher, student = torch.tensor([[3.0, 1.0, -90.0]]), torch.randn(1, 3)
    positive, mask = torch.tensor([[True, False, True]]), torch.tensor([[True, True, False]])
    value = info_nce(student, teacher, positive, mask, false_negative_margin=0.5)
    assert value == info_nce(student, teacher, positive, mask) and value > 0


# Several positives, and queries that are answered already.

TWO = torch.tensor([[True, True, False]])


def test_at_least_one_positive():
    value = info_nce(S, T, TWO, ALL, positives="any")
    assert value.item() == pytest.approx(0.094344, abs=1e-6)
    assert InfoNCE(positives="any")(S, T, FIRST, ALL).item() == pytest.approx(0.407606, abs=1e-6)
    assert info_nce(S, T, ALL, ALL, positives="any").item() == 0


def test_at_least_one_positive_pulls_the_one_that_is_best_already():
    """A planted false positive far below costs the mean over positives most, and this nearly nothing."""
    student, positive = torch.tensor([[3.0, -3.0, 0.0]]), TWO

    def pull(which):
        scores = student.clone().requires_grad_()
        info_nce(scores, T, positive, ALL, positives=which).backward()
        return scores.grad[0]

    assert pull("any")[0] < 20 * pull("any")[1] < 0
    assert pull("each")[1] < 10 * pull("each")[0] < 0


def test_the_sum_of_equal_positives_is_as_many_times_as_sharp():
    student = torch.tensor([[0.5, 0.5, 0.5, 1.0]])
    positive, mask = torch.tensor([[True, True, True, False]]), torch.ones(1, 4, dtype=torch.bool)
    value = InfoNCE(positives="sum")(student, student, positive, mask)
    assert value.item() == pytest.approx(math.log1p(math.exp(1.0 - 3 * 0.5)), abs=1e-6)
    assert info_nce(S, T, FIRST, ALL, positives="sum") == info_nce(S, T, FIRST, ALL)


@pytest.mark.parametrize(("focus", "expected"), [(0.0, 0.407606), (0.5, 0.235834), (2.0, 0.045678)])
def test_focus_of_the_toy_group(focus, expected):
    assert InfoNCE(focus=focus)(S, T, FIRST, ALL).item() == pytest.approx(expected, abs=1e-6)


def test_focus_is_a_factor_without_a_gradient():
    """The gradient is that of plain InfoNCE times (1 - q)^gamma, query by query."""
    student = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 2.0, 0.5]], requires_grad=True)
    positive, mask = FIRST.expand(2, 3), ALL.expand(2, 3)
    (focused,) = torch.autograd.grad(info_nce(student, student, positive, mask, focus=2.0), student)
    (plain,) = torch.autograd.grad(info_nce(student, student, positive, mask), student)
    weight = (1 - student.detach().softmax(dim=1)[:, :1]) ** 2
    torch.testing.assert_close(focused, weight * plain)
    assert weight[0] < 0.2 < weight[1]  # the answered query counts less


@pytest.mark.parametrize(
    ("settings", "message"), [({"positives": "all"}, "positives='all'"), ({"focus": -1}, "focus=-1")]
)
def test_settings_of_no_meaning_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        InfoNCE(**settings)
