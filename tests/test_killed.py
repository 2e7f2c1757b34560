"""A run that is killed resumes, and ends as if nothing had happened."""

import json
from functools import partial

import pytest
from commands import RESULTS, die, start, tiny_arguments

# where a run is killed: in which call of what
DEATHS = {
    "mining": ("rankdistill.candidates.mining:write_arrow", 1),
    "embedding": ("rankdistill.students.embed:_embed", 1),
    "scoring": ("rankdistill.teachers.cross_encoder:CrossEncoderTeacher.score", 2),
    "saving scores": ("rankdistill.scores.table:write_arrow", 1),
    "tokenising": ("rankdistill.students.fast.tokens:_build", 1),
    "warm-up": ("rankdistill.training.trainer:DistillationTrainer.training_step", 2),
    "distillation": ("rankdistill.training.trainer:DistillationTrainer.training_step", 8),
    "evaluation": ("rankdistill.evaluation.evaluator:Evaluator.measure", 2),
    "the last file": ("rankdistill.commands.summary:write_measures", 1),
}


# what a run of each kind of student sets
STUDENTS = {
    "static": ["student.dimensions=8"],
    "sparse": ["student.layers=1", "loss=kl_infonce_flops"],
    "late_interaction": ["student.dimensions=8"],
    "cross_encoder": [],
    "asymmetric": ["student.query.model=${student.model}"],
    "adapter": ["student.rank=3"],
    "matryoshka": ["student.dimensions=[8,4]"],
}


@pytest.fixture(scope="module")
def uninterrupted(beir, student_folder, cross_encoder_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    arguments = [
        *tiny_arguments(beir, student_folder, cross_encoder_folder),
        f"hydra.run.dir={folder / 'run'}",
    ]
    done = start("train", arguments, folder, RANKDISTILL_CACHE=str(folder / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("stage", DEATHS)
def test_a_killed_run_goes_on_to_the_same_result(tiny, tmp_path, uninterrupted, stage):
    """Killed anywhere, the same command in the same folder ends as if nothing had been."""
    arguments = [*tiny, f"hydra.run.dir={tmp_path / 'run'}"]
    killed = start("train", arguments, tmp_path, before=partial(die, *DEATHS[stage]))
    assert killed.returncode == 9, killed.stderr[-3000:]
    again = start("train", arguments, tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    for file in RESULTS:
        assert (uninterrupted / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file


def untimed(history):
    """The rows of the file without what no two runs have alike."""
    rows = json.loads(history.read_text())
    return [{k: v for k, v in row.items() if "second" not in k and "runtime" not in k} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_goes_on_to_the_same_result(
    beir, student_folder, cross_encoder_folder, tmp_path, student
):
    """Killed in its fourth step, after the checkpoint of the second."""
    tiny = tiny_arguments(beir, student_folder, cross_encoder_folder)
    arguments = [
        *(word for word in tiny if not word.startswith("warmup")),
        *("warmup=none", f"student={student}", *STUDENTS[student]),
        *(f"candidates.encoder={student_folder}", "trainer.learning_rate=0.01", "trainer.logging_steps=3"),
    ]
    whole, again = ([*arguments, f"hydra.run.dir={tmp_path / name}"] for name in ("whole", "again"))
    step = "rankdistill.training.trainer:DistillationTrainer.training_step"
    killed = start("train", again, tmp_path, before=partial(die, step, 4))
    assert killed.returncode == 9, killed.stderr[-3000:]
    for words in (whole, again):
        done = start("train", words, tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed: distillation, step 2" in done.stdout
    weights = sorted((tmp_path / "whole" / "model").rglob("*.safetensors"))
    assert weights
    for path in (*weights, *(tmp_path / "whole" / name for name in ("metrics.json", "per_query.csv"))):
        other = tmp_path / "again" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == other.read_bytes(), path
    histories = [untimed(tmp_path / name / "history.json") for name in ("whole", "again")]
    assert histories[0] == histories[1] and any("loss" in row for row in histories[0])
