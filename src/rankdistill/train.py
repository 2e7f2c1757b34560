"""The main job: collection, candidates, teacher scores, groups, student, measured runs.

python -m rankdistill.train +experiment=stratified
"""

import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import TrainingArguments, set_seed

from rankdistill import analysis, processes
from rankdistill.analysis import Cut
from rankdistill.analysis.plots import save, save_group_plots
from rankdistill.candidates import mine
from rankdistill.cards import model_card
from rankdistill.command import command, make, make_retrievers, plain, run_folder
from rankdistill.data import Collection, ScoreTable
from rankdistill.data.cache import fingerprint
from rankdistill.errors import InputError, at_least
from rankdistill.evaluation import Evaluation, Evaluator, compare
from rankdistill.fields import check_fields
from rankdistill.retrieval import passing_embeddings, stored_embeddings
from rankdistill.students import load_weights_from, merge_adapter
from rankdistill.summary import (
    measured_queries,
    summary,
    write_conditions,
    write_judgments,
    write_measures,
)
from rankdistill.teachers import FileTeacher, score_candidates, score_split
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.bi_encoder import check_trainable
from rankdistill.training.checkpoints import begin, clear, finish, finished, last_checkpoint, resume
from rankdistill.training.groups import check_fit
from rankdistill.training.trainer import check_scores, similarity_of

log = logging.getLogger(__name__)
FIELDS = {
    "seed": int,
    "candidates.split": str,
    "candidates.limit": int | None,
    "candidates.retrievers": dict,
    "warmup.trainer": dict | None,
    "distillation.trainer": dict | None,
    "distillation": dict,
    "scores.similarity": str | None,
    "scores.scale": float,
    "scores.teacher_scores": str,
    "scores.teacher_scale": float | str,
    "scores.chunk_tokens": int | None,
    "scores.grad_cache": bool,
    "evaluation.split": str,
    "evaluation.teacher": bool,
}


@dataclass(frozen=True)
class Stage:
    """What one stage of training needs besides student and scores."""

    name: str
    folder: Path
    sampler: Any
    loss: Any
    arguments: TrainingArguments


def run(config: DictConfig) -> float:
    """One run, in Hydra's run folder; returns the main measure after training."""
    return distil(config, run_folder())


def distil(config: DictConfig, folder: Path) -> float:
    """Composes the library as ``config`` says and leaves the results in ``folder``.

    All processes of a job go through it; what is in ``folder`` the main one writes.
    """
    main = processes.is_main()
    check_fields(config, FIELDS)
    at_least(0, seed=config.seed)
    settings = fingerprint(plain(config))
    if finished(folder, "metrics.json", settings):
        metrics = json.loads((folder / "metrics.json").read_text())
        if main:
            print(f"\n{summary(metrics, '', None)}\n\nResults in {folder}")
        return next(iter(metrics["after"].values()))
    set_seed(config.seed)
    evaluator = make(config.evaluator, Evaluator)
    sampler, cut = make(config.sampler), make(config.cut, Cut)
    check_scores(**{name: config.scores[name] for name in inspect.signature(check_scores).parameters})
    stages = plan(config, folder / "checkpoints")
    collection = make(config.data, Collection)
    log.info("%s", collection)
    student = make(config.student, SentenceTransformer)
    check_trainable(student)
    student.similarity_fn_name = similarity_of(student, config.scores.similarity)  # before it is measured

    test = config.evaluation.split
    collection.query_rows(test)  # what is wrong with the split shows now
    teacher = make(config.teacher)  # before anything long, in case it cannot be had
    retrievers = [] if isinstance(teacher, FileTeacher) else make_retrievers(config.candidates.retrievers)
    whole = training_scores(config, teacher, retrievers, collection, stages)
    table = cut(whole)
    if len(table) < len(whole):
        log.info("%s keeps %d of %d training queries", cut, len(table), len(whole))
    if main:
        write_conditions(
            folder,
            settings=settings,
            collection=collection.fingerprint,
            candidates=table.candidates.fingerprint,
            teacher=table.teacher,
        )
    documents = stored_embeddings(student, collection)
    results = {"before": evaluator.evaluate(student, collection, test, documents)}
    log.info("before: %s", " ".join(f"{name} {value:.4f}" for name, value in results["before"].mean.items()))
    teacher_table, agreements = None, {}
    if config.evaluation.teacher:
        teacher_table = measured_scores(teacher, retrievers, collection, test, evaluator)
    if main and teacher_table is not None:
        agreements["before"] = agreement_of(student, teacher_table, documents, "before")
    del teacher  # its memory is needed

    if main:
        (folder / "plots").mkdir(exist_ok=True)
        name = HydraConfig.get().runtime.choices.get("sampler") or type(sampler).__name__
        save_group_plots(folder / "plots", table, {name: sampler}, student, documents, config.seed)
        begin(folder / "checkpoints", fingerprint(settings, table.teacher, table.candidates.fingerprint))
    processes.wait()
    history: list[dict] = []
    for stage in stages:
        scores = plain(config.scores) | {"split": config.candidates.split}
        history += train_stage(student, table, stage, scores, history)
    merge_adapter(student)

    documents = passing_embeddings(student, collection.documents)
    results["after"] = evaluator.evaluate(student, collection, test, documents)
    if main and teacher_table is not None:
        agreements["after"] = agreement_of(student, teacher_table, documents, "after")
        save(analysis.plot_agreement(agreements), folder / "plots" / "agreement.png")
    if teacher_table is not None:
        results["teacher"] = evaluator.rerank(teacher_table, test)
        warn_of(results["teacher"].mean, results["before"].mean, evaluator.main)
    if main:
        report(results, student, table, history, evaluator.main, config, folder)
        clear(folder / "checkpoints")
    return results["after"].mean[evaluator.main]


