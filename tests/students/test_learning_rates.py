"""Each kind of student is trained at a rate of its own, unless another is given."""

import pytest
from sentence_transformers.base.model import BaseModel

from rankdistill.commands.job import check_student
from rankdistill.commands.launch import compose, make
from rankdistill.commands.plan import plan

STATIC_QUERIES = ["student=asymmetric", "student.query.model=${student.model}"]


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (["student=minilm"], 5e-5),
        (["student=matryoshka", "student.dimensions=[8]"], 5e-5),
        (["student=sparse", "loss=kl_infonce_flops"], 5e-5),
        (["student=late_interaction", "student.dimensions=8"], 5e-5),
        (["student=cross_encoder"], 5e-5),
        (["student=static", "student.dimensions=8"], 3e-3),
        (STATIC_QUERIES, 3e-3),
        ([*STATIC_QUERIES, "student.freeze=query"], 5e-5),
        ([*STATIC_QUERIES, "student.freeze=null"], 5e-5),
        (["student=adapter"], 1e-3),
        (["student=static", "student.dimensions=8", "trainer.learning_rate=5e-5"], 5e-5),
        (["student=static", "student.dimensions=8", "distillation.trainer.learning_rate=0"], 0),
    ],
)
def test_what_is_not_given_is_the_students_own(words, rate, student_folder, tmp_path, caplog):
    """The log says which it is, and whose."""
    words = [*words, "warmup=none", f"student.model={student_folder}", "student.layers=null"]
    words = [word for word in words if word != "student.layers=null" or "student=sparse" in words]
    config = compose(*words)
    stages = plan(config, tmp_path)
    with caplog.at_level("INFO"):
        check_student(make(config.student, BaseModel), config, stages)
    (stage,) = stages
    assert stage.arguments.learning_rate == rate
    given = any("learning_rate" in word for word in words)
    said = "as it was set" if given else "the default of a "
    assert f"distillation: learning rate {rate:g}, {said}" in caplog.text


def test_a_rate_of_one_stage_is_not_the_others(student_folder, tmp_path):
    words = ["student=static", "student.dimensions=8", f"student.model={student_folder}"]
    config = compose(*words, "warmup.trainer.learning_rate=0.5")
    stages = plan(config, tmp_path)
    check_student(make(config.student, BaseModel), config, stages)
    assert [stage.arguments.learning_rate for stage in stages] == [0.5, 3e-3]
