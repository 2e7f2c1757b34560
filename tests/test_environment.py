"""What the environment says, and by half."""

from pathlib import Path

import pytest

from rankdistill.candidates import BM25, mine
from rankdistill.errors import InputError
from rankdistill.losses import KLDivergence
from rankdistill.runtime import processes
from rankdistill.runtime.cache import cache_folder
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student, static_student
from rankdistill.training import DistillationTrainer


@pytest.mark.parametrize(
    ("said", "message"),
    [("2", "WORLD_SIZE=2 in the environment, without RANK, LOCAL_RANK"), ("two", "WORLD_SIZE=two in the")],
)
def test_what_a_launcher_left_behind_is_named(said, message, monkeypatch):
    """accelerate ends in a traceback of a missing MASTER_ADDR."""
    for name in processes.MEETING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", said)
    with pytest.raises(InputError, match=message):
        processes.join()


def test_a_quoted_home_folder_is_the_home_folder(monkeypatch, tmp_path):
    """No shell expands ~ in a file of variables, and a folder of that name would be made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RANKDISTILL_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"


def test_a_model_may_be_given_as_a_path(student_folder):
    expected, found = (load_student(folder) for folder in (student_folder, Path(student_folder)))
    assert (expected.encode("w1") == found.encode("w1")).all()
    assert static_student(Path(student_folder), None).encode("w1").shape == expected.encode("w1").shape


def test_arguments_of_another_kind_are_named(student_folder, collection):
    with pytest.raises(InputError, match="collection: 'base' is no Collection; read_beir"):
        mine("base", [BM25(5)])
    with pytest.raises(InputError, match=r"table: 'scores.csv' is no ScoreTable; score_candidates"):
        DistillationTrainer(load_student(student_folder), "scores.csv", RandomSampler(), KLDivergence())
