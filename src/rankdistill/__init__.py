"""rankdistill: teach a fast retriever what a slow reranker knows."""

from importlib.metadata import PackageNotFoundError, version

from rankdistill.candidates import BM25, Dense, Random, mine
from rankdistill.data import (
    Collection,
    ScoreTable,
    python_functions,
    read_beir,
    read_scores,
    write_scores,
)
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, Run, compare, report
from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, WeightedSum
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler
from rankdistill.students import load_student
from rankdistill.teachers import (
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    FileTeacher,
    demo_teacher,
    score_candidates,
)
from rankdistill.training import DistillationTrainer, training_arguments

try:
    __version__ = version("rankdistill")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "BM25",
    "Collection",
    "CrossEncoderTeacher",
    "Dense",
    "DenseTeacher",
    "DistillationTrainer",
    "EnsembleTeacher",
    "Evaluator",
    "FileTeacher",
    "HardNegativeSampler",
    "InfoNCE",
    "InputError",
    "KLDivergence",
    "MarginMSE",
    "Random",
    "RandomSampler",
    "Run",
    "ScoreTable",
    "StratifiedSampler",
    "WeightedSum",
    "compare",
    "demo_teacher",
    "load_student",
    "mine",
    "python_functions",
    "read_beir",
    "read_scores",
    "report",
    "score_candidates",
    "training_arguments",
    "write_scores",
]
