"""Stages with candidates, a teacher or a cut of their own: whose scores and queries each is trained on."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from rankdistill.commands import train as module
from rankdistill.commands.train import compose, distil
from rankdistill.errors import InputError
from rankdistill.training.dev import without

STRONGER = [
    "warmup.sampler.negatives=2",
    "warmup.trainer.num_train_epochs=1",
    "warmup.trainer.per_device_train_batch_size=4",
    "+teacher@warmup.teacher=bm25",
    "+warmup.candidates={limit:16,retrievers:{bm25:{n:4}}}",
    "+cut@distillation.cut=middle_half",
]


@pytest.fixture
def stronger(small_job):
    """A warm-up on 16 queries and BM25's scores of smaller pools; then the cross-encoder's of 6 of 12."""
    return compose(*small_job, *STRONGER)


@pytest.fixture
def trained(monkeypatch):
    """What each stage was trained on, by its name."""
    tables = {}

    def watch(student, table, stage, *more):
        tables[stage.name] = table
        return train_stage(student, table, stage, *more)

    train_stage = module.train_stage
    monkeypatch.setattr(module, "train_stage", watch)
    return tables


@contextmanager
def killed_in(name, monkeypatch):
    """Whatever trains in here is interrupted as stage ``name`` begins."""

    def train(student, table, stage, *more):
        if stage.name == name:
            raise KeyboardInterrupt
        return train_stage(student, table, stage, *more)

    train_stage = module.train_stage
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_stage", train)
        yield


def test_each_stage_is_trained_on_its_own_table(stronger, trained, tmp_path):
    distil(stronger, tmp_path / "run")
    warmup, distillation = trained["warmup"], trained["distillation"]
    assert (len(warmup), len(distillation)) == (16, 6)
    assert warmup.teacher != distillation.teacher
    assert np.diff(warmup.candidates.offsets).mean() < np.diff(distillation.candidates.offsets).mean()
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert conditions["warmup.candidates"] == warmup.candidates.fingerprint
    assert conditions["distillation.candidates"] == distillation.candidates.fingerprint
    queries = conditions["queries"]
    assert queries["warmup.training"]["used"] == queries["warmup.training"]["shown"] == 16
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "* In warmup, trained on 16 of 16 queries of train." in card
    assert "* In distillation, trained on 6 of 16 queries of train; left out: 4 (candidates.limit" in card
    assert queries["distillation.training"]["left out"] == {"candidates.limit=12": 4, "cut": 6}


def test_a_stage_without_parts_of_its_own_has_the_whole_runs(small_job, trained, tmp_path):
    distil(compose(*small_job, *STRONGER[:3], STRONGER[-1]), tmp_path / "run")
    assert (len(trained["warmup"]), len(trained["distillation"])) == (12, 6)
    assert trained["warmup"].teacher == trained["distillation"].teacher
    queries = json.loads((tmp_path / "run" / "conditions.json").read_text())["queries"]
    assert set(queries) == {"training", "distillation.training", "evaluation"}


def test_held_out_queries_leave_every_table(stronger, trained, tmp_path):
    stronger.evaluation.dev_queries = 4
    stronger.distillation.trainer = {"eval_strategy": "steps", "eval_steps": 1}
    distil(stronger, tmp_path / "run")
    rows = [set(table.candidates.query_rows.tolist()) for table in trained.values()]
    assert len(rows[0]) == 12 and rows[1] < rows[0]


def test_a_run_killed_between_its_tables_ends_in_the_same_weights(stronger, tmp_path, monkeypatch):
    distil(stronger, tmp_path / "whole")

    with killed_in("distillation", monkeypatch), pytest.raises(KeyboardInterrupt):
        distil(stronger, tmp_path / "again")
    distil(stronger, tmp_path / "again")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_stages_model_that_changed_in_place_is_another_run(small_job, tmp_path, monkeypatch):
    """The teacher of the warm-up alone, after which the run was killed."""
    shutil.copytree(tmp_path / "teacher", tmp_path / "other")
    own = ["+teacher@warmup.teacher=cross_encoder", f"warmup.teacher.model={tmp_path / 'other'}"]
    config = compose(*small_job, *STRONGER[:3], *own)
    with killed_in("distillation", monkeypatch), pytest.raises(KeyboardInterrupt):
        distil(config, tmp_path / "run")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights["classifier.weight"] *= 2
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="begun with another warmup.teacher"):
        distil(config, tmp_path / "run")


def test_one_split_is_trained_on(stronger, tmp_path):
    stronger.warmup.candidates = {"split": "dev"}
    with pytest.raises(InputError, match="^warmup.candidates.split: all stages train on one; set candidates"):
        distil(stronger, tmp_path / "run")


def test_a_stages_own_field_is_named(stronger, tmp_path):
    stronger.warmup.candidates.limit = 0
    with pytest.raises(InputError, match="^warmup.candidates.limit"):
        distil(stronger, tmp_path / "run")


def test_a_table_may_lose_all_of_its_queries(table):
    assert len(without(table, table.candidates.query_rows)) == 0
