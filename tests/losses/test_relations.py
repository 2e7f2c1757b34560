from dataclasses import replace

import pytest
import torch
from embeddings import of_the_batch

from rankdistill.errors import InputError
from rankdistill.losses import Relations, relation_mse, relation_order
from rankdistill.losses.base import reads, reads_of_teacher
from rankdistill.vocabulary import Embeddings


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def test_the_relations_are_those_of_plain_loops():
    s, t = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), torch.randn(3, 5)
    terms = [(cosine(s[i], s[j]) - cosine(t[i], t[j])) ** 2 for i in range(3) for j in range(3)]
    assert relation_mse(s, t).item() == pytest.approx(sum(terms) / 9, rel=1e-5)


def test_the_order_is_that_of_plain_loops():
    s, t = torch.rand(2, 4), torch.rand(2, 4)
    terms = [
        max(0.0, 0.3 - (s[i, j] - s[i, k]).item())
        for i in range(2)
        for j in range(4)
        for k in range(4)
        if t[i, j] > t[i, k]
    ]
    assert relation_order(s, t, 0.3).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert relation_order(t, t, 0.0) == 0


def test_a_rotation_of_the_student_changes_the_cosine_term_alone():
    """What tells relations from embeddings."""
    student, _, batch, _ = of_the_batch(dimensions=6)
    teacher, *_ = of_the_batch(dimensions=6, seed=1)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    sides = student.queries.vectors, student.documents.vectors
    q, d = (Embeddings(vectors @ rotation) for vectors in sides)
    turned = replace(student, queries=q, documents=d)
    values = {
        name: [Relations(**weights)(one, teacher, batch).item() for one in (student, turned)]
        for name, weights in {
            "relations": {"cosine": 0, "order": 0},
            "order": {"cosine": 0, "relations": 0},
            "cosine": {"relations": 0, "order": 0},
        }.items()
    }
    assert values["relations"][0] == pytest.approx(values["relations"][1])
    assert values["order"][0] == pytest.approx(values["order"][1])
    assert values["cosine"][0] != pytest.approx(values["cosine"][1], rel=1e-3)


def test_a_teacher_of_the_same_embeddings_costs_the_orders_margin_alone():
    student, _, batch, texts = of_the_batch()
    value = Relations(margin=0.0)(student, student, batch)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert Relations(margin=0.5)(student, student, batch) > 0.1


def test_the_weights_are_those_of_the_three():
    student, _, batch, _ = of_the_batch()
    teacher, *_ = of_the_batch(seed=1)
    parts = [Relations(*(float(i == k) for k in range(3)))(student, teacher, batch) for i in range(3)]
    value = Relations()(student, teacher, batch)
    torch.testing.assert_close(value, 10 * parts[0] + 200 * parts[1] + 20 * parts[2])
    assert reads(Relations()) == reads_of_teacher(Relations()) == {"queries", "documents"}


def test_other_dimensions_do_without_the_cosine_term():
    student, _, batch, _ = of_the_batch(dimensions=6)
    teacher, *_ = of_the_batch(dimensions=9)
    with pytest.raises(InputError, match="the student has 6 dimensions, the teacher 9; set it to 0"):
        Relations()(student, teacher, batch)
    assert Relations(cosine=0)(student, teacher, batch).isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"margin": -1}, "margin=-1"), ({"cosine": 0, "relations": 0, "order": 0}, "one must be above 0")],
)
def test_settings_of_no_meaning_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Relations(**settings)
