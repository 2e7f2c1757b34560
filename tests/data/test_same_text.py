import numpy as np
import pytest

from rankdistill.data.same_text import same_text

TEXTS = ["a b", "caf\u00e9", " a b\n", "A b", "cafe\u0301", "a  b", "c", "a b"]


def test_texts_are_the_same_but_for_normalisation_and_the_white_space_around_them():
    found = same_text(TEXTS)
    assert found.first.tolist() == [0, 1, 0, 3, 1, 5, 6, 0]
    assert found.repeated.tolist() == [True, True, True, False, True, False, False, True]


def test_folded_texts_are_the_same_but_for_case_and_all_white_space():
    found = same_text([*TEXTS, "CAFE\u0301", "STRASSE", "stra\u00dfe"], folded=True)
    assert found.first.tolist() == [0, 1, 0, 0, 1, 0, 6, 0, 1, 9, 9]
    assert same_text(["a b", "ab"], folded=True) is None


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b", "c"]])
def test_where_all_differ_there_is_nothing_to_know(texts):
    assert same_text(texts) is None


def test_rows_are_those_of_a_comparison_of_every_two():
    rng = np.random.default_rng(0)
    texts = [str(n) for n in rng.integers(0, 40, 100)]
    found = same_text(texts)
    for some in ([], [3], [7, 3, 50], range(100)):
        oracle = {j for i in some for j in range(100) if texts[i] == texts[j]}
        assert found.rows(some) == oracle
