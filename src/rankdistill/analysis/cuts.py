"""Training on a part of the queries, chosen by what the teacher's scores of their pools look like."""

from dataclasses import dataclass

import numpy as np

from rankdistill.analysis.distribution import check_statistic, query_statistics
from rankdistill.errors import InputError
from rankdistill.scores.table import ScoreTable


@dataclass(frozen=True)
class Cut:
    """Called with a score table: that of the queries between two quantiles of a statistic of their pools.

    ``by`` is one of ``STATISTICS``. In ascending order of it (equal ones as in the table), the queries from
    the share ``low`` up to the share ``high`` are kept, so that 0 to 0.25 and 0.25 to 1 are disjoint and
    together all. Queries with fewer than two documents are left out, unless all are kept, 0 to 1: then the
    table stays as it is. After the entropy cuts of arXiv 2505.21058, which are by value.
    """

    low: float = 0.0
    high: float = 1.0
    by: str = "entropy"

    def __post_init__(self):
        if not 0 <= self.low < self.high <= 1:
            raise InputError(
                f"cut: low={self.low}, high={self.high}: shares of the queries, 0 <= low < high <= 1"
            )
        check_statistic(by=self.by)

    def __call__(self, table: ScoreTable) -> ScoreTable:
        """Those queries of ``table``, in its order; raises ``InputError`` if there is none."""
        if (self.low, self.high) == (0, 1):
            return table
        queries = np.flatnonzero(np.diff(table.candidates.offsets) > 1)
        order = np.argsort(query_statistics(table)[self.by].to_numpy(), kind="stable")
        first, end = (round(share * len(queries)) for share in (self.low, self.high))
        if first == end:
            raise InputError(
                f"cut: of {len(queries)} queries none is between the shares {self.low} and {self.high}; "
                "widen it, or raise candidates.limit"
            )
        return table.take(np.sort(queries[order[first:end]]))


keep_lowest_quarter = Cut(0, 0.25)
keep_lower_half = Cut(0, 0.5)
keep_middle_half = Cut(0.25, 0.75)
keep_upper_half = Cut(0.5, 1)
keep_highest_quarter = Cut(0.75, 1)
drop_lowest_quarter = Cut(0.25, 1)
drop_highest_quarter = Cut(0, 0.75)
