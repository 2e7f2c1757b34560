"""Pools that the student's own index renews in training (Xiong et al. 2021, ANCE, arXiv 2007.00808)."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn
from torch.utils.data import Sampler
from transformers import TrainingArguments

from rankdistill.candidates.refresh import places_in, renewed
from rankdistill.data.candidates import Candidates
from rankdistill.errors import InputError, check_counts
from rankdistill.retrieval import passing_index
from rankdistill.runtime import processes
from rankdistill.scores.table import ScoreTable
from rankdistill.students.lengths import Counts
from rankdistill.students.models import Model
from rankdistill.students.rankers import reranks
from rankdistill.teachers.none import NoTeacher
from rankdistill.teachers.scoring import Teacher, cut_by, forget, score_pairs
from rankdistill.training.arguments import batch_of
from rankdistill.training.groups import TrainingGroups
from rankdistill.training.orders import EpochSampler

log = logging.getLogger(__name__)
SOURCE = "refreshed"  # what the student's own candidates are counted as


@dataclass(frozen=True)
class Refresh:
    """Every ``steps`` optimiser steps each pool gets the ``n`` documents that the student finds best then.

    Beside them the table's own candidates stay, or, without ``keep``, the known positives alone. ``teacher``
    scores what has no score yet; it must score pairs, not pools. The first round is the table as it is.
    Each round's table is kept with the checkpoints, so that a run resumes in the middle of a round.
    Raises ``InputError`` for a teacher that cannot score new documents.
    """

    steps: int = 100
    n: int = 20
    keep: bool = True
    teacher: Teacher | None = None

    def __post_init__(self):
        check_counts(**{"refresh.steps": self.steps, "refresh.n": self.n})
        if not isinstance(self.keep, bool):
            raise InputError(f"refresh.keep={self.keep!r}: it must be true or false")
        if self.teacher is not None:
            check_scores_pairs(self.teacher)

    def table(
        self, student: Model, table: ScoreTable, latest: ScoreTable, split: str | None, part: Path
    ) -> ScoreTable:
        """``table`` with the pools of this moment; ``part`` takes the scores until all are there.

        Scores that ``latest``, the table of the round before, has are taken from there. The processes of a
        job share the work; all of them get the same.
        """
        collection, rows = table.collection, table.candidates.query_rows
        training = student.training
        student.eval()
        index = passing_index(student, collection)
        queries = [collection.queries[row] for row in rows]
        own = collection.own_document[rows]
        mine = np.array_split(np.arange(len(rows)), processes.count())[processes.rank()]
        found = np.full((0, self.n), -1, np.int64)
        if len(mine):
            chosen = [queries[i] for i in mine]
            best, _ = index.search(chosen, min(self.n, len(index)), collection.document_ids, own[mine])
            found = np.full((len(mine), self.n), -1, np.int64)
            found[:, : best.shape[1]] = best
        student.train(training)
        found = np.concatenate(processes.gathered(found))
        positives = {} if split is None else collection.positive_rows(split)
        pools = renewed(table.candidates, SOURCE, found, positives, self.keep)
        scores, new = np.zeros(len(pools.document_rows), np.float32), np.ones(len(pools.document_rows), bool)
        for scored in (
            latest,
            table,
        ):  # the latter last: a teacher's scores of one pair may differ in a digit
            known = places_in(pools, scored.candidates)
            scores[known >= 0], new[known >= 0] = scored.scores[known[known >= 0]], False
        if isinstance(self.teacher, NoTeacher):
            scores = self.teacher.score_pools(pools)
        elif new.any():
            forget(cast(Teacher, self.teacher))
            scores[new] = score_pairs(cast(Teacher, self.teacher), new_to(pools, latest, table), part)
        log.info("pools renewed: %d of %d candidates are new to the teacher", int(new.sum()), len(new))
        return ScoreTable(pools, scores, table.teacher)


def new_to(pools: Candidates, *tables: ScoreTable) -> Candidates:
    """Those of ``pools`` that none of ``tables``, of the same queries, has."""
    new = np.all([places_in(pools, table.candidates) < 0 for table in tables], axis=0)
    owners = np.repeat(np.arange(len(pools)), np.diff(pools.offsets))[new]
    return pools.only(new, pools.query_rows, np.bincount(owners, minlength=len(pools)))


def check_scores_pairs(teacher: Teacher) -> None:
    """Raises ``InputError`` unless ``teacher`` can score a pair of texts by itself."""
    if isinstance(teacher, NoTeacher):
        return
    name = type(teacher).__name__
    if not hasattr(teacher, "score"):
        raise InputError(f"refresh: {name} cannot score documents that are new to it; take another teacher")
    try:
        teacher.score(["a"], ["a"])
    except InputError as error:
        raise InputError(f"refresh: {name} cannot score pairs by themselves ({error})") from None


def check_refresh(refresh: Refresh, student: nn.Module, args: TrainingArguments) -> None:
    """Raises ``InputError`` unless ``student``'s pools can be renewed as ``refresh`` says."""
    if refresh.teacher is None:
        raise InputError(
            "refresh.teacher: who scores documents that are found then? Give the table's teacher, or "
            "NoTeacher() for labels alone"
        )
    if not isinstance(student, Model) or reranks(student):
        raise InputError(f"refresh: {type(student).__name__} searches nothing; train another kind of student")
    for field in ("eval_strategy", "save_strategy", "logging_strategy"):
        if getattr(args, field) == "epoch":
            raise InputError(
                f"trainer.{field}=epoch: with refresh it is not known when an epoch ends; give steps"
            )
    if args.dataloader_persistent_workers:
        raise InputError("trainer.dataloader_persistent_workers=true: they would keep the pools of before")


