"""FAISS retrieval, runs, measures, significance."""

from rankdistill.evaluation.evaluator import Evaluation, Evaluator
from rankdistill.evaluation.report import Report, report
from rankdistill.evaluation.run import Run
from rankdistill.evaluation.significance import Comparison, compare

__all__ = ["Comparison", "Evaluation", "Evaluator", "Report", "Run", "compare", "report"]
