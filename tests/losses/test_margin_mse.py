import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import MarginMSE, margin_mse

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_toy_group():
    assert margin_mse(S, T, FIRST, ALL).item() == 2.5  # mean of (1 - 2)² and (2 - 4)²
    assert MarginMSE()(S, T, FIRST, ALL).item() == 2.5


def test_several_positives_are_each_held_against_each_negative():
    """Positives are not compared with each other, nor documents with themselves."""
    assert margin_mse(S, T, torch.tensor([[True, True, False]]), ALL).item() == 2.5  # (2 - 4)², (1 - 2)²


def test_mean_is_over_pairs_of_the_whole_batch():
    """A query with two negatives counts twice as much as one with a single one."""
    student, teacher = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert margin_mse(student, teacher, FIRST.expand(2, 3), mask).item() == (1 + 1 + 16) / 3


@pytest.mark.parametrize("positive", [~ALL, ALL], ids=["no-positive", "all-positive"])
def test_without_a_pair_it_is_zero_with_zero_gradient(positive):
    student = S.clone().requires_grad_()
    value = margin_mse(student, T, positive, ALL)
    value.backward()
    assert value == 0 and (student.grad == 0).all()


def test_optimum_is_the_teacher_up_to_a_constant_per_row():
    teacher = torch.randn(4, 6, dtype=torch.float64)
    student = (teacher + torch.randn(4, 1)).requires_grad_()
    positive = torch.zeros(4, 6, dtype=torch.bool)
    positive[:, :2] = True
    value = margin_mse(student, teacher, positive, torch.ones_like(positive))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-20)
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_an_offset_of_one_side_costs_the_other_no_digit(side):
    student, teacher = torch.tensor([[0.25, -1.5, 3.125]]), torch.tensor([[16.0, 0.0, 8.0]])
    exact = margin_mse(student, teacher, FIRST, ALL).item()
    assert exact == ((1.75 - 16) ** 2 + (-2.875 - 8) ** 2) / 2
    if side == "teacher":
        assert margin_mse(student, teacher + 1e8, FIRST, ALL).item() == exact
    else:
        assert margin_mse(teacher + 1e8, student, FIRST, ALL).item() == exact


def test_scaling_one_side_changes_it():
    """Margins are compared as they are: a cosine student cannot reach a logit teacher's."""
    assert margin_mse(2 * S, T, FIRST, ALL).item() == 0
    assert margin_mse(S, 2 * T, FIRST, ALL).item() > 2.5


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [("positive", 2.5), ("teacher", 2.0), ("all", 2.0), ("all_with_diagonal", 12 / 9)],
)
def test_toy_group_by_its_pairs(pairs, expected):
    """The margins of 2, 4 and 2 are missed by 1, 2 and 1, in both directions."""
    assert MarginMSE(pairs)(S, T, FIRST, ALL).item() == pytest.approx(expected)


@pytest.mark.parametrize(("pairs", "sees"), [("positive", False), ("teacher", True), ("all", True)])
def test_without_labels_two_negatives_in_the_wrong_order_count(pairs, sees):
    assert (margin_mse(S, -T, ~ALL, ALL, pairs).item() > 1) is sees


def test_tied_teacher_scores_make_no_pair_and_no_nan():
    assert margin_mse(S, torch.zeros(1, 3), FIRST, ALL, "teacher").item() == 0


def test_pairs_of_another_kind_are_refused():
    with pytest.raises(InputError, match="pairs='every'"):
        MarginMSE("every")
