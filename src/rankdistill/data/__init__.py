"""Collections and their readers, candidates, and the score table."""

from rankdistill.data.beir import read_beir, write_beir
from rankdistill.data.candidates import Candidates
from rankdistill.data.collection import Collection
from rankdistill.data.formats import read_scores, write_scores
from rankdistill.data.python_functions import python_functions
from rankdistill.data.scores import ScoreTable

__all__ = [
    "Candidates",
    "Collection",
    "ScoreTable",
    "python_functions",
    "read_beir",
    "read_scores",
    "write_beir",
    "write_scores",
]
