"""What the teacher's scores look like, in the pools and in the groups a sampler shows; plots."""

from rankdistill.analysis.active import ActiveCut
from rankdistill.analysis.agreement import agreement, false_negatives, label_auc, student_scores
from rankdistill.analysis.comparison import compare_samplers, kept_shares
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
from rankdistill.analysis.distribution import (
    STATISTICS,
    Distribution,
    pool_distribution,
    query_statistics,
    score_histogram,
    shown_distribution,
)
from rankdistill.analysis.locality import diameter, intrinsic_dimension, locality, log_density
from rankdistill.analysis.per_query import shown_table
from rankdistill.analysis.plots import (
    plot_agreement,
    plot_curves,
    plot_false_negatives,
    plot_gains,
    plot_kept,
    plot_learning_curve,
    plot_locality,
    plot_measures,
    plot_report,
    plot_score_distribution,
    plot_statistic,
    plot_student_scores,
    save_group_plots,
)
from rankdistill.analysis.rank_cuts import Disagreement, RoundTrip

__all__ = [
    "STATISTICS",
    "ActiveCut",
    "Cut",
    "Disagreement",
    "Distribution",
    "RoundTrip",
    "agreement",
    "compare_samplers",
    "diameter",
    "drop_highest_quarter",
    "drop_lowest_quarter",
    "false_negatives",
    "intrinsic_dimension",
    "keep_highest_quarter",
    "keep_lower_half",
    "keep_lowest_quarter",
    "keep_middle_half",
    "keep_upper_half",
    "kept_shares",
    "label_auc",
    "locality",
    "log_density",
    "plot_agreement",
    "plot_curves",
    "plot_false_negatives",
    "plot_gains",
    "plot_kept",
    "plot_learning_curve",
    "plot_locality",
    "plot_measures",
    "plot_report",
    "plot_score_distribution",
    "plot_statistic",
    "plot_student_scores",
    "pool_distribution",
    "query_statistics",
    "save_group_plots",
    "score_histogram",
    "shown_distribution",
    "shown_table",
    "student_scores",
]
