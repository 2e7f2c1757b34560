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
from rankdistill.evaluation import Run
from rankdistill.losses import KLDivergence
from rankdistill.runtime.checked import checked
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.teachers import EnsembleTeacher
from rankdistill.training import training_arguments

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
FOR_THE_LIBRARY = {  # methods that it calls itself, with arrays or tensors that it made
    *("select", "split", "anchors", "forward", "value", "pool", "texts_fingerprint", "ranker", "from_rows"),
    *("compute_loss", "create_optimizer", "create_scheduler", "get_decay_parameter_names", "log"),
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
        "DistillationTrainer": {
            "student": student,
            "table": table,
            "sampler": RandomSampler(1, 3),
            "loss": KLDivergence(),
            "args": training_arguments(str(tmp_path), max_steps=1, use_cpu=True, bf16=False),
        },
        "EnsembleTeacher": {"teachers": {"words": WordTeacher()}},
        "FileTeacher": {"path": str(scores)},
        "WeightedSum": {"losses": {"kl": KLDivergence()}, "weights": {"kl": 1.0}},
        "LateInteractionTeacher": {"model": student_folder, "max_length": 64, "device": "cpu"},
        "ScoreTable": {"candidates": table.candidates, "scores": table.scores},
        "from_frames": {
            "documents": documents.rename(columns=names),
            "queries": queries.rename(columns=names),
            "qrels": qrels.rename(columns=names),
        },
        "hold_out": {"table": table, "queries": 3},
        "load_student": {"model": student_folder, "max_length": 64, "device": "cpu"},
        "mine": {"collection": collection, "retrievers": [Random(3)]},
        "read_beir": {"path": beir},
        "read_scores": {"path": scores, "collection": collection},
        "read_trec": {name: str(tmp_path / f"{name}.tsv") for name in texts},
        "report": {"folder": tmp_path},
        "score_candidates": {"teacher": WordTeacher(), "candidates": table.candidates},
        "training_arguments": {"output_dir": str(tmp_path)},
        "write_scores": {"table": table, "path": tmp_path / "written.csv"},
    }


@pytest.fixture
def of_methods(collection, table, tmp_path):
    """What methods need, by the parameter's name, or of one method."""
    table.save(tmp_path / "table.arrow")
    Run({"q0": [("d0", 1.0)]}).write(tmp_path / "run.txt")
    return {
        "collection": collection,
        "candidates": table.candidates,
        "table": table,
        "query_rows": collection.query_rows("train"),
        "queries": ["w1 w2"],
        "documents": ["w2 w3"],
        "split": "train",
        "model": None,
        "run": Run({"q0": [("d0", 1.0)]}),
        "scored": {"q0": {"d0": 1.0}},
        "path": tmp_path / "written",
        "name": "scores",
        "weights": {"scores": 1.0},
        "repo_id": "some/none",
        "Run.read": {"path": tmp_path / "run.txt"},
        "DistillationTrainer.evaluate": {"eval_dataset": "test"},
        "ScoreTable.load": {"path": tmp_path / "table.arrow"},
        "ScoreTable.take": {"queries": [0, 1]},
        "rows": np.zeros((1, 1), int),
        "scores": np.ones((1, 1)),
    }


def walk(call, needed, name, parameters):
    """Each parameter given what it cannot be, or can: either is taken, or refused by the parameter's name."""
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.name == "ignore_keys":  # of transformers' signature, and not used
            continue
        for wrong in WRONG[-1:] if name in SLOW else WRONG:
            what = f"{name}({parameter.name}={wrong!r})"
            try:
                call(**{**needed, parameter.name: wrong})
            except ValueError as error:  # of samplers' numbers it is Python's own
                named = parameter.name in str(error) or "a pandas DataFrame or" in str(error)
                assert named or (isinstance(error, InputError) and wrong is not WRONG[-1]), what
            except Exception as error:
                raise AssertionError(what) from error
            else:
                assert wrong is not WRONG[-1], f"{what} is taken"


@pytest.mark.parametrize("name", sorted({*rankdistill.__all__} - {"InputError"}))
def test_what_a_parameter_cannot_be_is_said(needed, tmp_path, monkeypatch, name):
    """An object of no kind is taken by none."""
    monkeypatch.chdir(tmp_path)
    made = getattr(rankdistill, name)
    walk(made, needed.get(name, {}), name, inspect.signature(made).parameters)


def methods():
    for name in rankdistill.__all__:
        made = getattr(rankdistill, name)
        for method, function in vars(made).items() if inspect.isclass(made) else ():
            if method.startswith("_") or method in FOR_THE_LIBRARY:
                continue
            if isinstance(function, classmethod) or inspect.isfunction(function):
                yield f"{name}.{method}"


@pytest.mark.parametrize("name", sorted(methods()))
def test_what_a_method_cannot_take_is_said(needed, of_methods, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    kind, method = name.split(".")
    made = getattr(rankdistill, kind)
    if not isinstance(vars(made)[method], classmethod):
        made = made(**needed.get(kind, {}))
    call = getattr(made, method)
    parameters = inspect.signature(call).parameters
    given = {key: of_methods[key] for key in parameters if key in of_methods} | of_methods.get(name, {})
    walk(call, given, name, parameters)


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
