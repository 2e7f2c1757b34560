import math

import pytest
import torch

from rankdistill.losses import KLDivergence, kl_divergence

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
    ],
    ids=["forward", "sides-swapped", "warm", "warm-rescaled"],
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