class RoundSampler(Sampler[int]):
    """The items of ``epochs``, one epoch after the other, in rounds of ``size`` items."""

    def __init__(self, epochs: EpochSampler, size: int):
        self.epochs, self.size, self.round = epochs, size, 0

    def set_epoch(self, epoch: int) -> None:
        """The Trainer's epochs are rounds here."""
        self.round = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        place, end = self.round * self.size, (self.round + 1) * self.size
        while place < end:
            epoch, first = divmod(place, len(self.epochs))
            self.epochs.set_epoch(epoch)
            items = list(self.epochs)[first : first + end - place]
            yield from items
            place += len(items)


class Rounds:
    """The rounds of one training: which table is shown in each, and where it is kept."""

    def __init__(
        self,
        refresh: Refresh,
        student: nn.Module,
        groups: TrainingGroups,
        args: TrainingArguments,
        split: str | None,
    ):
        check_refresh(refresh, student, args)
        if lacking := [name for name in groups.columns if name != "grades"]:
            raise InputError(
                f"refresh: the loss reads {', '.join(lacking)}, which new candidates do not have"
            )
        self.refresh, self.groups, self.split = refresh, groups, split
        self.student = cast(Model, student)
        self.folder, self.first, self.shown = Path(str(args.output_dir)), groups.table, 0
        self.batch = batch_of(args)["queries"]
        if args.max_steps <= 0:
            args.max_steps = math.ceil(args.num_train_epochs * len(groups) / self.batch)

    def sampler(self, epochs: EpochSampler) -> RoundSampler:
        return RoundSampler(epochs, self.refresh.steps * self.batch)

    def epoch(self, step: int) -> float:
        """How often the queries were seen after ``step`` steps."""
        return step * self.batch / len(self.groups)

    def begin(self, step: int) -> Counts:
        """Shows the table of the round that ``step`` is in, made at its first step, or kept since then.

        Returns how many of the pairs that were scored for it the teacher cut, where it was made.
        """
        number = step // self.refresh.steps
        if number == 0:
            return {}
        if step > number * self.refresh.steps:
            self._show(number, self._kept(number))
            return {}
        latest = self.first if number == 1 else self.groups.table
        if 1 <= number - 1 != self.shown:
            latest = self._kept(number - 1)
        file = self._file(number)
        if processes.is_main():  # a resumed round scores all that is new to the teacher, in the same blocks
            file.with_suffix(".part").unlink(missing_ok=True)
        processes.wait()
        table = self.refresh.table(self.student, self.first, latest, self.split, file.with_suffix(".part"))
        cut: Counts = {}
        if processes.is_main():
            new = new_to(table.candidates, latest, self.first)
            cut = cut_by(self.refresh.teacher, new, "refreshed pairs")
        if "grades" in self.groups.columns:
            table = table.with_grades(self.split)
        if processes.is_main():
            table.save(file)
            file.with_suffix(".part").unlink(missing_ok=True)
            self._drop(number)
        processes.wait()
        self._show(number, self._kept(number))
        return cut

    def _show(self, number: int, table: ScoreTable) -> None:
        before = self.groups.queries
        self.groups.show(table)
        self.shown = number
        if not np.array_equal(self.groups.queries, before):
            lacking = len(np.setdiff1d(before, self.groups.queries))
            raise InputError(
                f"refresh.n={self.refresh.n}: {lacking} queries have no second document to show; give more, "
                "or keep=true"
            )

    def _file(self, number: int) -> Path:
        return self.folder / f"round-{number}.arrow"

    def _kept(self, number: int) -> ScoreTable:
        file = self._file(number)
        if not file.exists():
            raise InputError(
                f"{file}: the pools of round {number} are gone; delete {self.folder} to begin again"
            )
        return ScoreTable.load(file, self.first.collection)

    def _drop(self, number: int) -> None:
        """What no checkpoint needs any longer: each needs its own round and the one before."""
        steps = [int(path.name.rpartition("-")[2]) for path in self.folder.glob("checkpoint-*[0-9]")]
        oldest = min([number, *(step // self.refresh.steps for step in steps)]) - 1
        for file in self.folder.glob("round-*.arrow"):
            if int(file.stem.rpartition("-")[2]) < oldest:
                file.unlink()
