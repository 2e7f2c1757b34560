from dataclasses import replace

import numpy as np
import pytest
import torch
from embeddings import SCALE, of_the_batch, vectors

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, PassageCentric, WeightedSum, info_nce, passage_centric
from rankdistill.losses.base import reads

ONE = torch.tensor([[True, False]])


def test_one_row():
    """q·p+ = 2, q·p- = 1, p+·p- = 1.5, of which a tenth counts."""
    student = torch.tensor([[2.0, 1.0]])
    among = torch.tensor([[[9.0, 1.5], [1.5, 9.0]]])
    term = passage_centric(student, among, ONE, ~ONE)
    assert term.item() == pytest.approx(0.474077, abs=1e-6)
    whole = 0.9 * info_nce(student, student, ONE, ONE | ~ONE) + 0.1 * term
    assert whole.item() == pytest.approx(0.329343, abs=1e-6)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("positives", [1, 2])
def test_value_is_that_of_plain_loops(in_batch, positives):
    student, teacher, batch, _ = of_the_batch(positives=positives)
    q, groups, d = vectors(student, batch)
    means = []
    for b, group in enumerate(groups):
        others = group[positives:]
        if in_batch:
            others = others + [d[u] for u in range(len(d)) if batch.negatives[b, u]]
        terms = [
            np.logaddexp.reduce([0.0, *(SCALE * ((p @ n).item() - (p @ q[b]).item()) for n in others)])
            for p in group[:positives]
        ]
        means.append(sum(terms) / positives)
    loss = PassageCentric(in_batch)
    assert loss(student, teacher, batch).item() == pytest.approx(np.mean(means), rel=1e-9)
    assert reads(loss) == {"queries", "documents"} | ({"in_batch"} if in_batch else set())


def test_it_sees_negatives_beside_the_positive_that_the_query_does_not():
    """What tells it from InfoNCE: a negative equal to the positive's text but for the query's direction."""
    apart, near = torch.tensor([[[9.0, -5.0], [-5.0, 9.0]]]), torch.tensor([[[9.0, 5.0], [5.0, 9.0]]])
    student = torch.tensor([[3.0, -3.0]])
    assert info_nce(student, student, ONE, ONE | ~ONE) < 0.01
    assert passage_centric(student, apart, ONE, ~ONE) < 0.01 < 2 < passage_centric(student, near, ONE, ~ONE)


def test_without_it_the_sum_is_infonce():
    student, teacher, batch, _ = of_the_batch()
    losses = {"infonce": InfoNCE(), "passages": PassageCentric()}
    value = WeightedSum(losses, {"infonce": 1.0, "passages": 0.0})(student, teacher, batch)
    expected = info_nce(student.scores, teacher.scores, batch.positive, batch.mask)
    torch.testing.assert_close(value, expected)


def test_a_student_that_does_not_say_its_scale_is_refused():
    student, teacher, batch, _ = of_the_batch()
    with pytest.raises(InputError, match="PassageCentric .* does not say its scale"):
        PassageCentric()(replace(student, scale=None), teacher, batch)
