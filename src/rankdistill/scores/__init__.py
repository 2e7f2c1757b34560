"""The score table: what teachers say of candidates, its columns, and the files that people keep it in."""

from rankdistill.scores.formats import read_scores, write_scores
from rankdistill.scores.relabel import relabelled
from rankdistill.scores.table import ScoreTable

__all__ = ["ScoreTable", "read_scores", "relabelled", "write_scores"]
