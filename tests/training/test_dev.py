"""Evaluation while training: the evaluator's own figures, the best weights, early stopping, resumed alike."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import KLDivergence
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.training import DistillationTrainer, hold_out, training_arguments

STEPS = {"eval_strategy": "steps", "eval_steps": 1, "num_train_epochs": 4, "learning_rate": 3e-2}
BEST = STEPS | {
    "load_best_model_at_end": True,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 1,
}


def trainer_of(student_folder, table, folder, eval_dataset, patience=None, evaluator=None, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True}
    return DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 3),
        KLDivergence(),
        training_arguments(str(folder), **(defaults | fields)),
        eval_dataset=eval_dataset,
        evaluator=evaluator,
        patience=patience,
    )


def measures(trainer):
    rows = trainer.state.log_history
    return {row["step"]: row["eval_nDCG@10"] for row in rows if "eval_nDCG@10" in row}


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.fixture
def split(table):
    return hold_out(table, 4)


def test_queries_are_held_out_of_training_with_their_judgments(table):
    kept, judged = hold_out(table, 5, seed=1)
    collection = table.collection
    ids = {collection.query_ids[row] for row in kept.candidates.query_rows}
    assert len(judged) == 5 and ids.isdisjoint(judged) and len(ids) == 11
    assert all(collection.qrels["train"][query] == grades for query, grades in judged.items())
    assert ids | set(judged) == set(collection.qrels["train"])
    assert hold_out(table, 5, seed=1)[1] == judged != hold_out(table, 5, seed=2)[1]
    for count in (16, 0):
        with pytest.raises(InputError, match=f"dev_queries={count}"):
            hold_out(table, count)


def test_a_query_with_the_text_of_one_held_out_leaves_too(table):
    """But for white space and case."""
    collection, first = table.collection, table.collection.queries[0]
    folds = [first.upper(), first.replace(" ", "\t ")]
    collection.queries[:8] = [*(" " * i + first for i in range(4)), *folds, *folds]
    kept, judged = hold_out(table, 8)

    def folded(row):
        return " ".join(collection.queries[row].lower().split())

    texts = {folded(collection.query_row[query]) for query in judged}
    assert first in texts, "one of the eight is held out"
    assert not texts & {folded(row) for row in kept.candidates.query_rows}


def test_the_figures_are_the_evaluators_and_training_is_as_without_them(
    student_folder, table, tmp_path, split
):
    kept, dev = split
    evaluator = Evaluator(["RR@10", "nDCG@10"])
    watched = trainer_of(
        student_folder, kept, tmp_path, dev, evaluator=evaluator, **STEPS, eval_on_start=True, max_steps=3
    )
    rows = {query: document for query, grades in dev.items() for document, grade in grades.items() if grade}
    collection = table.collection

    def reciprocal_rank(student):
        queries = student.encode_query([collection.queries[collection.query_row[q]] for q in rows])
        documents = student.encode_document(list(collection.documents))
        queries, documents = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents))
        wanted = [collection.document_row[document] for document in rows.values()]
        scores = queries @ documents.T
        ranks = 1 + (scores > scores[np.arange(len(wanted)), wanted][:, None]).sum(axis=1)
        return np.where(ranks <= 10, 1 / ranks, 0).mean()

    start = reciprocal_rank(watched.student)
    watched.train()
    logged = [(row["step"], row["eval_RR@10"]) for row in watched.state.log_history if "eval_RR@10" in row]
    assert [step for step, _ in logged] == [0, 1, 2, 3]
    assert logged[0][1] == pytest.approx(start, abs=1e-6)
    assert logged[3][1] == pytest.approx(reciprocal_rank(watched.student), abs=1e-6)
    plain = trainer_of(
        student_folder, kept, tmp_path, None, num_train_epochs=4, learning_rate=3e-2, max_steps=3
    )
    plain.train()
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(watched)[name]), name


def test_the_best_weights_are_kept_and_training_stops(student_folder, tmp_path, split, caplog):
    """Also where the best step is none that is saved anyway; the last of equal ones is not better."""
    with caplog.at_level(logging.INFO, logger="rankdistill"):
        trainer = trainer_of(student_folder, *split[:1], tmp_path, split[1], patience=3, **BEST)
        trainer.train()
    found = measures(trainer)
    best = max(found, key=lambda step: (found[step], -step))
    assert best % 3 and trainer.state.best_global_step == best
    assert trainer.state.global_step == max(found) == best + 3 < 12
    assert trainer.evaluate()["eval_nDCG@10"] == pytest.approx(found[best], abs=1e-9)
    for name, value in load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors").items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    assert f"stopped at step {best + 3}: 3 evaluations without a better one" in caplog.text
    assert (
        f"kept: the weights of step {best}, with nDCG@10 {found[best]:.4f} on the queries held out"
        in caplog.text
    )


def test_a_resumed_run_stops_and_keeps_as_one_that_was_not(student_folder, tmp_path, split):
    """From each checkpoint, the one after which it had stopped too, in a folder that was moved."""
    table, dev = split
    fields = BEST | {"save_steps": 1, "save_total_limit": None, "learning_rate": 2e-2}
    whole = trainer_of(student_folder, table, tmp_path / "whole", dev, patience=3, **fields)
    whole.train()
    stopped = whole.state.global_step
    best = whole.state.best_global_step
    assert 1 < best < stopped, "else nothing is resumed from before it, or from after it"
    for step in (best - 1, best + 1, stopped):
        folder = tmp_path / f"from {step}"
        for earlier in range(1, step + 1):
            shutil.copytree(tmp_path / "whole" / f"checkpoint-{earlier}", folder / f"checkpoint-{earlier}")
        again = trainer_of(student_folder, table, folder, dev, patience=3, **fields)
        again.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
        assert again.state.global_step == stopped and measures(again) == measures(whole)
        for name, value in weights(whole).items():
            assert torch.equal(value, weights(again)[name]), (step, name)
    shutil.rmtree(folder / f"checkpoint-{best}")
    with pytest.raises(InputError, match=f"checkpoint-{best}: the best model so far is missing"):
        trainer_of(student_folder, table, folder, dev, patience=3, **fields).train(
            str(folder / f"checkpoint-{stopped}")
        )


@pytest.mark.parametrize(
    ("dev", "fields", "patience", "message"),
    [
        (None, STEPS, None, "one is missing: give evaluation.dev_split=dev, or evaluation.dev_queries=100"),
        ("test", {}, None, "one is missing"),
        (None, {}, 3, "one is missing"),
        ("test", STEPS, 0, "patience=0: it must be 1 or more"),
        ("dev", STEPS, None, "no split 'dev'; available: 'test', 'train'; give evaluation.dev_split"),
        ("train", STEPS, None, "train: 16 of its 16 queries are training queries too .'q0'"),
        ({"q0": {"d0": 1}}, STEPS, None, "dev: 1 of its 1 queries are training queries too"),
        ({"nobody": {"d0": 1}}, STEPS, None, "no query 'nobody'"),
        ("test", STEPS | {"metric_for_best_model": "nDCG@3"}, None, "metric_for_best_model='nDCG@3'"),
    ],
)
def test_what_is_missing_or_shared_is_said(student_folder, table, tmp_path, dev, fields, patience, message):
    with pytest.raises(InputError, match=message):
        trainer_of(student_folder, table, tmp_path, dev, patience, **fields)


@pytest.mark.parametrize(
    ("evaluation", "strategy", "message"),
    [
        ({"dev_split": "dev", "dev_queries": 3}, "steps", "give one of them"),
        ({}, "steps", "no queries to measure the distillation stage on; give evaluation.dev_split"),
        ({"dev_split": "dev"}, "no", "evaluation.dev_split: nothing is measured while training"),
        ({"patience": 2}, "no", "evaluation.patience: nothing is measured while training"),
        ({"patience": 0, "dev_split": "dev"}, "steps", "evaluation.patience=0"),
        ({"dev_queries": 0}, "steps", "evaluation.dev_queries=0"),
        ({"dev_split": "test"}, "steps", "evaluation.dev_split=test: what the run is measured on"),
    ],
)
def test_the_command_says_so_before_anything_is_read(evaluation, strategy, message):
    from omegaconf import OmegaConf

    from rankdistill.commands.plan import check_dev

    config = {"split": "test", "dev_split": None, "dev_queries": None, "patience": None} | evaluation
    arguments = training_arguments("x", eval_strategy=strategy)
    stage = SimpleNamespace(name="distillation", arguments=arguments, searches_rate=False)
    with pytest.raises(InputError, match=message):
        check_dev(OmegaConf.create(config), [stage])


def test_a_dev_split_shares_no_query_with_test_or_train(collection):
    from rankdistill.commands.job import check_dev_queries

    qrels = collection.qrels
    qrels["dev"] = {"q16": qrels["test"]["q16"]}
    with pytest.raises(InputError, match="dev: 1 of its 1 queries are test queries too .'q16'"):
        check_dev_queries(collection, "dev", "test", "train")
    qrels["dev"] = {"q0": qrels["train"]["q0"]}
    with pytest.raises(InputError, match="are train queries too"):
        check_dev_queries(collection, "dev", "test", "train")
    with pytest.raises(InputError, match="evaluation.dev_queries=100 holds out training queries instead"):
        check_dev_queries(collection, "validation", "test", "train")


@pytest.mark.parametrize(
    ("fields", "patience", "chosen"),
    [(STEPS, None, False), (STEPS, 2, True), (BEST, None, True)],
    ids=["watched", "patience", "best"],
)
def test_whoever_lets_test_choose_the_model_is_told(
    fields, patience, chosen, student_folder, table, tmp_path, caplog
):
    trainer_of(student_folder, table, tmp_path, "test", patience, **fields)
    assert ("choose the model" in caplog.text) == chosen
