"""The main job from Python, and what it may be resumed from."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_collection
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from rankdistill.analysis import Cut
from rankdistill.commands import train as module
from rankdistill.commands.launch import make
from rankdistill.commands.measuring import asked_queries, evaluated, measured_how, measured_scores
from rankdistill.commands.plan import plan
from rankdistill.commands.summary import used_queries
from rankdistill.commands.tables import Source, measured_and_trained, training_queries
from rankdistill.commands.train import compose, distil
from rankdistill.data import read_beir
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, report
from rankdistill.evaluation.training_runs import read_runs
from rankdistill.losses import MarginMSE
from rankdistill.scores import ScoreTable
from rankdistill.teachers import DenseTeacher, FileTeacher


@pytest.fixture
def job(small_job):
    """A configuration whose collection and models may be changed in place."""
    return compose(*small_job, "warmup=none")


CHANGES = {
    "student": "student/model.safetensors",
    "teacher": "teacher/model.safetensors",
    "collection": "beir/corpus.jsonl",
}


@contextmanager
def changed(file):
    """Other weights or texts in place, for a while."""
    whole = file.read_bytes()
    if file.suffix == ".jsonl":
        file.write_bytes(whole.replace(b"w1 ", b"w2 "))
    else:
        weights = load_file(file)
        name = next(name for name in weights if "word_embeddings" in name)
        save_file(weights | {name: weights[name] * 1.1}, file, {"format": "pt"})
    yield
    file.write_bytes(whole)


class Killed(BaseException):
    pass


def killed(monkeypatch, config, folder, place="commands.train.evaluated"):
    """A run that ends at ``place``, a function that it calls, by its module's name."""
    with monkeypatch.context() as patched:
        patched.setattr(f"rankdistill.{place}", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            distil(config, folder)


def test_a_damaged_checkpoint_is_no_place_to_have_resumed_from(job, tmp_path, monkeypatch):
    """What results say of resuming is noted when the checkpoint was found whole."""
    job.trainer = {**job.trainer, "save_strategy": "steps", "save_steps": 1}
    with monkeypatch.context() as patched:
        patched.setattr("rankdistill.training.checkpoints.check_weights", lambda _: stop())
        with pytest.raises(Killed):
            distil(job, tmp_path / "run")
    (file,) = sorted((tmp_path / "run").glob("checkpoints/*/checkpoint-*/model.safetensors"))[-1:]
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="model.safetensors: damaged"):
        distil(job, tmp_path / "run")
    shutil.rmtree(file.parents[1])
    distil(job, tmp_path / "run")
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert not any("step" in where and not where.endswith("step 0") for where in conditions["resumed"])


def stop():
    raise Killed


def test_another_number_of_processes_cannot_go_on_with_a_run(job, tmp_path, monkeypatch):
    """They would see other batches: it would end as no run from the beginning does."""
    killed(monkeypatch, job, tmp_path / "run", "commands.train.passing_index")
    two = {"queries": 8, "processes": 2, "accumulated": 1, "per device": 4}
    with monkeypatch.context() as patched:
        patched.setattr(module, "batch_of", lambda _: two)
        with pytest.raises(InputError, match="checkpoints: begun with another number of processes"):
            distil(job, tmp_path / "run")
    distil(job, tmp_path / "run")


def open_to(job):
    """``job`` as a configuration that takes parts of other names."""
    return OmegaConf.create(OmegaConf.to_container(job))


def test_stages_are_a_list(job, tmp_path):
    """Two of one's own: what each lacks is that of the whole."""
    job = open_to(job)
    job.stages = ["close", "far"]
    job.close = {"loss": {"_target_": "rankdistill.losses.MarginMSE"}, "scores": {"teacher_scale": 0.5}}
    job.far = {"sampler": {"_target_": "rankdistill.samplers.RandomSampler", "negatives": 2}}
    job.far.trainer = {"max_steps": 1}
    distil(job, tmp_path / "run")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert list(dict.fromkeys(row["stage"] for row in history)) == ["close", "far"]
    first, second = plan(job, tmp_path)
    whole = make(job.loss)
    assert [type(stage.loss) for stage in (first, second)] == [MarginMSE, type(whole)] != [type(whole)] * 2
    assert type(first.sampler) is type(make(job.sampler)) is not type(second.sampler)
    assert [stage.scores["teacher_scale"] for stage in (first, second)] == [0.5, "match"]
    assert second.arguments.max_steps == 1
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "MarginMSE" in card