def training_scores(
    config: DictConfig, teacher, retrievers: Sequence, collection: Collection, stages: Sequence[Stage]
) -> ScoreTable:
    """What the stages train on; whether their groups fit its pools shows before anything is scored."""
    split, limit = config.candidates.split, config.candidates.limit
    if isinstance(teacher, FileTeacher):
        return teacher.table(collection, split, limit)
    pools = mine(collection, retrievers, split, limit)
    for stage in stages:
        check_fit(stage.sampler, pools)
    return score_candidates(teacher, pools)


def agreement_of(
    student: SentenceTransformer, table: ScoreTable, documents: np.ndarray, when: str
) -> pd.DataFrame:
    """``agreement`` on the test queries' candidates; ``documents`` are the student's embeddings."""
    found = analysis.agreement(table, analysis.student_scores(student, table, documents))
    means = found[["kendall_tau", "top1"]].mean()
    log.info("agreement with the teacher %s: Kendall's tau %.3f, same document first %.3f", when, *means)
    return found


def measured_scores(teacher, retrievers, collection: Collection, split: str, evaluator: Evaluator):
    """The score table that the teacher is measured on; None if its file has no query of ``split``."""
    if not isinstance(teacher, FileTeacher):
        return score_split(teacher, retrievers, collection, split, evaluator.limit, evaluator.seed)
    covered, queries = teacher.covers(collection, split), len(collection.query_rows(split))
    if not covered:
        log.info(
            "%s: no scores of the %d queries of %s; the teacher isn't measured", teacher.path, queries, split
        )
        return None
    if covered < queries:
        log.warning(
            "%s: scores of %d of %d queries of %s; the others count 0", teacher.path, covered, queries, split
        )
    return teacher.table(collection, split)  # all of them: the evaluator draws its own


def warn_of(teacher: Mapping[str, float], student: Mapping[str, float], measure: str) -> None:
    """Of a teacher that ranks its candidates no better than the student ranks the collection."""
    if teacher[measure] <= student[measure]:
        log.warning(
            "the teacher reranks to %s %.4f, the student has %.4f before: there is little to distil",
            measure,
            teacher[measure],
            student[measure],
        )


def plan(config: DictConfig, folder: Path) -> list[Stage]:
    """The stages that ``config`` asks for, their parts made: what is wrong with them shows now."""
    stages = []
    for name, settings in (("warmup", config.warmup), ("distillation", config.distillation)):
        if name == "warmup" and "loss" not in (settings or {}):
            continue  # warmup=none, whatever else is set of it
        fields = plain(config.trainer) | plain(settings.get("trainer") or OmegaConf.create({}))
        for field, remedy in (("seed", "set seed=..."), ("output_dir", "set hydra.run.dir=...")):
            if field in fields:
                raise InputError(f"trainer.{field}: {remedy}")
        stages.append(
            Stage(
                name,
                folder / name,
                make(settings.get("sampler") or config.sampler),
                make(settings.get("loss") or config.loss, nn.Module),
                training_arguments(str(folder / name), seed=config.seed, **fields),
            )
        )
    return stages


def train_stage(student, table, stage: Stage, scores: dict, history: list[dict]) -> list[dict]:
    """Trains ``student`` in place, or takes up where an earlier start left; returns what was logged."""
    kept = stage.folder / "finished"
    if kept.exists():
        log.info("%s is finished: reusing %s", stage.name, kept)
        try:
            load_weights_from(student, kept / "model.safetensors")
            return json.loads((kept / "history.json").read_text())
        except (SafetensorError, ValueError):
            raise InputError(f"{kept}: damaged; delete {stage.folder} to train the stage anew") from None
    trainer = DistillationTrainer(student, table, stage.sampler, stage.loss, stage.arguments, **scores)
    log.info("%s: %d groups, %s", stage.name, len(trainer.train_dataset), stage.folder)
    if (checkpoint := last_checkpoint(stage.folder)) is not None:
        log.info("going on from %s", checkpoint)
    resume(trainer, stage.folder)
    before = history[-1]["step"] if history else 0
    logged = [row | {"step": row["step"] + before, "stage": stage.name} for row in trainer.state.log_history]
    logged[-1].pop("train_loss", None)  # transformers' mean is wrong once a run was resumed
    finish(trainer, logged, kept)
    return logged


def report(
    results: dict[str, Evaluation], student, table, history: list, main: str, config: DictConfig, folder: Path
) -> None:
    """Writes the run's files and prints the table before / after / teacher."""
    before, after = results["before"], results["after"]
    text = summary(
        {name: result.mean for name, result in results.items()},
        main,
        compare(before.per_query[main], after.per_query[main]) if len(before.per_query[main]) > 1 else None,
    )
    split = config.evaluation.split
    text += f"\n\nMeasured: {measured_queries(table.collection, split, len(after.per_query[main]))}."
    student.save_pretrained(str(folder / "model"), create_model_card=False)
    card = model_card(plain(config), table, student, after.mean, text)
    (folder / "model" / "README.md").write_text(card, encoding="utf-8")
    after.run.write(folder / "run.trec.gz")
    check = write_judgments(folder, table.collection, split, after)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    (folder / "history.json").write_text(json.dumps(history, indent=1))
    save(analysis.plot_learning_curve(history), folder / "plots" / "learning_curve.png")
    gains = analysis.plot_gains(before.per_query[main], after.per_query[main], main)
    save(gains, folder / "plots" / "gains.png")
    write_measures(results, folder)  # last: metrics.json says that the run is finished
    log.info("the results\n\n%s\n\nResults in %s; the same figures of its run: %s", text, folder, check)


if __name__ == "__main__":
    command(run, "config")
