"""What a run is made of, as its configuration says: made and checked before anything is computed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import set_seed

from rankdistill.commands.launch import make
from rankdistill.commands.named_models import check_models
from rankdistill.commands.plan import check_dev, check_scores_of, makes, plan
from rankdistill.commands.summary import check_split
from rankdistill.commands.tables import Source, check_files, sources_of
from rankdistill.data import Collection
from rankdistill.errors import InputError, check_counts, check_seed, fields_of, shorten
from rankdistill.evaluation import Evaluator
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.fields import check_fields, own_code
from rankdistill.runtime.hardware import tell_threads
from rankdistill.students import start_of
from rankdistill.students.base import Ranker
from rankdistill.students.models import Model
from rankdistill.students.rankers import check_trainable, compare_by, ranker_of, reranks, similarity_of
from rankdistill.training.dev import check_apart
from rankdistill.training.rates import AUTO
from rankdistill.training.refresh import check_refresh
from rankdistill.training.stages import Stage
from rankdistill.training.step import check_offers

log = logging.getLogger(__name__)
FIELDS = {
    "seed": int,
    "plots": bool,
    "scores.similarity": str | None,
    "scores.scale": float | None,
    "scores.teacher_scores": str,
    "scores.teacher_scale": float | str,
    "scores.teacher_weights": dict | None,
    "scores.relabel": str | None,
    "scores.relabel_margin": float,
    "scores.chunk_tokens": int | None,
    "scores.grad_cache": bool,
    "evaluation.split": str,
    "evaluation.teacher": bool | int,
    "evaluation.dev_split": str | None,
    "evaluation.dev_queries": int | None,
    "evaluation.patience": int | None,
}


@dataclass(frozen=True)
class Job:
    """The parts of a run.

    ``sources`` are where its score tables are from, the last stage's last, and ``table_of`` has the place of
    each stage's in them; ``inputs`` are the fingerprints of what may change in place under the same settings.
    """

    config: DictConfig
    evaluator: Evaluator
    sampler: Any
    stages: list[Stage]
    collection: Collection
    student: Model
    sources: list[Source]
    table_of: dict[str, int]
    inputs: dict[str, str]

    @property
    def split(self) -> str:
        """Whose queries are measured before and after."""
        return self.config.evaluation.split


def job_of(config: DictConfig, checkpoints: Path) -> Job:
    """What ``config`` asks for, whose stages keep their checkpoints in the folder ``checkpoints``.

    Raises ``InputError`` for whatever shows before something is mined or scored.
    """
    check_fields(config, FIELDS)
    check_seed(config.seed)
    set_seed(config.seed)
    evaluator = make(config.evaluator, Evaluator)
    sampler = make(config.sampler)
    check_scores_of("scores", config.scores)
    check_models(*makes(config))
    stages = plan(config, checkpoints)
    check_dev(config.evaluation, stages)
    if not isinstance(config.evaluation.teacher, bool):
        check_counts(**{"evaluation.teacher": config.evaluation.teacher})
    if processes.is_main():
        tell_threads()
    check_files(config, [stage.name for stage in stages])
    collection = make(config.data, Collection)
    log.info("%s", collection)
    test = config.evaluation.split
    check_split(collection, test, "evaluation.split")
    check_split(collection, config.candidates.split, "candidates.split")
    evaluator.check(collection, test)  # what is wrong with the splits shows now
    if (dev := config.evaluation.dev_split) is not None:
        check_dev_queries(collection, dev, test, config.candidates.split)
        evaluator.check(collection, dev)
    set_seed(config.seed)  # of a new scoring head, whatever was drawn before
    student = make(config.student, Model)
    check_student(student, config, stages)
    evaluator.check_index(student)
    sources = sources_of(config, [stage.name for stage in stages])
    stages = [with_scorer(stage, sources, student) for stage in stages]
    table_of = {name: i for i, source in enumerate(sources) for name in source.stages}
    inputs = inputs_of(collection, student, sources, stages) | own_code(config)
    return Job(config, evaluator, sampler, stages, collection, student, sources, table_of, inputs)


def check_student(student: Model, config: DictConfig, stages: Sequence[Stage]) -> None:
    """Raises ``InputError`` if ``student`` can't be trained as the settings say; makes it compare so."""
    check_trainable(student)
    with fields_of("scores"):
        similarity = similarity_of(student, config.scores.similarity)
    for stage in stages:
        with fields_of("scores"):
            ranker = ranker_of(student, similarity, stage.scores["scale"], half=False, grad_cache=False)
        inside = stage.step_teacher and stage.step_teacher.ranker(student, half=False, grad_cache=False)
        check_offers(ranker, stage.loss, inside or None)
        set_learning_rate(stage, ranker, config)
    if reranks(student):
        log.info("the student's scores are its logits; scores.scale is 1")
    compare_by(student, similarity)  # before it is measured


def set_learning_rate(stage: Stage, ranker: Ranker, config: DictConfig) -> None:
    """Gives ``stage`` the rate that suits ``ranker``, unless one is set; the log says which it is."""
    rate = (config[stage.name].get("trainer") or {}).get("learning_rate", config.trainer.learning_rate)
    if rate is None:
        stage.arguments.learning_rate = ranker.learning_rate
        whose = f"the default of a {type(ranker).__name__}"
    elif rate == AUTO:
        stage.arguments.learning_rate = ranker.learning_rate
        whose = "from which it is searched"
    else:
        whose = "as it was set"
    log.info("%s: learning rate %g, %s", stage.name, stage.arguments.learning_rate, whose)


def with_scorer(stage: Stage, sources: Sequence[Source], student: Model) -> Stage:
    """``stage`` with its teacher to score what a refresh finds; raises ``InputError`` if it can't."""
    if stage.refresh is None:
        return stage
    refresh = replace(stage.refresh, teacher=next(x.teacher for x in sources if stage.name in x.stages))
    check_refresh(refresh, student, stage.arguments)
    return replace(stage, refresh=refresh)


def inputs_of(
    collection: Collection, student: Model, sources: Sequence[Source], stages: Sequence[Stage]
) -> dict[str, str]:
    """The fingerprints of what may change in place under the same settings, before anything is computed."""
    inputs = {"collection": collection.fingerprint, "student": start_of(student)}
    for source in sources:
        inputs |= source.inputs(collection)
    inside = [stage.step_teacher for stage in stages if stage.step_teacher is not None]
    if inside:
        inputs["step_teacher"] = fingerprint(*(one.fingerprint for one in inside))
    orders = [stage.order for stage in stages if stage.order is not None]
    if orders:
        inputs["order"] = fingerprint(*(order.fingerprint for order in orders))
    return inputs


def check_dev_queries(collection: Collection, dev: str, test: str, train: str) -> None:
    """Raises ``InputError`` unless ``dev`` is a split that shares no query with ``test`` and ``train``."""
    if dev not in collection.qrels:
        raise InputError(
            f"evaluation.dev_split={dev}: {collection.name} has {shorten(collection.qrels, 9)}; "
            "evaluation.dev_queries=100 holds out training queries instead"
        )
    for split in (test, train):
        check_apart(collection, dev, collection.query_rows(dev), collection.query_rows(split), split)