def test_a_run_says_what_was_cut_for_its_refreshes(small_job, tmp_path):
    more = ["warmup=none", "refresh=student", "refresh.steps=1", "refresh.n=10", "teacher.max_length=20"]
    distil(compose(*small_job, *more, "trainer.max_steps=3", "plots=true"), tmp_path / "run")
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    cut = conditions["truncated"]["refreshed pairs"]
    rows = [row["cut"] for row in json.loads((tmp_path / "run" / "history.json").read_text()) if "cut" in row]
    assert len(rows) == 2 and cut["of"] == sum(row["refreshed pairs"]["of"] for row in rows)
    assert 0 < cut["longer"] < cut["of"] and cut["tokens"] == 20
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"* {cut['longer']} of {cut['of']} refreshed pairs (" in card


def test_a_stage_may_have_a_teacher_of_its_own_inside_the_step(job, tmp_path, monkeypatch):
    """Trained with the student, saved beside it, part of what the run is resumed from."""
    job = open_to(job)
    job.stages = ["first", "second"]
    teacher = {"_target_": "rankdistill.training.StepTeacher", "trained": True}
    model = {"_target_": "rankdistill.students.load_cross_encoder", "model": str(tmp_path / "teacher")}
    model["max_length"] = 20
    loss = {"_target_": "rankdistill.losses.Joint"}
    job.first = {"step_teacher": teacher | {"model": model}, "loss": loss, "trainer": {"max_steps": 2}}
    job.second = {"step_teacher": {"_target_": teacher["_target_"], "model": "student"}, "trains": "0.*"}
    job.second.trainer = {"max_steps": 2}
    distil(job, tmp_path / "whole")
    assert (tmp_path / "whole" / "teacher_first" / "config.json").exists()
    assert not (tmp_path / "whole" / "teacher_second").exists()
    card = (tmp_path / "whole" / "model" / "README.md").read_text(encoding="utf-8")
    assert "teacher, trained too (`first`); a copy of the student as the stage began (`second`)" in card
    conditions = json.loads((tmp_path / "whole" / "conditions.json").read_text())
    assert conditions["step_teacher"]
    cut = conditions["truncated"].pop("pairs that the step teacher reads in first")
    assert 0 < cut["longer"] < cut["of"] and cut["tokens"] == 20
    assert f"{cut['longer']} of {cut['of']} pairs that the step teacher reads in first (" in card
    assert not any("step" in name for name in conditions["truncated"]), "a copy reads as the student does"
    killed(monkeypatch, job, tmp_path / "run", "commands.train.passing_index")
    with changed(tmp_path / "teacher" / "model.safetensors"):
        with pytest.raises(InputError, match="step_teacher"):
            distil(job, tmp_path / "run")
    distil(job, tmp_path / "run")
    for file in ("model/model.safetensors", "teacher_first/model.safetensors", "metrics.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file


def test_a_stage_may_train_a_part_alone(job, tmp_path):
    job = open_to(job)
    job.distillation = {"trains": ["*.layer.1.*"], "trainer": {"max_steps": 2, "warmup_steps": 0}}
    distil(job, tmp_path / "run")
    before = load_file(tmp_path / "student" / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    moved = {name for name, weight in after.items() if not weight.equal(before[name])}
    assert moved and moved <= {name for name in before if ".layer.1." in name}
    job.distillation.trains = ["layer.1"]
    with pytest.raises(
        InputError, match=r"distillation.trains: no trained weight is called layer.1; there are"
    ):
        distil(job, tmp_path / "other")


def test_one_stage_is_the_run_without_the_other(job, tmp_path):
    job.stages, named = ["distillation"], job.copy()
    distil(named, tmp_path / "named")
    job.stages, job.warmup = ["warmup", "distillation"], None
    distil(job, tmp_path / "none")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("named", "none")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("stages", "parts", "message"),
    [
        (["warmup", "warmup"], {}, "stages: warmup is given twice"),
        (["distilation"], {}, r"stages: distilation: there is no such part; add one, as \+distilation.loss="),
        ([], {}, "stages: there is none to train"),
        (["seed"], {}, "stages: seed is not a stage, a part with a loss"),
        (["data"], {}, "stages: data is not a stage, a part with a loss"),
        (["scores"], {}, "stages: scores is not a stage"),
        (["evaluation"], {}, "stages: evaluation is not a stage"),
        (["own"], {"own": {"lss": {}}}, "own.lss: no such field; did you mean loss"),
        (["own"], {"own": None}, "own: a stage without fields; give it those that differ .*, or {} if none"),
        (["own"], {"own": {"trainer": {"max_grad_norm": -1}}}, "own.trainer.max_grad_norm=-1: it must be 0"),
        (["own"], {"own": {"trainer": {"max_step": 3}}}, "own.trainer: .* argument 'max_step'"),
        (["own"], {"own": {}, "trainer": {"max_steps": 0}}, "trainer.max_steps=0"),
        (
            ["own"],
            {"own": {"scores": {"teacher_scal": 2}}},
            "own.scores.teacher_scal: no such field; did you mean teacher_scale",
        ),
        (["own"], {"own": {"trainer": 3}}, "own.trainer=3: it must be a group of fields"),
        (["own"], {"own": {"scores": {"scale": -1}}}, "own.scores.scale=-1: it must be a number above 0"),
        (["own"], {"own": {"scores": {"similarity": "dot"}}}, "own.scores.similarity: all stages have"),
        ("warmup", {}, "stages='warmup': it must be a list"),
    ],
)
def test_stages_that_cannot_be(job, tmp_path, stages, parts, message):
    job = open_to(job)
    job.stages, job.data.path = stages, "nowhere"
    for name, part in parts.items():
        job[name] = part
    with pytest.raises(InputError, match=message):
        distil(job, tmp_path / "run")


def test_how_scores_are_compared_is_checked_before_anything_is_read(job, tmp_path):
    job.scores.teacher_scores, job.data.path = "foo", "nowhere"
    with pytest.raises(InputError, match="scores.teacher_scores='foo': it must be raw, minmax or zscore"):
        distil(job, tmp_path / "run")


def test_a_dict_and_a_folder_are_enough(job, tmp_path):
    value = distil(OmegaConf.to_container(job, resolve=True), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert value == metrics["after"]["nDCG@10"]
    assert SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu").encode(["w1"]).shape == (1, 16)
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert conditions["queries"] == {
        "training": {
            "split": "train",
            "judged": 16,
            "used": 12,
            "left out": {"candidates.limit=12": 4},
            "shown": 12,
        },
        "evaluation": {
            "split": "test",
            "judged": 8,
            "used": 5,
            "left out": {"evaluator.limit=5": 3},
            "trained on": 0,
        },
    }
    assert conditions["resumed"] == [] and conditions["task"] == "search"
    parts = {"processes": 1, "accumulated": 1, "per device": 4}
    assert conditions["batches"] == {"distillation": {"queries": 4, **parts}}
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "* Batch of distillation: 4 queries." in card
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"] == OmegaConf.to_container(
        job, resolve=True
    )
    given = OmegaConf.to_container(job, resolve=True)
    with pytest.raises(InputError, match="smapler: no such field; did you mean sampler"):
        distil(given | {"smapler": {}}, tmp_path / "other")
    del given["cut"]
    with pytest.raises(InputError, match="cut: missing"):
        distil(given, tmp_path / "other")


def test_the_pages_show_it(monkeypatch):
    page = (Path(__file__).resolve().parents[1] / "docs" / "runs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(from rankdistill.train import .*?)```", page, re.DOTALL)
    asked = []
    monkeypatch.setattr(module, "distil", lambda *given: asked.append(given))
    exec(block, {})
    ((config, folder),) = asked
    assert config.sampler._target_.endswith("HardNegativeSampler") and config.sampler.negatives == 5
    assert folder == "outputs/hard"


def test_what_cannot_be_composed_is_bad_input():
    with pytest.raises(InputError, match="sampler=stratfied: no such option; did you mean stratified"):
        compose("sampler=stratfied")
    assert compose("trainer.max_steps=3").trainer.max_steps == 3, "as on the command line"


def test_a_finished_run_says_what_has_changed_in_place(job, tmp_path):
    value = distil(job, tmp_path / "run")
    for what, file in CHANGES.items():
        with (
            changed(tmp_path / file),
            pytest.raises(InputError, match=f"finished with another {what} .changed"),
        ):
            distil(job, tmp_path / "run")
    assert distil(job, tmp_path / "run") == value


def test_nothing_is_resumed_with_another_part(job, tmp_path, monkeypatch):
    """Else before would be measured with the new weights, and after with the old."""
    killed(monkeypatch, job, tmp_path / "run")
    for what, file in CHANGES.items():
        with (
            changed(tmp_path / file),
            pytest.raises(InputError, match=f"begun with .*another {what} .changed"),
        ):
            distil(job, tmp_path / "run")
    distil(job, tmp_path / "run")
    resumed = json.loads((tmp_path / "run" / "conditions.json").read_text())["resumed"]
    assert resumed == ["after distillation"]


def test_a_resumed_run_says_where_and_ends_alike(job, tmp_path, monkeypatch):
    distil(job, tmp_path / "whole")
    killed(
        monkeypatch, job, tmp_path / "run", "training.stages.finish"
    )  # its last checkpoint is of its last step
    distil(job, tmp_path / "run")
    for name in ("metrics.json", "per_query.csv", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert json.loads((tmp_path / "run" / "conditions.json").read_text())["resumed"] == [
        "distillation, step 3"
    ]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_without_one_of_its_files_is_not_resumed_from(job, tmp_path, monkeypatch):
    killed(monkeypatch, job, tmp_path / "run", "training.stages.finish")
    (checkpoint,) = (tmp_path / "run" / "checkpoints" / "distillation").glob("checkpoint-*")
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "model.safetensors"):
        (checkpoint / name).rename(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: missing; delete {checkpoint} to resume"):
            distil(job, tmp_path / "run")
        (tmp_path / name).rename(checkpoint / name)
    shutil.rmtree(checkpoint)
    distil(job, tmp_path / "run")


def test_a_scores_file_that_changed_in_place_is_known(job, tmp_path, table, monkeypatch):
    """Its own fingerprint of the teacher, which it carries, stays the same."""
    table.save(tmp_path / "scores.arrow")
    job.teacher = compose("teacher=file", f"teacher.path={tmp_path / 'scores.arrow'}").teacher
    killed(monkeypatch, job, tmp_path / "run")
    changed = table.scores.copy()
    changed[3] += 0.5
    ScoreTable(table.candidates, changed, table.teacher).save(tmp_path / "scores.arrow")
    with pytest.raises(InputError, match="begun with another scores"):
        distil(job, tmp_path / "run")


def test_every_training_query_is_accounted_for(table):
    """Of 18: 2 without a relevant document, 3 beyond the limit, 2 held out, 2 cut, 1 of one candidate."""
    judged = table.collection.qrels["train"] | {"q22": {"d1": 0}, "q23": {"d2": 0}}
    collection = replace(table.collection, qrels=table.collection.qrels | {"train": judged})
    scored = ScoreTable(replace(table.candidates, collection=collection), table.scores).take(range(13))
    whole = scored.take(range(11))
    few = [np.arange(np.diff(whole.candidates.offsets)[i]) for i in range(9)]
    few[0] = few[0][:1]
    source = Source("", SimpleNamespace(), OmegaConf.create({"split": "train", "limit": 13}), Cut())
    found = training_queries(source, scored, whole, whole.take(range(9), few))
    assert used_queries(found) == (
        "8 of 18 queries of train; left out: 2 (no relevant document), 3 (candidates.limit=13), 2 (held "
        "out to evaluate on), 2 (cut), 1 (fewer than two candidates)"
    )
    assert found == {
        "split": "train",
        "judged": 18,
        "used": 8,
        "left out": {
            "no relevant document": 2,
            "candidates.limit=13": 3,
            "held out to evaluate on": 2,
            "cut": 2,
            "fewer than two candidates": 1,
        },
    }


def test_steps_that_end_before_every_query_was_shown_are_said(job, tmp_path):
    """Of 12: one step of the first stage shows four, two of the second the same four and four more."""
    job.trainer = {**job.trainer, "max_steps": 2}
    small = ("warmup.trainer.max_steps=1", "warmup.trainer.per_device_train_batch_size=4")
    job.warmup = compose("warmup.sampler.negatives=2", *small).warmup
    distil(job, tmp_path / "run")
    trained = json.loads((tmp_path / "run" / "conditions.json").read_text())["queries"]["training"]
    assert (trained["used"], trained["shown"]) == (12, 8)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "* Trained on 12 of 16 queries of train, 8 of which it was shown" in card


def test_of_the_best_weights_the_steps_are_counted_that_led_to_them(job, tmp_path, caplog):
    """At a rate that changes nothing, no later step is better than the first."""
    job.evaluation.dev_queries, job.warmup = 4, {}
    job.trainer = {
        **job.trainer,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_on_start": True,
        "load_best_model_at_end": True,
        "max_steps": 3,
        "learning_rate": 1e-30,
    }
    distil(job, tmp_path / "run")
    assert any(text.startswith("no step was better than the start (") for text in caplog.messages)
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert conditions["kept"] == {"distillation": {"step": 1, "of": 3}}
    trained = conditions["queries"]["training"]
    assert (trained["used"], trained["shown"]) == (8, 4)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "* Of distillation, the weights of step 1 of 3 are kept, the best on the dev queries." in card
    assert "queries of train, 4 of which it was shown; left out: " in card


def test_groups_of_one_document_are_said(job, tmp_path):
    job = open_to(job)
    job.sampler, job.trainer.max_steps = {"_target_": "rankdistill.samplers.RandomSampler", "negatives": 3}, 1
    job.sampler.absolute_margin = 1e6
    distil(job, tmp_path / "run")
    trained = json.loads((tmp_path / "run" / "conditions.json").read_text())["queries"]["training"]
    assert trained["one document alone"] == {"distillation": 12}
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert ", 12 of which had one document alone in distillation; left out: " in card


def test_measured_queries_that_are_trained_on_are_said(job, tmp_path, caplog):
    """Also where one split is for both, of which 12 queries are trained on."""
    job.evaluation.split, job.evaluator.limit = "train", None
    distil(job, tmp_path / "run")
    said = "12 of the 16 measured queries are training queries too, by id or by text"
    assert f"{said}: evaluation.split=train, candidates.split=train" in caplog.messages
    assert f"* {said}." in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert conditions["queries"]["evaluation"]["trained on"] == 12


def test_measured_queries_are_known_by_their_text_too(table):
    """q16 of the test split has the text of q0, which is trained on, but for white space."""
    collection = table.collection
    assert measured_and_trained([table], "test", Evaluator()) == (0, 0)
    queries = [*collection.queries]
    queries[16] = f" {queries[0]}\n"
    copied = ScoreTable(
        replace(table.candidates, collection=replace(collection, queries=queries)), table.scores
    )
    assert measured_and_trained([copied], "test", Evaluator()) == (1, 0)
    others = copied.take(range(1, 16))
    assert measured_and_trained([others], "test", Evaluator()) == (0, 0)
    assert measured_and_trained([copied, others], "test", Evaluator()) == (1, 0)
    queries = [*queries[:17], queries[1].upper(), queries[2].replace(" ", "\t  "), *queries[19:]]
    alike = replace(copied.candidates, collection=replace(collection, queries=queries))
    assert measured_and_trained([ScoreTable(alike, table.scores)], "test", Evaluator()) == (3, 2)


def test_measured_queries_that_are_trained_on_but_for_case_are_said(job, tmp_path, caplog):
    file = tmp_path / "beir" / "queries.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    trained = [json.loads(line)["text"] for line in lines[:16]]
    lines[16:] = [json.dumps({"_id": f"q{i}", "text": trained[i - 16].upper()}) + "\n" for i in range(16, 24)]
    lines[16] = json.dumps({"_id": "q16", "text": trained[0]}) + "\n"
    file.write_text("".join(lines))
    job.evaluator.limit, job.candidates.limit = None, None
    distil(job, tmp_path / "run")
    said = "8 of the 8 measured queries are training queries too, by id or by text, 7 of them but for case or"
    assert any(message.startswith(f"{said} white space: ") for message in caplog.messages)
    assert f"* {said} white space." in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "run" / "conditions.json").read_text())["queries"]["evaluation"]
    assert (told["trained on"], told["trained on but for case or white space"]) == (8, 7)


