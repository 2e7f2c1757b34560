"""rankdistill: teach a fast retriever what a slow reranker knows."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from rankdistill.runtime.starting import start_command

start_command()  # before what takes seconds to import

if TYPE_CHECKING:
    from rankdistill.candidates import BM25, Dense, Random, mine
    from rankdistill.data import (
        Collection,
        from_frames,
        from_pairs,
        python_functions,
        read_beir,
        read_hub,
        read_irds,
        read_trec,
    )
    from rankdistill.errors import InputError
    from rankdistill.evaluation import Evaluator, Run, compare, report
    from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, RankNet, WeightedSum
    from rankdistill.samplers import (
        AmbiguousSampler,
        BalancedMarginSampler,
        EnsembleSampler,
        HardNegativeSampler,
        RandomSampler,
        StratifiedSampler,
    )
    from rankdistill.scores import ScoreTable, read_scores, write_scores
    from rankdistill.students import load_student
    from rankdistill.teachers import (
        BM25Teacher,
        CrossEncoderTeacher,
        DenseTeacher,
        EnsembleTeacher,
        FileTeacher,
        HTTPTeacher,
        LateInteractionTeacher,
        demo_teacher,
        score_candidates,
    )
    from rankdistill.training import DistillationTrainer, StepTeacher, hold_out, training_arguments

try:
    __version__ = version("rankdistill")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "AmbiguousSampler",
    "BM25",
    "BM25Teacher",
    "BalancedMarginSampler",
    "Collection",
    "CrossEncoderTeacher",
    "Dense",
    "DenseTeacher",
    "DistillationTrainer",
    "EnsembleSampler",
    "EnsembleTeacher",
    "Evaluator",
    "FileTeacher",
    "HTTPTeacher",
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
    "StepTeacher",
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


# Public names are looked up when they are first used: torch and its like take seconds to import.
_PLACES = {
    "candidates": ("BM25", "Dense", "Random", "mine"),
    "data": (
        "Collection",
        "from_frames",
        "from_pairs",
        "python_functions",
        "read_beir",
        "read_hub",
        "read_irds",
        "read_trec",
    ),
    "errors": ("InputError",),
    "evaluation": ("Evaluator", "Run", "compare", "report"),
    "losses": ("InfoNCE", "KLDivergence", "MarginMSE", "RankNet", "WeightedSum"),
    "samplers": (
        "AmbiguousSampler",
        "BalancedMarginSampler",
        "EnsembleSampler",
        "HardNegativeSampler",
        "RandomSampler",
        "StratifiedSampler",
    ),
    "scores": ("ScoreTable", "read_scores", "write_scores"),
    "students": ("load_student",),
    "teachers": (
        "BM25Teacher",
        "CrossEncoderTeacher",
        "DenseTeacher",
        "EnsembleTeacher",
        "FileTeacher",
        "HTTPTeacher",
        "LateInteractionTeacher",
        "demo_teacher",
        "score_candidates",
    ),
    "training": ("DistillationTrainer", "StepTeacher", "hold_out", "training_arguments"),
}
_PLACE = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
