"""Every public constructor and function, each parameter given what it cannot be: one clear error."""

import inspect
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytest
from conftest import WordTeacher, tables
from hydra.utils import instantiate
from omegaconf import OmegaConf

import rankdistill
from rankdistill.candidates import Random
from rankdistill.candidates.mining import Retriever
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked
from rankdistill.students import load_student
from rankdistill.teachers import EnsembleTeacher

WRONG = [None, "10", 10.5, -1, [], {}, object()]
NEEDED = {  # what a call needs at least; nothing unless it is here
    "Collection": {
        "name": "small",
        "document_ids": ["d"],
        "documents": ["a text"],
        "query_ids": ["q"],
        "queries": ["a query"],
        "qrels": {"train": {"q": {"d": 1}}},
    },
    "HTTPTeacher": {"address": "http://127.0.0.1:9/rerank"},
    "Run": {"ranking": {"q": [("d", 1.0)]}},
    "compare": {"a": {"q0": 1.0, "q1": 0.5}, "b": {"q0": 0.5, "q1": 0.0}},
    "from_pairs": {"pairs": pd.DataFrame({"query": ["a", "b"], "positive": ["c", "d"]})},
    "read_hub": {"name": "some/none"},
    "read_irds": {"id": "none"},
}
# They have no parameters, or are of the rooms losses and training, which check their own.
OTHERS = {
    *("InputError", "DistillationTrainer", "StepTeacher", "hold_out", "training_arguments"),
    *("InfoNCE", "KLDivergence", "MarginMSE", "RankNet", "WeightedSum"),
}
SLOW = {"demo_teacher", "python_functions"}  # called with what must be refused at once, alone


@pytest.fixture
def needed(collection, table, beir, student_folder, cross_encoder_folder, tmp_path):
    documents, queries, qrels = tables(collection)
    names = {"id": "_id", "query": "query-id", "document": "corpus-id", "grade": "score"}
    scores = tmp_path / "scores.csv"
    scores.write_text("query_id,document_id,score\nq1,d1,1\nq1,d2,0.5\n")
    texts = {"topics": "1\tw1\n", "qrels": "1 0 d1 1\n", "corpus": "d1\tw1\n"}
    for name, text in texts.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    student = load_student(student_folder, max_length=64, device="cpu")
    return NEEDED | {
        "CrossEncoderTeacher": {"model": cross_encoder_folder, "max_length": 64, "device": "cpu"},
        "Dense": {"model": student},
        "DenseTeacher": {"model": student},
        "EnsembleTeacher": {"teachers": {"words": WordTeacher()}},
        "FileTeacher": {"path": str(scores)},
        "LateInteractionTeacher": {"model": student_folder, "max_length": 64, "device": "cpu"},
        "ScoreTable": {"candidates": table.candidates, "scores": table.scores},
        "from_frames": {
            "documents": documents.rename(columns=names),
            "queries": queries.rename(columns=names),
            "qrels": qrels.rename(columns=names),
        },
        "load_student": {"model": student_folder, "max_length": 64, "device": "cpu"},
        "mine": {"collection": collection, "retrievers": [Random(3)]},
        "read_beir": {"path": beir},
        "read_scores": {"path": scores, "collection": collection},
        "read_trec": {name: str(tmp_path / f"{name}.tsv") for name in texts},
        "report": {"folder": tmp_path},
        "score_candidates": {"teacher": WordTeacher(), "candidates": table.candidates},
        "write_scores": {"table": table, "path": tmp_path / "written.csv"},
    }


