"""Plots, one function each; every one draws on ``ax`` (or a new figure) and returns the axes."""

from rankdistill.analysis.plots.agreement import plot_agreement, plot_false_negatives, plot_student_scores
from rankdistill.analysis.plots.axes import save
from rankdistill.analysis.plots.groups import save_group_plots
from rankdistill.analysis.plots.locality import plot_locality
from rankdistill.analysis.plots.report import plot_curves, plot_report
from rankdistill.analysis.plots.run import save_run_plots
from rankdistill.analysis.plots.scores import plot_kept, plot_score_distribution, plot_statistic
from rankdistill.analysis.plots.training import plot_gains, plot_learning_curve, plot_measures

__all__ = [
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
    "save",
    "save_group_plots",
    "save_run_plots",
]