def test_the_teacher_may_be_asked_of_some_queries_alone(job, tmp_path, capsys):
    """Its figures are what it has of these where it is asked of all; the student's are of all measured."""
    rows, metrics = {}, {}
    for asked in (True, 3):
        job.evaluation.teacher = asked
        place = tmp_path / str(asked)
        distil(job, place)
        with open(place / "per_query.csv", newline="", encoding="utf-8") as lines:
            rows[asked] = {row["query_id"]: row for row in csv.DictReader(lines)}
        metrics[asked] = json.loads((place / "metrics.json").read_text())
    name = "nDCG@10 teacher"
    some = {query: float(row[name]) for query, row in rows[3].items() if row[name]}
    assert len(some) == 3 < len(rows[3]) == len(rows[True])
    assert some == {query: float(rows[True][query][name]) for query in some}
    assert metrics[3]["teacher"]["nDCG@10"] == pytest.approx(sum(some.values()) / 3)
    assert metrics[3]["after"] == metrics[True]["after"]
    assert [metrics[3][name]["queries"] for name in ("after", "teacher")] == [len(rows[3]), 3]
    card = (tmp_path / "3" / "model" / "README.md").read_text(encoding="utf-8")
    assert (
        "The teacher was asked of 3 of these queries, drawn at random; of them\nnDCG@10 after - teacher: "
        in card
    )
    assert "\n| teacher (3 queries) | " in card, "its row is not of the other rows' queries"
    whole = (tmp_path / "True" / "model" / "README.md").read_text(encoding="utf-8")
    assert "\n| teacher | " in whole
    capsys.readouterr()
    job.evaluation.teacher = 3
    distil(job, tmp_path / "3")
    assert "\n| teacher (3 queries) | " in capsys.readouterr().out, "as it is printed of a finished run"
    conditions = json.loads((tmp_path / "3" / "conditions.json").read_text())
    assert conditions["queries"]["evaluation"]["used of the teacher"] == 3
    (run,) = [run for run in read_runs(tmp_path) if run.folder.name == "3"]
    assert run.per_query["teacher"]["nDCG@10"] == some
    job.evaluation.teacher = -1
    with pytest.raises(InputError, match="evaluation.teacher=-1"):
        distil(job, tmp_path / "none")