@pytest.mark.parametrize("name", sorted({*rankdistill.__all__} - OTHERS))
def test_what_a_parameter_cannot_be_is_said(needed, tmp_path, monkeypatch, name):
    """Either it can be, or it is refused in a line; an object of no kind by the parameter's name."""
    monkeypatch.chdir(tmp_path)
    made = getattr(rankdistill, name)
    for parameter in inspect.signature(made).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for wrong in WRONG[-1:] if name in SLOW else WRONG:
            call = f"{name}({parameter.name}={wrong!r})"
            try:
                made(**{**needed.get(name, {}), parameter.name: wrong})
            except ValueError as error:  # of samplers' numbers it is Python's own
                named = parameter.name in str(error) or "a pandas DataFrame or" in str(error)
                assert named or (isinstance(error, InputError) and wrong is not WRONG[-1]), call
            except Exception as error:
                raise AssertionError(call) from error
            else:
                assert wrong is not WRONG[-1], f"{call} is taken"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rankdistill.Evaluator(k="10"), "k='10': it must be an integer"),
        (lambda: rankdistill.Evaluator(("AP",), "Flat", 10.0), "k=10.0: it must be an integer"),
        (lambda: EnsembleTeacher([WordTeacher()]), r"teachers=\[<.*: it must be a dict"),
        (lambda: rankdistill.Collection(*range(6)), "name=0: it must be a text"),
        (
            lambda: rankdistill.FileTeacher("a", invalid="drop"),
            "invalid='drop': it must be 'error' or 'skip'",
        ),
        (lambda: rankdistill.Random(True), "n=True: it must be an integer"),
        (lambda: rankdistill.mine([], []), r"collection=\[\]: it must be a Collection"),
    ],
)
def test_the_parameter_the_value_and_the_kind_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_checked_function_looks_as_before():
    @checked
    def scale(score: float, by: int = 2, *more: int, **named: str) -> float:
        """Doubles."""
        return score * by

    assert str(inspect.signature(scale)) == "(score: float, by: int = 2, *more: int, **named: str) -> float"
    assert scale.__name__ == "scale" and scale.__doc__ == "Doubles." and scale(1) == 2
    with pytest.raises(TypeError, match=r"scale\(\) missing 1 required positional argument: 'score'"):
        scale()


@pytest.mark.parametrize(
    ("kind", "takes", "refuses"),
    [
        (Any, [None, 1], []),
        (object, [None, 1], []),
        (int | None, [1, np.int32(1), None], [1.0, np.float64(1), True, "1"]),
        (float | None, [1, 0.5, np.float32(1), np.int64(1), None], [True, "1", [1.0]]),
        (bool, [True, np.bool_(True)], [0, "yes"]),
        (Literal["error", "skip"], ["skip", np.str_("skip")], ["drop", None, 1]),
        (Sequence[str], [["a"], ("a",), np.array(["a"]), pd.Series(["a"])], ["a", b"a", {"a": 1}, 1]),
        (str | Sequence[str], ["a", ["a"]], [1, None]),
        (Mapping[str, int], [{}, OmegaConf.create({"a": 1})], [[], "a"]),
        (Annotated[str, "a note"] | int, ["a", Path("a"), 1], [None, 1.5]),
        (Retriever, [Random(3), object()], []),
        (Random | None, [Random(3), type("Own", (Random,), {})(), None], ["a"]),
        ("int", ["what is no type is not looked at"], []),
    ],
)
def test_what_an_annotation_takes(kind, takes, refuses):
    def function(value): ...

    function.__annotations__["value"] = kind
    call = checked(function)
    for value in takes:
        call(value)
    for value in refuses:
        with pytest.raises(InputError, match="^value=.*: it must be "):
            call(value)


def test_a_checked_dataclass_is_one_as_before():
    random = pickle.loads(pickle.dumps(Random(np.int64(3), seed=1)))
    assert random == Random(3, 1) == replace(Random(5, 1), n=3)
    assert str(inspect.signature(Random)) == "(n: int = 10, seed: int = 0) -> None"
    assert instantiate({"_target_": "rankdistill.Random", "n": 3}) == Random(3)

    class Own(Random):
        def __init__(self, many: str):
            super().__init__(len(many))

    assert Own("abc").n == 3
    with pytest.raises(InputError, match="n='3': it must be an integer"):
        replace(random, n="3")
