import numpy as np
import pytest
from conftest import WordTeacher

from rankdistill.errors import InputError
from rankdistill.teachers import EnsembleTeacher


class Length:
    """Scores by the length of the document."""

    fingerprint = "length"

    def score(self, queries, documents):
        return np.array([len(d) for d in documents], dtype=np.float32)


QUERIES, DOCUMENTS = ["w1 w2", "w3", "w4 w5"], ["w1 w9 w2", "w4", "w5 w4 w6 w7"]


def ensemble(words, length, order=("words", "length")):
    teachers, weights = {"words": WordTeacher(), "length": Length()}, {"words": words, "length": length}
    return EnsembleTeacher({name: teachers[name] for name in order}, weights)


def test_it_is_the_weighted_sum():
    scores = ensemble(2.0, -0.5).score(QUERIES, DOCUMENTS)
    words = [2 - 3 / 40, 0 - 1 / 40, 2 - 4 / 40]
    assert scores == pytest.approx([2 * words[0] - 4, 2 * words[1] - 1, 2 * words[2] - 5.5], abs=1e-6)
    assert scores.shape == (3,) and scores.dtype == np.float32


def test_one_teacher_of_weight_one_is_that_teacher():
    alone = EnsembleTeacher({"words": WordTeacher()}, {"words": 1.0})
    assert np.array_equal(alone.score(QUERIES, DOCUMENTS), WordTeacher().score(QUERIES, DOCUMENTS))


def test_the_fingerprint_changes_with_weights_and_teachers():
    other = ensemble(1.0, 0.5)
    other.teachers["words"].fingerprint = "other words"
    made = [ensemble(1.0, 0.5), ensemble(0.5, 1.0), ensemble(1.0, 0.25), other]
    made.append(EnsembleTeacher({"words": WordTeacher()}, {"words": 1.0}))
    assert len({teacher.fingerprint for teacher in made} | {"words"}) == 6


def test_the_fingerprint_does_not_depend_on_the_order():
    assert ensemble(1.0, 0.5).fingerprint == ensemble(1.0, 0.5, ("length", "words")).fingerprint


@pytest.mark.parametrize("weights", [{}, {"words": 1.0, "more": 1.0}, {"word": 1.0}])
def test_weights_of_other_names_raise(weights):
    with pytest.raises(InputError, match="teachers are .'words'., weights are for"):
        EnsembleTeacher({"words": WordTeacher()}, weights)


def test_no_teacher_raises():
    with pytest.raises(InputError):
        EnsembleTeacher({}, {})