def test_a_bi_encoder_that_teaches_is_measured_by_its_own_search_too(job, tmp_path, student_folder):
    """As the student is: over all documents, where it otherwise has those of its candidates alone."""
    job.teacher = {"_target_": "rankdistill.teachers.DenseTeacher", "model": str(student_folder)}
    job.evaluation.teacher = 3
    distil(job, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    with open(tmp_path / "run" / "per_query.csv", newline="", encoding="utf-8") as lines:
        rows = {row["query_id"]: row["nDCG@10 teacher:search"] for row in csv.DictReader(lines)}
    collection = read_beir(job.data.path)
    model = DenseTeacher(str(student_folder)).model
    whole = Evaluator(["nDCG@10"]).evaluate(model, collection).per_query["nDCG@10"]
    asked = {query: float(value) for query, value in rows.items() if value}
    assert asked == pytest.approx({query: whole[query] for query in asked}) and len(asked) == 3 < len(rows)
    assert metrics["teacher:search"]["queries"] == 3
    others = report(tmp_path).others
    mean = sum(asked.values()) / 3
    assert others["teacher:search (3 queries)"]["nDCG@10"] == pytest.approx((mean, mean))


def test_a_card_says_what_search_its_figures_are_of():
    assert measured_how(Evaluator(["nDCG@10"]), 500) == []
    assert measured_how(Evaluator(["AP", "RR"], "IVF2,Flat", k=20), 12) == [
        "Documents were retrieved through FAISS's index IVF2,Flat, which is not exhaustive and may miss some "
        "of the best.",
        "AP, RR: over the 12 best documents.",
    ]


def test_queries_that_a_file_cannot_measure_are_named(tmp_path, collection, caplog):
    """Of eight: one has no line at all, one no scored relevant document."""
    rows = [(f"q{i}", f"d{i}", 1.0) for i in range(16, 23)] + [(f"q{i}", "d0", 0.5) for i in range(16, 23)]
    rows.remove(("q20", "d20", 1.0))
    lines = "".join(f"{query},{document},{score}\n" for query, document, score in [*rows, ("q20", "d1", 0.1)])
    (tmp_path / "scores.csv").write_text("query_id,document_id,score\n" + lines)
    teacher = FileTeacher(str(tmp_path / "scores.csv"))
    with caplog.at_level("WARNING"):
        rows = asked_queries(True, collection, "test", Evaluator())
        table = measured_scores(teacher, [], collection, "test", Evaluator(), rows)
    assert len(table) == 6
    assert len(rows) == 8
    assert caplog.messages[-1] == (
        f"{tmp_path / 'scores.csv'}: scores of 6 of 8 queries of test; of the other 2 the file has no scored "
        "relevant document or no second candidate, and they count 0: 'q20', 'q23'"
    )


def test_evaluated_is_equal_for_the_same_test_queries_alone(tmp_path):
    """Other training judgments measure the same; another text or judgment of the test split does not."""
    folder = write_collection(tmp_path / "beir")
    first = evaluated(read_beir(folder), "test")
    assert evaluated(read_beir(folder), "train") != first
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td3\t1\n")
    assert evaluated(read_beir(folder), "test") == first
    for name, old, new in (("qrels/test.tsv", "d20\t1", "d20\t2"), ("corpus.jsonl", "w1 ", "w2 ")):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(old, new))
        assert evaluated(read_beir(folder), "test") != first
        (folder / name).write_text(text)


