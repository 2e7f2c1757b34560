"""What the stages of a run are trained on: where each one's score table is from, and whose queries it has."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from rankdistill.candidates import mine
from rankdistill.candidates.mining import Retrievers
from rankdistill.commands.launch import make, make_retrievers
from rankdistill.commands.summary import accounted, used_queries
from rankdistill.data import Collection
from rankdistill.data.candidates import RANKS
from rankdistill.data.collection import Qrels
from rankdistill.errors import InputError, fields_of
from rankdistill.evaluation import Evaluator
from rankdistill.losses.base import check_columns
from rankdistill.runtime.fields import check_fields
from rankdistill.scores import ScoreTable
from rankdistill.teachers import FileTeacher, score_candidates
from rankdistill.teachers.scoring import identity
from rankdistill.training.arguments import check_batches
from rankdistill.training.dev import hold_out, without
from rankdistill.training.groups import check_fit, offered_sizes
from rankdistill.training.stages import Stage

log = logging.getLogger(__name__)
PARTS = ("candidates", "cut", "teacher")  # that a stage may have of its own; its table is another one then
CANDIDATES = {"candidates.split": str, "candidates.limit": int | None, "candidates.retrievers": dict}


@dataclass(frozen=True)
class Source:
    """Where a score table is from. ``stages`` train on it; ``name`` is "" for that of the whole run."""

    name: str
    teacher: Any
    candidates: DictConfig
    cut: Callable[[ScoreTable], ScoreTable]
    stages: list[str] = field(default_factory=list)

    @cached_property
    def retrievers(self) -> Retrievers:
        """Made when pools are mined; none of a file's scores, which has pools of its own."""
        return {} if isinstance(self.teacher, FileTeacher) else make_retrievers(self.candidates.retrievers)

    def inputs(self, collection: Collection) -> dict[str, str]:
        """The fingerprint of what scores, under the name that it has in a run's conditions."""
        if isinstance(self.teacher, FileTeacher):
            return {self.key("scores"): self.teacher.fingerprint_for(collection)}
        return {self.key("teacher"): identity(self.teacher)}

    def key(self, what: str) -> str:
        return f"{self.name}.{what}" if self.name else what


def sources_of(config: DictConfig, stages: Sequence[str]) -> list[Source]:
    """Where the tables of ``stages`` are from, that of the last stage last.

    A stage's own teacher and cut replace those of the whole run, the fields of its candidates are set in
    these. Stages without parts of their own share one table. Teachers are made here, before anything long, in
    case one cannot be had. Raises ``InputError`` for a split of its own.
    """
    sources: dict[str, Source] = {}
    for stage in stages:
        settings = config[stage] or {}
        own = {part: settings[part] for part in PARTS if settings.get(part) is not None}
        name = stage if own else ""
        if name not in sources:
            whole = config
            if own:
                check_fields(config, {f"{stage}.candidates": dict | None})
                changed = OmegaConf.merge(config, {"candidates": own.get("candidates", {})})
                whole = cast(DictConfig, changed)
            check_fields(whole, CANDIDATES)
            if whole.candidates.split != config.candidates.split:
                raise InputError(f"{stage}.candidates.split: all stages train on one; set candidates.split")
            teacher, cut = own.get("teacher", config.teacher), own.get("cut", config.cut)
            sources[name] = Source(name, make(teacher), whole.candidates, make(cut, cast(type, Callable)))
        sources[name].stages.append(stage)
    last = next(source for source in sources.values() if stages[-1] in source.stages)
    return [*(source for source in sources.values() if source is not last), last]


def check_files(config: DictConfig, stages: Sequence[str]) -> None:
    """Raises ``InputError`` for a file of scores that is not there, before anything is read or loaded."""
    of_stages = [(config[stage] or {}).get("teacher") for stage in stages]
    for teacher in (config.teacher, *of_stages):
        if teacher and str(teacher.get("_target_")).endswith(f".{FileTeacher.__name__}"):
            make(teacher)


