"""rankdistill: teach a fast retriever what a slow reranker knows."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

from rankdistill.starting import end_in_one_line

end_in_one_line()  # before what takes seconds to import

if TYPE_CHECKING:
    from rankdistill.candidates import BM25, Dense, Random, mine  # type: ignore[no-redef]  # also a command
    from rankdistill.data import (  # type: ignore[no-redef]  # one of them is its module as well
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
    from rankdistill.evaluation import Evaluator, Run, compare, report  # type: ignore[no-redef]  # as mine
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


# Public names are looked up when they are first used: torch and its like take seconds to import.
_PLACES = {
    "candidates": ("BM25", "Dense", "Random", "mine"),
    "data": (
        "Collection",
        "ScoreTable",
        "from_frames",
        "from_pairs",
        "python_functions",
        "read_beir",
        "read_hub",
        "read_irds",
        "read_scores",
        "read_trec",
        "write_scores",
    ),
    "errors": ("InputError",),
    "evaluation": ("Evaluator", "Run", "compare", "report"),
    "losses": ("InfoNCE", "KLDivergence", "MarginMSE", "RankNet", "WeightedSum"),
    "samplers": ("HardNegativeSampler", "RandomSampler", "StratifiedSampler"),
    "students": ("load_student",),
    "teachers": (
        "BM25Teacher",
        "CrossEncoderTeacher",
        "DenseTeacher",
        "EnsembleTeacher",
        "FileTeacher",
        "LateInteractionTeacher",
        "demo_teacher",
        "score_candidates",
    ),
    "training": ("DistillationTrainer", "hold_out", "training_arguments"),
}
_PLACE = {name: place for place, names in _PLACES.items() for name in names}


class _Package(ModuleType):
    """``mine`` and ``report`` are functions here and modules below: importing these must not bind those."""

    def __getattr__(self, name: str) -> object:
        if name not in _PLACE:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{self.__name__}.{_PLACE[name]}"), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
