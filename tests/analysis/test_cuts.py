import numpy as np
import pytest

from rankdistill import analysis
from rankdistill.analysis.cuts import (
    Cut,
    drop_highest_quarter,
    drop_lowest_quarter,
    keep_highest_quarter,
    keep_lower_half,
    keep_lowest_quarter,
    keep_middle_half,
    keep_upper_half,
)
from rankdistill.errors import InputError

# the wider the two scores lie apart, the lower the entropy: of q0 the fourth lowest, and so on
ORDER = [4, 8, 1, 6, 2, 7, 3, 5]


@pytest.fixture
def eight(table_of):
    return table_of([[10 - rank, 0.0] for rank in ORDER])


def kept(table):
    return sorted(ORDER[row] for row in table.candidates.query_rows)


@pytest.mark.parametrize(
    ("cut", "ranks"),
    [
        (keep_lowest_quarter, [1, 2]),
        (keep_lower_half, [1, 2, 3, 4]),
        (keep_middle_half, [3, 4, 5, 6]),
        (keep_upper_half, [5, 6, 7, 8]),
        (keep_highest_quarter, [7, 8]),
        (drop_lowest_quarter, [3, 4, 5, 6, 7, 8]),
        (drop_highest_quarter, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_cut_keeps_what_its_name_says(eight, cut, ranks):
    """The published code's upper quartile removes the upper quarter."""
    found = cut(eight)
    assert kept(found) == ranks
    assert (np.diff(found.candidates.query_rows) > 0).all()
    for i, row in enumerate(found.candidates.query_rows):
        assert found.pool(i)[1].tolist() == eight.pool(row)[1].tolist()


def test_another_statistic_cuts_otherwise(eight):
    """Range falls where entropy rises."""
    assert kept(Cut(0, 0.25, "range")(eight)) == [7, 8]


def test_cuts_that_meet_share_no_query_and_lose_none(table):
    parts = [Cut(low, high)(table) for low, high in ((0, 0.3), (0.3, 0.55), (0.55, 1))]
    rows = np.concatenate([part.candidates.query_rows for part in parts])
    assert sorted(rows) == table.candidates.query_rows.tolist()
    entropy = [analysis.query_statistics(part)["entropy"] for part in parts]
    assert entropy[0].max() <= entropy[1].min() and entropy[1].max() <= entropy[2].min()


def test_equal_entropies_are_cut_by_number(table_of):
    """By value, the quartiles of equal entropies would keep none of the queries, or all."""
    equal = table_of([[1, 0]] * 8)
    assert keep_middle_half(equal).candidates.query_rows.tolist() == [2, 3, 4, 5]


def test_pools_of_one_document_are_left_out_and_keep_no_others_place(table_of):
    found = keep_lower_half(table_of([[1.0], [9.0, 0], [0.0, 0], [1.0], [5.0, 0], [1.0, 0]]))
    assert found.candidates.query_rows.tolist() == [1, 4]


def test_all_is_the_table_itself(table):
    assert Cut()(table) is table


def test_cuts_that_cannot_be_are_said(table_of):
    for low, high in ((0.5, 0.5), (-0.1, 1), (0, 1.5), (0.9, 0.1), (float("nan"), 1)):
        with pytest.raises(InputError, match="shares of the queries, 0 <= low < high <= 1"):
            Cut(low, high)
    with pytest.raises(InputError, match="by='spread': it must be one of variance, std"):
        Cut(by="spread")
    with pytest.raises(InputError, match="of 2 queries none is between the shares 0.3 and 0.4"):
        Cut(0.3, 0.4)(table_of([[1, 0], [2, 0]]))
