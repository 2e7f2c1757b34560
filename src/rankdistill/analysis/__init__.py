"""What the teacher's scores look like, in the pools and in the groups a sampler shows; plots."""

from rankdistill.analysis.distribution import (
    Distribution,
    compare_samplers,
    group_scores,
    pool_distribution,
    shown_distribution,
)
from rankdistill.analysis.plots import plot_gains, plot_learning_curve, plot_report, plot_score_distribution

__all__ = [
    "Distribution",
    "compare_samplers",
    "group_scores",
    "plot_gains",
    "plot_learning_curve",
    "plot_report",
    "plot_score_distribution",
    "pool_distribution",
    "shown_distribution",
]
