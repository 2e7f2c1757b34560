"""The layers' weights and divergences, against loops by hand."""

import numpy as np
import pytest
import torch

from rankdistill.losses import layerwise
from rankdistill.runtime import processes

TEACHERS = np.array(
    [[[3.0, 1.0, -1.0], [0.0, 2.0, 1.0]], [[1.0, 1.5, 0.0], [2.0, 0.0, 0.5]]]
)  # (layers, B, G)
STUDENTS = np.array([[[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]], [[0.0, 2.0, 1.0], [0.5, 0.0, 3.0]]])
POSITIVE = np.array([[True, False, False], [False, False, True]])


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def expected(errors, temperature):
    """The value where the layers' InfoNCE are ``errors``."""
    divergences = []
    for students, teachers in zip(STUDENTS, TEACHERS, strict=True):
        pairs = [(softmax(t), softmax(s)) for t, s in zip(teachers, students, strict=True)]
        divergences.append(np.mean([(p * np.log(p / q)).sum() for p, q in pairs]))
    return float(softmax(-np.array(errors) / temperature) @ divergences)


def errors():
    return [
        np.mean([-np.log(softmax(t)[p]).item() for t, p in zip(teachers, POSITIVE, strict=True)])
        for teachers in TEACHERS
    ]


def value(temperature):
    scores = [[torch.from_numpy(layer) for layer in layers] for layers in (STUDENTS, TEACHERS)]
    positive = torch.from_numpy(POSITIVE)
    return layerwise(*scores, positive, torch.ones_like(positive), temperature).item()


@pytest.mark.parametrize("temperature", [0.5, 10.0])
def test_layers_that_rank_well_count_more(temperature):
    assert value(temperature) == pytest.approx(expected(errors(), temperature), abs=1e-6)


def test_the_weights_are_those_of_the_queries_of_all_processes(monkeypatch):
    """As if another process had half of the batch, of whose queries the layers' errors are 2 and 0.1."""
    others = torch.tensor([[2.0, 0.1]], dtype=torch.float64)
    monkeypatch.setattr(processes, "gather_rows", lambda tensor, fill=0: torch.cat([tensor, others]))
    mean = [(own + other) / 2 for own, other in zip(errors(), others[0].tolist(), strict=True)]
    assert value(0.5) == pytest.approx(expected(mean, 0.5), abs=1e-6)
    assert expected(mean, 0.5) != pytest.approx(expected(errors(), 0.5), abs=1e-2)


def test_errors_of_one_and_two_weigh_as_published():
    """lambda is (.524979, .475021); the second layer has nothing to learn, so that one is left."""
    teachers = [torch.tensor([[0.0, np.log(np.exp(error) - 1)]]) for error in (1, 2)]
    positive, mask = torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool)
    student = torch.tensor([[2.0, 0.0]])
    p, q = (softmax(scores[0].numpy()) for scores in (teachers[0], student))
    divergence = (p * np.log(p / q)).sum()
    found = layerwise([student, teachers[1]], teachers, positive, mask)
    assert found.item() == pytest.approx(0.524979 * divergence, abs=1e-6)
    one = layerwise([student], teachers[:1], positive, mask)
    assert one.item() == pytest.approx(divergence, abs=1e-6)
