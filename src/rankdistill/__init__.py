"""rankdistill: teach a fast retriever what a slow reranker knows."""

import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from rankdistill.starting import end_in_one_line

end_in_one_line()  # before what takes seconds to import

from rankdistill.candidates import BM25, Dense, Random, mine
from rankdistill.data import (
    Collection,
    ScoreTable,
    from_frames,
    from_pairs,
    python_functions,
    read_beir,
    read_hub,
    read_irds,
    read_scores,
    read_trec,
    write_scores,
)
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, Run, compare, report
from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, RankNet, WeightedSum
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler
from rankdistill.students import load_student
from rankdistill.teachers import (
    BM25Teacher,
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    FileTeacher,
    LateInteractionTeacher,
    demo_teacher,
    score_candidates,
)
from rankdistill.training import DistillationTrainer, hold_out, training_arguments

try:
    __version__ = version("rankdistill")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "BM25",
    "BM25Teacher",
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
    "LateInteractionTeacher",
    "MarginMSE",
    "Random",
    "RandomSampler",
    "RankNet",
    "Run",
    "ScoreTable",
    "StratifiedSampler",
    "WeightedSum",
    "compare",
    "demo_teacher",
    "from_frames",
    "from_pairs",
    "hold_out",
    "load_student",
    "mine",
    "python_functions",
    "read_beir",
    "read_hub",
    "read_irds",
    "read_scores",
    "read_trec",
    "report",
    "score_candidates",
    "training_arguments",
    "write_scores",
]


class _Package(ModuleType):
    """``mine`` and ``report`` are functions here and modules below: importing these must not rebind those."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
