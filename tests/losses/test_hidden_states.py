"""A student's layers against a teacher's, by loops."""

import numpy as np
import pytest
import torch
from embeddings import of_the_batch

from rankdistill.errors import InputError
from rankdistill.losses import HiddenStates, hidden_states
from rankdistill.losses.layerwise import matched
from rankdistill.vocabulary import Embeddings, Outputs


def layers(count, n=3, dimensions=4, seed=0):
    """The token embeddings and ``count`` layers."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count + 1, n, dimensions, generator=rng, dtype=torch.float64))


def test_three_layers_of_twelve_are_the_fourth_eighth_and_twelfth():
    assert [1 + i for i in matched(3, 12)] == [4, 8, 12]
    student, teacher = layers(3), layers(12, seed=1)
    errors = [
        np.mean([(student[i][a, b] - teacher[j][a, b]) ** 2 for a in range(3) for b in range(4)])
        for i, j in ((0, 0), (1, 4), (2, 8), (3, 12))
    ]
    assert hidden_states(student, teacher).item() == pytest.approx(sum(errors))


def outputs(count, dimensions=4, seed=0):
    student, *_ = of_the_batch(seed=seed)
    q, d = (layers(count, n, dimensions, seed + i) for i, n in enumerate((3, 12)))
    queries, documents = Embeddings(q[-1], layers=q), Embeddings(d[-1], layers=d)
    return Outputs(student.scores, queries=queries, documents=documents)


def test_it_is_the_sum_of_queries_and_documents_and_nothing_to_a_copy():
    _, _, batch, _ = of_the_batch()
    student, teacher, loss = outputs(2), outputs(4, seed=5), HiddenStates()
    sides = [
        hidden_states(getattr(student, side).layers, getattr(teacher, side).layers)
        for side in ("queries", "documents")
    ]
    assert loss(student, teacher, batch).item() == pytest.approx(sum(x.item() for x in sides))
    assert loss(student, student, batch) == 0


def test_its_gradient_reaches_every_layer():
    own = [layer.requires_grad_() for layer in layers(3)]
    hidden_states(own, layers(6, seed=1)).backward()
    assert all(layer.grad.abs().min() > 0 for layer in own)


def test_other_widths_and_shallower_teachers_are_refused():
    _, _, batch, _ = of_the_batch()
    with pytest.raises(
        InputError, match="layers have 4 dimensions, the teacher's 6; take a student of as many"
    ):
        HiddenStates()(outputs(2), outputs(2, dimensions=6), batch)
    with pytest.raises(InputError, match="the student has 4 layers, the teacher 2"):
        HiddenStates()(outputs(4), outputs(2), batch)
