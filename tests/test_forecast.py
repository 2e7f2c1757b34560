"""What a run says it will take, before it begins."""

import pytest

from rankdistill.commands import forecast as module
from rankdistill.commands.train import compose, distil
from rankdistill.students import load_student

SECONDS = {"document": 1.0, "query": 10.0, "pair": 100.0}
DOCUMENTS, QUERIES, MEASURED = 60, 12, 5
POOL = 8 + 5 + 6 + 1  # of BM25, dense, random, and a positive


def without_teacher(words):
    return [word for word in words if not word.startswith("teacher")]


@pytest.fixture
def parts(monkeypatch):
    """The parts of each run, where texts and pairs take ``SECONDS`` and the rest of a step 2."""
    made = []

    def watch(*arguments):
        made.append(forecast(*arguments))
        return made[-1]

    forecast = module.forecast
    monkeypatch.setattr("rankdistill.commands.train.forecast", watch)
    monkeypatch.setattr(module.Forecast, "_of_one", lambda self, model, kind, work, texts: SECONDS[kind])
    monkeypatch.setattr(module, "STEP", 2.0)
    monkeypatch.setattr(module, "SAVED", float("inf"))
    return made


def test_parts_are_counted_in_texts_and_pairs_that_are_not_there_yet(small_job, parts, tmp_path):
    distil(compose(*small_job), tmp_path / "first")
    distil(compose(*small_job, "trainer.max_steps=2", "evaluation.teacher=2"), tmp_path / "second")
    distil(compose(*small_job, "trainer.max_steps=5", "evaluation.teacher=2"), tmp_path / "third")
    mined = DOCUMENTS + 10 * QUERIES
    warmup = 2 * (2 + QUERIES * 3 * (10 + 3))  # two epochs of a batch, of groups of three
    step = 2 + 4 * 3 * (10 + 4)
    queries, after = 10.0 * MEASURED, DOCUMENTS + 10.0 * MEASURED
    first, second, third = (dict(enumerate(seconds for _, seconds in part)) for part in parts)
    assert [name for name, _ in parts[0]] == [
        module.TABLES,
        module.MEASURING,
        "warmup",
        "distillation",
        module.MEASURING,
    ]
    assert first == {0: mined + 100 * QUERIES * POOL, 1: queries, 2: warmup, 3: 3 * step, 4: after}
    asked = queries + 10 * MEASURED + 100 * 2 * POOL  # the retriever's queries, then the teacher
    assert second == {0: 0, 1: asked, 2: warmup, 3: 2 * step, 4: after}
    assert third == {0: 0, 1: queries, 2: warmup * 5 / 2, 3: 5 * step, 4: after}


def test_a_teacher_of_ones_own_is_not_asked_to_find_out(small_job, parts, tmp_path, caplog):
    with caplog.at_level("INFO"):
        distil(compose(*without_teacher(small_job), "teacher=bm25"), tmp_path / "run")
    said = next(x.getMessage() for x in caplog.records if x.name == module.__name__)
    assert f"not counted: {QUERIES * POOL} pairs of BM25Teacher" in said


def test_texts_are_timed_as_the_model_reads_them(student_folder, collection):
    student = load_student(str(student_folder))
    costs, training = module.Forecast(collection), student.training
    a_query = costs.text(student, "query")
    assert 0 < a_query == costs.text(student, "query")  # timed once
    assert student.training == training


def test_steps_that_were_made_are_not_counted(small_job, parts, tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    measured = "rankdistill.commands.train.passing_index"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(measured, killed)
        distil(compose(*small_job), tmp_path / "run")
    distil(compose(*small_job), tmp_path / "run")
    assert dict(parts[1][2:4]) == {"warmup": 0.0, "distillation": 0.0}


def test_checkpoints_are_counted(small_job, parts, tmp_path, monkeypatch):
    """Of 2 s 20 s became where one was written every three steps."""
    job = [word for word in small_job if not word.startswith(("warmup", "trainer.save"))]
    job += ["warmup=none", "trainer.max_steps=6"]
    distil(compose(*job, "trainer.save_strategy=no"), tmp_path / "none")
    distil(compose(*job, "trainer.save_steps=3"), tmp_path / "free")
    monkeypatch.setattr(module, "SAVED", 1000.0)
    distil(compose(*job, "trainer.save_steps=3"), tmp_path / "two")
    none, free, two = (dict(part)["distillation"] for part in parts)
    student = load_student(str(tmp_path / "two" / "model"))
    assert none == free and two - free == pytest.approx(
        2 * 3 * 4 * sum(x.numel() for x in student.parameters()) / 1000
    )


def test_no_checkpoints_take_no_time(small_job, parts, tmp_path):
    """save_steps=0, transformers' word for none until the end."""
    distil(compose(*small_job, "trainer.save_steps=0", "warmup=none"), tmp_path / "run")
    assert [module.times(6, every) for every in (0, 2, 0.25)] == [0, 3, 4]