def test_card_and_conditions_say_how_many_texts_were_cut(job, tmp_path):
    """Every text of the tiny collection has a token per word, and two special ones."""
    job.student.max_length = 12
    distil(job, tmp_path / "run")
    collection = read_beir(tmp_path / "beir")
    longer = sum(len(text.split()) + 2 > 12 for text in collection.documents)
    assert 0 < longer < len(collection.documents)
    truncated = json.loads((tmp_path / "run" / "conditions.json").read_text())["truncated"]
    assert truncated["documents"] == {"longer": longer, "of": len(collection.documents), "tokens": 12}
    assert truncated["queries"]["longer"] == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"{longer} of {len(collection.documents)} documents" in card and "longer than 12 tokens" in card


OWN = """
import numpy as np

class Own:
    def select(self, scores, positive, rng):
        return np.concatenate([np.flatnonzero(positive)[:1], np.flatnonzero(~positive)[{take}]])
"""


def test_a_run_of_ones_own_code_is_of_that_code_alone(job, tmp_path, monkeypatch):
    """Edited in place it would be resumed as a mixture of both, or its old results taken for new ones."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_sampler_of_a_test.py"
    file.write_text(OWN.format(take=":3"))
    job.sampler = {"_target_": "own_sampler_of_a_test.Own"}
    distil(job, tmp_path / "run")
    code = json.loads((tmp_path / "run" / "conditions.json").read_text())["code"]
    distil(job, tmp_path / "run")
    file.write_text(OWN.format(take="-3:"))
    with pytest.raises(InputError, match=r"run: finished with another code \(changed since, in place\)"):
        distil(job, tmp_path / "run")
    distil(job, tmp_path / "other")
    assert json.loads((tmp_path / "other" / "conditions.json").read_text())["code"] != code
    job.sampler = {"_target_": "rankdistill.samplers.RandomSampler", "negatives": 3}
    distil(job, tmp_path / "ours")
    assert "code" not in json.loads((tmp_path / "ours" / "conditions.json").read_text())
    assert list(report(tmp_path).unequal) == ["code"], "of the two that have one"