def training_tables(
    sources: Sequence[Source], collection: Collection, stages: Sequence[Stage], held: int | None, seed: int
) -> tuple[list[ScoreTable], list[dict[str, Any]], Qrels | None]:
    """What each of ``sources`` gives to train on, how many queries of the split that are, and judgments.

    The judgments are those of the ``held`` queries that are measured while training: they are drawn from the
    last table and leave all; None if none are. Raises ``InputError`` before anything is scored if a stage's
    groups do not fit.
    """
    every = [
        training_scores(source, collection, [stage for stage in stages if stage.name in source.stages], held)
        for source in sources
    ]
    left, dev = every, None
    if held is not None:
        rest, dev = hold_out(every[-1], held, sources[-1].candidates.split, seed)
        rows = np.array([collection.query_row[query] for query in dev])
        left = [*(without(table, rows) for table in every[:-1]), rest]
    tables, queries = [], []
    for source, scored, whole in zip(sources, every, left, strict=True):
        tables.append(source.cut(whole))
        if len(tables[-1]) < len(whole):
            log.info("%s keeps %d of %d training queries", source.cut, len(tables[-1]), len(whole))
        queries.append(training_queries(source, scored, whole, tables[-1]))
    return tables, queries, dev


def training_scores(
    source: Source, collection: Collection, stages: Sequence[Stage], held: int | None
) -> ScoreTable:
    """What ``stages`` train on; whether their groups fit its pools shows before anything is scored."""
    split, limit, teacher = source.candidates.split, source.candidates.limit, source.teacher
    with fields_of(source.key("candidates")):
        if isinstance(teacher, FileTeacher):
            table = teacher.table(collection, split, limit)
            check_reads(stages, table.offers)
            return table
        pools = mine(collection, source.retrievers, split, limit)
    check_reads(stages, ["scores", *getattr(teacher, "columns", ()), *(RANKS + name for name in pools.ranks)])
    for stage in stages:
        check_fit(stage.sampler, pools)
        check_batches(stage.arguments, len(pools) - (held or 0))
    return score_candidates(teacher, pools)


def check_reads(stages: Sequence[Stage], offered: Sequence[str]) -> None:
    """Raises ``InputError`` if a stage reads a column that is not ``offered`` by the score table."""
    for stage in stages:
        check_columns(stage.loss, offered)
        for name in stage.scores["teacher_weights"] or ():
            if name not in offered:
                raise InputError(
                    f"{stage.name}: scores.teacher_weights has {name}, no column of the score table; it has "
                    f"{', '.join(offered)}"
                )


def training_queries(
    source: Source, scored: ScoreTable, whole: ScoreTable, table: ScoreTable
) -> dict[str, Any]:
    """How many queries of the training split are trained on, and how many are left out for what reason.

    ``scored`` are the pools with scores, ``whole`` those that are not held out, ``table`` what the cut keeps
    of these.
    """
    collection, split, limit = whole.collection, source.candidates.split, source.candidates.limit
    teacher = source.teacher
    judged, relevant = len(collection.judged(split)), len(collection.query_rows(split))
    covered = teacher.covers(collection, split) if isinstance(teacher, FileTeacher) else relevant
    taught = int((offered_sizes(table) >= 2).sum())
    reasons = {
        "no relevant document": judged - relevant,
        "no scored relevant document or no second candidate": relevant - covered,
        f"candidates.limit={limit}": covered - len(scored),
        "held out to evaluate on": len(scored) - len(whole),
        "cut": len(whole) - len(table),
        "fewer than two candidates": len(table) - taught,
    }
    queries = accounted(split, judged, taught, reasons)
    log.info("%s", f"{source.key('training')} on {used_queries(queries)}")
    return queries


def measured_and_trained(tables: Sequence[ScoreTable], split: str, evaluator: Evaluator) -> tuple[int, int]:
    """How many queries of ``split`` that ``evaluator`` measures are in ``tables``, by id or by text.

    And how many of these are not but for case and white space.
    """
    collection = tables[0].collection
    trained = np.concatenate([table.candidates.query_rows for table in tables])
    rows = collection.query_rows(split, evaluator.limit, evaluator.seed)
    counts = [
        np.isin(rows, trained).sum() if same is None else np.isin(same.first[rows], same.first[trained]).sum()
        for same in (collection.alike_queries, collection.same_queries)
    ]
    return int(counts[0]), int(counts[0] - counts[1])
