import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import KLDivergence, info_nce, kl_divergence

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("student", "teacher", "settings", "expected"),
    [
        (S, T, {}, 0.115611),
        (T, S, {}, 0.160115),
        (S, T, {"student_temperature": 2, "teacher_temperature": 2}, 0.060269),
        (S, T, {"student_temperature": 2, "teacher_temperature": 2, "rescale": True}, 0.241076),
        (S, T, {"direction": "reverse"}, 0.160115),
        (S, T, {"direction": "symmetric"}, 0.137863),
        (T, S, {"direction": "symmetric"}, 0.137863),
    ],
    ids=["forward", "sides-swapped", "warm", "warm-rescaled", "reverse", "symmetric", "symmetric-swapped"],
)
def test_toy_group(student, teacher, settings, expected):
    assert kl_divergence(student, teacher, FIRST, ALL, **settings).item() == pytest.approx(expected, abs=1e-6)
    assert KLDivergence(**settings)(student, teacher, FIRST, ALL).item() == pytest.approx(expected, abs=1e-6)


def test_is_the_soft_cross_entropy_less_the_teachers_entropy():
    p, log_q = T.softmax(1), S.log_softmax(1)
    entropy = -(p * p.log()).sum()
    torch.testing.assert_close(kl_divergence(S, T, FIRST, ALL) + entropy, -(p * log_q).sum())


def test_each_temperature_divides_its_own_side():
    value = kl_divergence(0.25 * S, 5 * T, FIRST, ALL, student_temperature=0.25, teacher_temperature=5)
    torch.testing.assert_close(value, kl_divergence(S, T, FIRST, ALL))


def test_mean_is_over_queries_not_over_documents():
    """Averaged over elements, it would shrink with the size of the group."""
    doubled = [torch.cat([x, x]) for x in (S, T, FIRST, ALL)]
    torch.testing.assert_close(kl_divergence(*doubled), kl_divergence(S, T, FIRST, ALL))


@pytest.mark.parametrize("positive", [~ALL, ALL], ids=["no-positive", "all-positive"])
def test_labels_are_not_used(positive):
    assert kl_divergence(S, T, positive, ALL) == kl_divergence(S, T, FIRST, ALL)


@pytest.mark.parametrize("rescale", [False, True])
def test_optimum_is_where_the_scaled_scores_agree_up_to_a_constant(rescale):
    teacher = 3 * torch.randn(4, 6, dtype=torch.float64)
    student = (teacher / 2.0 * 0.05 + torch.randn(4, 1)).requires_grad_()
    mask = torch.rand(4, 6) < 0.8
    value = kl_divergence(student, teacher, mask, mask, 0.05, 2.0, rescale)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_saturated_teacher_costs_the_students_log_probability():
    """An epsilon inside the logarithm would bound what a confident teacher can say."""
    value = kl_divergence(torch.zeros(1, 3), torch.tensor([[60.0, 0.0, 0.0]]), FIRST, ALL)
    assert value.item() == pytest.approx(math.log(3), rel=1e-6)


@pytest.mark.parametrize("name", ["student_temperature", "teacher_temperature"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_temperature_not_above_zero_raises(name, value):
    with pytest.raises(ValueError, match=name):
        KLDivergence(**{name: value})
    with pytest.raises(ValueError, match=name):
        kl_divergence(S, T, FIRST, ALL, **{name: value})


def test_forward_spreads_over_two_modes_and_reverse_takes_one():
    """What tells the directions apart: of a teacher with two modes and a student that can have only one."""
    teacher = torch.tensor([[4.0, -4.0, 4.0]])
    middle, mode = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[4.0, -4.0, -4.0]])
    forward, reverse = (
        [kl_divergence(s, teacher, FIRST, ALL, direction=which).item() for s in (middle, mode)]
        for which in ("forward", "reverse")
    )
    assert forward[0] < forward[1] and reverse[1] < reverse[0]


def test_jensen_shannon_is_at_most_the_logarithm_of_two():
    far = kl_divergence(1e3 * S, -1e3 * S, FIRST, ALL, direction="jensen_shannon")
    assert far.item() == pytest.approx(math.log(2))


def test_minmax_of_the_student_is_what_pylate_computes():
    """Theirs: (s - min) / (max - min + 1e-8), then the mean over the batch of KL to the teacher's softmax."""
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    low, high = student.min(dim=1, keepdim=True).values, student.max(dim=1, keepdim=True).values
    log_q = ((student - low) / (high - low + 1e-8)).log_softmax(dim=1)
    theirs = torch.nn.KLDivLoss(reduction="batchmean")(log_q, teacher.softmax(dim=1))
    positive = torch.zeros(4, 5, dtype=torch.bool)
    loss = KLDivergence(student_scores="minmax")
    torch.testing.assert_close(loss(student, teacher, positive, ~positive), theirs)
    torch.testing.assert_close(loss(7 * student + 3, teacher, positive, ~positive), theirs)


def of_the_batch(queries=3, group=4, more=5):
    student, teacher = torch.randn(2, queries, group, dtype=torch.float64)
    in_batch, known = torch.randn(2, queries, more, dtype=torch.float64)
    positive = torch.zeros(queries, group, dtype=torch.bool)
    positive[:, 0] = True
    return (
        student,
        teacher,
        positive,
        torch.ones_like(positive),
        in_batch,
        torch.rand(queries, more) < 0.7,
        known,
    )


def test_in_batch_is_the_divergence_over_all_documents_whose_scores_are_known():
    student, teacher, positive, mask, in_batch, serves, known = of_the_batch()
    known[0, :2] = math.nan
    counted = torch.cat([mask, serves & ~known.isnan()], dim=1)
    expected = kl_divergence(
        torch.cat([student, in_batch], dim=1),
        torch.cat([teacher, known], dim=1),
        torch.zeros_like(counted),
        counted,
    )
    loss = KLDivergence(in_batch=True)
    torch.testing.assert_close(loss(student, teacher, positive, mask, in_batch, serves, known), expected)
    assert loss.reads == {"in_batch"} and KLDivergence().reads == frozenset()
    assert KLDivergence()(student, teacher, positive, mask, in_batch, serves, known) != expected


def test_in_batch_a_teacher_sure_of_the_positive_gives_infonce():
    """TCT-ColBERT's teacher scores what the batch holds; where it is one-hot it says what the label says."""
    student, teacher, positive, mask, in_batch, serves, _ = of_the_batch()
    teacher = torch.where(positive, 1e4, 0.0).double()
    value = KLDivergence(in_batch=True)(
        student, teacher, positive, mask, in_batch, serves, torch.zeros_like(in_batch)
    )
    expected = info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=serves)
    torch.testing.assert_close(value, expected)


def test_in_batch_a_group_of_one_document_still_teaches():
    student, teacher, positive, mask, in_batch, serves, known = of_the_batch(group=1)
    assert KLDivergence()(student, teacher, positive, mask) == 0
    assert KLDivergence(in_batch=True)(student, teacher, positive, mask, in_batch, serves, known) > 0.01


def test_in_batch_without_the_batch_raises():
    student, teacher, positive, mask, in_batch, serves, _ = of_the_batch()
    with pytest.raises(ValueError, match="needs in_batch"):
        KLDivergence(in_batch=True)(student, teacher, positive, mask)
    with pytest.raises(ValueError, match="in_batch_teacher"):
        kl_divergence(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=serves)


@pytest.mark.parametrize("name", ["direction", "student_scores"])
def test_a_word_that_is_no_option_is_refused(name):
    with pytest.raises(InputError, match=f"{name}='backward': it must be"):
        KLDivergence(**{name: "backward"})
