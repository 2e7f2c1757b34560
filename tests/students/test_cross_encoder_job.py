"""student=cross_encoder from end to end."""

import json

import pytest
from commands import POOLS
from conftest import write_collection
from sentence_transformers import CrossEncoder

from rankdistill.commands import finetune_teacher
from rankdistill.commands.train import compose, distil
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.runtime.folders import RunFolder
from rankdistill.students import cross_encoder as students
from rankdistill.students import load_model, load_student
from rankdistill.training import stages


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(students, "has_bf16", lambda: False)


@pytest.fixture
def folder(wide_cross_encoder_folder):
    return wide_cross_encoder_folder


@pytest.fixture
def job(beir, student_folder, folder):
    return [
        "plots=false",
        "student=cross_encoder",
        "data=beir",
        f"data.path={beir}",
        f"student.model={folder}",
        "student.max_length=64",
        f"candidates.encoder={student_folder}",
        *POOLS,
        "sampler.negatives=3",
        "trainer.per_device_train_batch_size=4",
        "trainer.gradient_accumulation_steps=1",
        "trainer.save_steps=1",
        "trainer.bf16=false",
    ]


def read(place, name):
    return json.loads((place / name).read_text())


def test_the_whole_job_ends_alike_after_a_kill(
    job, folder, collection, student_folder, tmp_path, monkeypatch
):
    teacher = ["teacher=cross_encoder", f"teacher.model={folder}", "teacher.max_length=64"]
    config = compose(*job, *teacher)
    assert config.scores.teacher_scale == 1 and "loss" not in config.warmup
    distil(config, tmp_path / "run")

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stages, "finish", kill)
        with pytest.raises(KeyboardInterrupt):
            distil(config, tmp_path / "again")
    distil(config, tmp_path / "again")
    assert read(tmp_path / "again", "conditions.json")["resumed"] == ["distillation, step 4"]
    for name in ("metrics.json", "per_query.csv", "model/model.safetensors", "history.json", "run.trec.gz"):
        assert (tmp_path / "again" / name).exists()
    for name in ("metrics.json", "per_query.csv", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    metrics = read(tmp_path / "run", "metrics.json")
    assert list(metrics) == ["before", "retrieved", "after", "teacher"]
    assert metrics["before"] == metrics["teacher"], "it begins as its teacher"
    encoder = load_student(student_folder, max_length=64)
    retrieved = Evaluator().evaluate(encoder, collection)
    assert metrics["retrieved"] == {**retrieved.mean, "queries": len(retrieved.per_query["AP"])}
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-ranking" in card and "from sentence_transformers import CrossEncoder" in card
    model = load_model(str(tmp_path / "run" / "model"))
    assert isinstance(model, CrossEncoder) and model.max_seq_length == 64


def test_at_rate_0_before_and_after_are_equal_and_dev_queries_are_reranked(job, tmp_path):
    more = ["trainer.learning_rate=0", "evaluation.dev_queries=4", "trainer.eval_strategy=steps"]
    more += ["trainer.eval_steps=2", "teacher=bm25", "trainer.load_best_model_at_end=true"]
    distil(compose(*job, *more), tmp_path / "run")
    metrics = read(tmp_path / "run", "metrics.json")
    assert metrics["before"] == metrics["after"]
    watched = [row["eval_nDCG@10"] for row in read(tmp_path / "run", "history.json") if "eval_nDCG@10" in row]
    assert len(watched) >= 1 and len(set(watched)) == 1


def test_card_and_conditions_count_the_pairs_that_are_cut(job, collection, tmp_path):
    job = [*job, "student.max_length=20", "trainer.max_steps=1", "teacher=none", "loss=lce", "sampler=random"]
    distil(compose(*job), tmp_path / "run")
    conditions = read(tmp_path / "run", "conditions.json")
    assert conditions["task"].startswith("reranking ") and len(conditions["task"]) > len("reranking ")
    truncated = conditions["truncated"]
    assert set(truncated) == {"training pairs", "measured pairs"}
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    for name, counts in truncated.items():
        assert 0 < counts["longer"] < counts["of"] and counts["tokens"] == 20
        assert f"* {counts['longer']} of {counts['of']} {name} (" in card
    assert card.count(" are longer than 20 tokens, query and document together, and are cut.") == 2


def test_labels_are_enough(job, tmp_path):
    """As finetune_teacher trains: no teacher scores, and none is measured."""
    distil(compose(*job, "teacher=none", "loss=lce", "sampler=random"), tmp_path / "run")
    assert list(read(tmp_path / "run", "metrics.json")) == ["before", "retrieved", "after"]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| teacher | none, labels alone |" in card and "no teacher's scores were in the loss" in card
    distil(compose(*job, "teacher=none", "loss=kl", "sampler=random"), tmp_path / "kl")
    assert "slower" not in (tmp_path / "kl" / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("split", "shared", "of"), [("train", 16, 16), ("test", 1, 8)])
def test_a_teacher_measured_on_queries_that_it_was_trained_on_says_so(
    split, shared, of, folder, student_folder, tmp_path, monkeypatch, caplog
):
    """Of the test split one query has the text of a training query."""
    queries = write_collection(tmp_path / "beir") / "queries.jsonl"
    lines = queries.read_text().splitlines(keepends=True)
    lines[20] = json.dumps(json.loads(lines[3]) | {"_id": "q20"}) + "\n"
    queries.write_text("".join(lines))
    words = [f"model={folder}", "data=beir", f"data.path={tmp_path / 'beir'}", f"evaluation.split={split}"]
    words += [f"candidates.encoder={student_folder}", *POOLS, "negatives=3", "max_length=64", "plots=false"]
    config = compose(*words, "trainer.max_steps=1", name="finetune_teacher")
    with RunFolder(tmp_path / "run", config) as place:
        finetune_teacher.run(config, place)
    said = f"{shared} of the {of} measured queries are training queries too, by id or by text"
    assert f"{said}: evaluation.split={split}, candidates.split=train" in caplog.messages
    assert f"* {said}." in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert read(tmp_path / "run", "conditions.json")["queries"]["evaluation"]["trained on"] == shared


def test_a_loss_that_it_cannot_serve_is_refused_before_anything_is_mined(job, tmp_path):
    with pytest.raises(InputError, match="WeightedSum reads in_batch, which the student, CrossEncoder"):
        distil(compose(*job, "loss=kl_infonce"), tmp_path / "run")
    with pytest.raises(InputError, match="scores.scale=20: a cross-encoder"):
        distil(compose(*job, "scores.scale=20"), tmp_path / "run")
