import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import PlackettLuce, info_nce, plackett_luce

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_toy_group():
    """-log .665241, then 1 of {1, 0}: log(1 + 1/e)."""
    assert PlackettLuce()(S, T, FIRST, ALL).item() == pytest.approx(0.720868, abs=1e-6)
    assert PlackettLuce(places=2)(S, T, FIRST, ALL).item() == pytest.approx(0.720868, abs=1e-6)
    assert PlackettLuce(places=1)(S, T, FIRST, ALL).item() == pytest.approx(0.407606, abs=1e-6)


def test_of_the_teacher_only_the_order_counts():
    assert plackett_luce(S, T.exp(), FIRST, ALL) == plackett_luce(S, T, FIRST, ALL)
    reversed_order = plackett_luce(S, -T, FIRST, ALL).item()
    assert reversed_order == pytest.approx(2.407606 + 1.313262, abs=1e-6)


def test_equal_teacher_scores_are_in_the_students_order():
    """The likeliest of the orders that the teacher allows."""
    tied = torch.tensor([[1.0, 1.0, -1.0]])
    for student in (torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0]])):
        assert plackett_luce(student, tied, FIRST, ALL).item() == pytest.approx(0.720868, abs=1e-6)


def of_the_batch():
    student, teacher = torch.randn(2, 3, 4, dtype=torch.float64)
    in_batch, serves = torch.randn(3, 5, dtype=torch.float64), torch.rand(3, 5) < 0.7
    positive = torch.zeros(3, 4, dtype=torch.bool).scatter(1, teacher.argmax(dim=1, keepdim=True), True)
    return student, teacher, positive, torch.ones_like(positive), in_batch, serves


def test_the_first_place_over_the_batch_is_infonce_of_the_teachers_best():
    student, teacher, positive, mask, in_batch, serves = of_the_batch()
    value = PlackettLuce(places=1, in_batch=True)(student, teacher, positive, mask, in_batch, serves)
    expected = info_nce(student, teacher, positive, mask, in_batch=in_batch, in_batch_mask=serves)
    torch.testing.assert_close(value, expected)


def test_two_places_over_the_batch_are_syntrievers_two_cross_entropies():
    student, teacher, positive, mask, in_batch, serves = of_the_batch()
    second = teacher.masked_fill(positive, -math.inf).argmax(dim=1, keepdim=True)
    second = torch.zeros_like(positive).scatter(1, second, True)
    batch = {"in_batch": in_batch, "in_batch_mask": serves}
    expected = info_nce(student, teacher, positive, mask, **batch) + info_nce(
        student, teacher, second, mask & ~positive, **batch
    )
    value = PlackettLuce(places=2, in_batch=True)(student, teacher, positive, mask, in_batch, serves)
    torch.testing.assert_close(value, expected)


def test_weighted_by_the_teacher_it_is_flagembeddings_loop():
    """For each place in turn the cross-entropy of what is left, times the teacher's probability of it."""
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64)
    teacher = teacher.sort(dim=1, descending=True).values
    scores, expected = student.clone(), 0.0
    for i in range(4):
        terms = torch.nn.functional.cross_entropy(scores, torch.full((5,), i), reduction="none")
        expected = expected + (teacher.softmax(dim=1)[:, i] * terms).mean()
        scores = scores.index_fill(1, torch.tensor([i]), torch.finfo(scores.dtype).min)
    mask = torch.ones(5, 4, dtype=torch.bool)
    torch.testing.assert_close(PlackettLuce(weights="teacher")(student, teacher, ~mask, mask), expected)


def test_weighted_the_top_of_the_teachers_order_counts_most():
    """What tells it from ListMLE: a swap below the first is nearly free where the teacher is sure of it."""
    sure, swapped = torch.tensor([[9.0, 1.0, 0.0]]), torch.tensor([[5.0, 0.0, 1.0]])
    straight = torch.tensor([[5.0, 1.0, 0.0]])
    cost = {
        weights: (
            plackett_luce(swapped, sure, FIRST, ALL, weights=weights)
            - plackett_luce(straight, sure, FIRST, ALL, weights=weights)
        ).item()
        for weights in ("none", "teacher")
    }
    assert cost["none"] == pytest.approx(1.0, abs=1e-5) and 0 < cost["teacher"] < 1e-3


# CPRD: the negatives alone, the hardest of them, and of those the ones that are valid.

NEGATIVES = torch.tensor([[False, False, False]])


def test_one_valid_negative_of_three():
    student, teacher = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    loss = PlackettLuce(places=1, of="negatives")
    assert loss(student, teacher, NEGATIVES, ALL).item() == pytest.approx(0.554957, abs=1e-6)


def test_positives_are_no_part_of_the_order():
    student = torch.tensor([[9.0, 1.0, 0.5, -1.0]])
    teacher, positive = torch.tensor([[0.0, 3.0, 2.0, 1.0]]), torch.tensor([[True, False, False, False]])
    loss = PlackettLuce(places=1, of="negatives")
    value = loss(student, teacher, positive, torch.ones_like(positive))
    assert value.item() == pytest.approx(0.554957, abs=1e-6)


def test_the_order_of_easy_negatives_changes_nothing():
    """The test that tells CPRD from ListMLE."""
    student, teacher = torch.randn(2, 1, 8, dtype=torch.float64)
    positive, mask = torch.arange(8).unsqueeze(0) == 0, torch.ones(1, 8, dtype=torch.bool)
    easy = teacher[0, 1:].argsort(descending=True)[2:] + 1
    shuffled = teacher.clone()
    shuffled[0, easy] = teacher[0, easy.roll(1)]
    cprd = PlackettLuce(places=2, of="negatives")
    torch.testing.assert_close(
        cprd(student, shuffled, positive, mask), cprd(student, teacher, positive, mask)
    )
    assert plackett_luce(student, shuffled, positive, mask) != plackett_luce(student, teacher, positive, mask)


def test_only_the_hardest_by_the_student_are_ordered():
    student = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    teacher, mask = torch.tensor([[9.0, 1.0, 8.0, 2.0]]), torch.ones(1, 4, dtype=torch.bool)
    value = plackett_luce(student, teacher, ~mask, mask, places=1, of="negatives", hardest=2)
    assert value.item() == pytest.approx(math.log1p(math.exp(3.0 - 2.0)), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"places": 0}, "places=0"),
        ({"hardest": 1.5}, "hardest=1.5"),
        ({"weights": "first"}, "weights='first'"),
        ({"of": "positives"}, "of='positives'"),
    ],
)
def test_settings_of_no_meaning_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PlackettLuce(**settings)
