"""What the environment says, and by half."""

import re
from pathlib import Path

import pytest
from commands import COMMANDS, child

from rankdistill.candidates import BM25, mine
from rankdistill.errors import InputError
from rankdistill.losses import KLDivergence
from rankdistill.runtime import processes
from rankdistill.runtime.environment import cache_folder
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student, static_student
from rankdistill.training import DistillationTrainer

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "rankdistill"


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
    with pytest.raises(InputError, match="collection='base': it must be a Collection; read_beir"):
        mine("base", [BM25(5)])
    with pytest.raises(InputError, match="table='scores.csv': it must be a ScoreTable; score_candidates"):
        DistillationTrainer(load_student(student_folder), "scores.csv", RandomSampler(), KLDivergence())


VARIABLES = [
    (
        "RANKDISTILL_CACHE_LIMIT",
        "abc",
        "RANKDISTILL_CACHE_LIMIT=abc: it must be a size such as 500MB or 10GB",
    ),
    (
        "RANKDISTILL_CACHE",
        f"{__file__}/cache",
        f"cannot be written, as {__file__} is a file; set it to a folder",
    ),
    (
        "RANKDISTILL_PRECISION",
        "bf16",
        "RANKDISTILL_PRECISION=bf16: it must be float32; unset, models compute",
    ),
    ("WORLD_SIZE", "two", "WORLD_SIZE=two in the environment: it must be a number of processes; unset it"),
    ("HF_HUB_ETAG_TIMEOUT", "soon", "HF_HUB_ETAG_TIMEOUT=soon in the environment: it must be whole seconds"),
]


@pytest.mark.parametrize(("name", "said", "message"), VARIABLES, ids=[name for name, *_ in VARIABLES])
def test_what_the_environment_says_is_checked_before_anything_is_imported(tmp_path, name, said, message):
    """A slip showed when embeddings were to be kept, minutes later, or in a traceback of an import."""
    (tmp_path / "torch.py").write_text("raise AssertionError('imported')")
    done = child(["-m", "rankdistill.train"], tmp_path, **{name: said})
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_checks_the_environment(tmp_path, command):
    done = child(["-m", "rankdistill", command], tmp_path, RANKDISTILL_CACHE_LIMIT="abc")
    assert done.returncode == 2
    assert done.stderr == "error: RANKDISTILL_CACHE_LIMIT=abc: it must be a size such as 500MB or 10GB\n"


def test_a_program_that_imports_the_library_is_not_ended(tmp_path):
    done = child(["-c", "import rankdistill; print('imported')"], tmp_path, RANKDISTILL_CACHE_LIMIT="abc")
    assert (done.returncode, done.stdout) == (0, "imported\n")


def test_variables_are_read_where_they_are_checked():
    """Each of the library's own is named, and every read of the environment is in one of these files."""
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    named = set(re.findall(r"RANKDISTILL_[A-Z_]+", "".join(sources.values())))
    assert named == {name for name, *_ in VARIABLES if name.startswith("RANKDISTILL")}
    reading = {path.stem for path, text in sources.items() if re.search(r"environ\b[.\[\]|]|getenv", text)}
    assert reading == {
        *("environment", "processes"),  # checked
        "posting",  # a key's, by the name that a field gives, which is checked with the field
        "hardware",  # oneDNN's, which takes any
        *("launch", "compare"),  # what is set for others
        "explain",  # Python's TMPDIR, in a message
    }
