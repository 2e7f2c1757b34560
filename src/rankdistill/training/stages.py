"""Stages: what each trains with, and how one is trained or resumed."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import TrainingArguments

from rankdistill.errors import InputError, shorten
from rankdistill.runtime.folders import read_json
from rankdistill.scores import ScoreTable
from rankdistill.students import load_weights_from
from rankdistill.students.models import Model
from rankdistill.training.arguments import batch_in_words, batch_of
from rankdistill.training.checkpoints import (
    RESUME_BEFORE,
    check_sealed,
    finish,
    last_checkpoint,
    resume,
    step_of,
)
from rankdistill.training.groups import TrainingGroups
from rankdistill.training.orders import ClusteredOrder, sampler_of
from rankdistill.training.rates import searched_rates
from rankdistill.training.refresh import Refresh
from rankdistill.training.step_teacher import StepTeacher
from rankdistill.training.trainer import DistillationTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What one stage of training needs besides student and scores."""

    name: str
    folder: Path
    sampler: Any
    loss: Any
    arguments: TrainingArguments
    scores: Mapping[str, Any]
    step_teacher: StepTeacher | None = None
    trains: Sequence[str] | None = None  # patterns of the names of the student's weights; None: all
    order: ClusteredOrder | None = None
    refresh: Refresh | None = None
    searches_rate: bool = False


def resumed_at(stages: Sequence[Stage]) -> str | None:
    """Where an earlier start left off; None if it left nothing.

    Raises ``InputError`` if the checkpoint there is damaged.
    """
    begun = False
    for stage in stages:
        if (stage.folder / "finished").exists():
            begun = True
        elif (checkpoint := last_checkpoint(stage.folder)) is not None:
            check_sealed(checkpoint, RESUME_BEFORE.format(checkpoint))
            return f"{stage.name}, step {step_of(checkpoint)}"
        else:
            return f"{stage.name}, step 0" if begun else None
    return f"after {stages[-1].name}"


def shown_queries(stages: Sequence[Stage], steps: Mapping[str, int], table: ScoreTable, groups: int) -> int:
    """How many of the ``groups`` queries of ``table`` the student was shown, by ``steps`` of each stage."""
    seen: set[int] = set()
    for stage in stages:
        order = sampler_of(TrainingGroups(table, stage.sampler), stage.arguments, stage.order)
        seen.update(islice(order, steps[stage.name] * batch_of(stage.arguments)["queries"]))
    shown = len(seen)
    if shown < groups:
        log.info("the model was shown %d of the %d training queries", shown, groups)
    return shown


def lone_documents(stages: Sequence[Stage], table: ScoreTable) -> dict[str, int]:
    """Of each stage, where there are any, how many groups of ``table`` have one document alone."""
    counts = {stage.name: TrainingGroups(table, stage.sampler).alone for stage in stages}
    return {name: n for name, n in counts.items() if n}


def train_stage(
    student, table, stage: Stage, more: dict, dev: dict, history: list[dict], run: str, setting: str
) -> list[dict]:
    """Trains ``student`` in place, or takes up where an earlier start left; returns what was logged.

    ``more`` is given to the Trainer, and ``dev`` where the stage is measured while it is trained; a rate that
    is searched is the stage's from then on. ``run`` is the run's identity, ``setting`` what it shares with
    runs of other seeds.
    """
    finished = stage.folder / "finished"
    teacher = stage.step_teacher
    if stage.searches_rate:
        with only(student, stage.trains, stage.name):
            rates = searched_rates(student, table, stage, more, dev, setting)
        stage.arguments.learning_rate = rates.best
    if stage.arguments.eval_strategy != "no":
        more = more | dev
    if finished.exists():
        log.info("%s is finished: reusing %s", stage.name, finished)
        remedy = f"delete {stage.folder} to train the stage again"
        check_sealed(finished, remedy)
        try:
            load_weights_from(student, finished / "model.safetensors")
            if teacher is not None and teacher.trained and isinstance(teacher.model, Model):
                load_weights_from(teacher.model, finished / "model.safetensors", "teacher.model.")
        except SafetensorError as error:
            raise InputError(f"{finished}: damaged ({error}); {remedy}") from None
        return read_json(finished / "history.json", list, remedy)
    with only(student, stage.trains, stage.name):
        trainer = DistillationTrainer(
            student,
            table,
            stage.sampler,
            stage.loss,
            stage.arguments,
            step_teacher=teacher,
            order=stage.order,
            refresh=stage.refresh,
            **more,
        )
        batch = batch_in_words(batch_of(stage.arguments))
        log.info(
            "%s: %d groups in batches of %s, %s", stage.name, len(trainer.train_dataset), batch, stage.folder
        )
        resume(trainer, stage.folder, run)
    before = history[-1]["step"] if history else 0
    logged = [row | {"step": row["step"] + before, "stage": stage.name} for row in trainer.state.log_history]
    logged[-1].pop("train_loss", None)  # transformers' mean is wrong once a run was resumed
    logged[-1]["kept_step"] = before + trainer.kept_step
    finish(trainer, logged, finished, run)
    return logged


@contextmanager
def only(student: nn.Module, patterns: Sequence[str] | None, stage: str) -> Iterator[None]:
    """Of ``student`` the weights alone are trained whose names match one of ``patterns``, such as ``0.*``.

    What was frozen before stays so. Raises ``InputError`` for a pattern that no trained weight has.
    """
    trained = {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise InputError(
                f"{stage}.trains: no trained weight is called {pattern}; there are {shorten(trained, 9)}"
            )
    frozen = [
        weight
        for name, weight in trained.items()
        if patterns is not None and not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(True)
