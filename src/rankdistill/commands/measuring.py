"""What ``rankdistill train`` measures: the student before and after, its teacher, and how they agree."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from rankdistill import analysis
from rankdistill.candidates import Dense, mine
from rankdistill.candidates.mining import Retrievers, by_name
from rankdistill.commands.summary import evaluation_queries, measured_queries
from rankdistill.commands.tables import Source, measured_and_trained
from rankdistill.data import Candidates, Collection
from rankdistill.errors import shorten
from rankdistill.evaluation import Evaluation, Evaluator
from rankdistill.evaluation.training_runs import RERANKING, SEARCH, SEARCHED
from rankdistill.retrieval import DenseIndex, Index, stored_index
from rankdistill.runtime import processes
from rankdistill.scores import ScoreTable
from rankdistill.students.lengths import Counts, cut_inputs, cut_pairs
from rankdistill.students.matryoshka import cuts_of
from rankdistill.students.models import CrossEncoderModel, Model
from rankdistill.students.rankers import reranks
from rankdistill.teachers import FileTeacher, NoTeacher, score_candidates
from rankdistill.teachers.scoring import embeds_all
from rankdistill.training.stages import Stage
from rankdistill.training.step_teacher import StepTeacher

log = logging.getLogger(__name__)


class Measured:
    """What the systems of a run score on ``split``: ``results``, by their names.

    ``pools`` are what a cross-encoder reranks, None of a student that searches. ``table`` has the teacher's
    scores of the queries at ``asked``; in the main process ``pairs`` are the student's scores of the same
    pairs, and ``agreements`` how alike both are, ``before`` and ``after``.
    """

    def __init__(
        self, evaluator: Evaluator, student: Model, collection: Collection, split: str, source: Source
    ):
        self.evaluator, self.student, self.collection, self.split = evaluator, student, collection, split
        self.pools = reranked_pools(student, source.teacher, source.retrievers, collection, split, evaluator)
        self.results: dict[str, Evaluation] = {}
        self.asked, self.table = np.empty(0, np.int64), cast(ScoreTable | None, None)
        self.searched: Evaluation | None = None
        self.pairs: dict[str, np.ndarray] = {}
        self.agreements: dict[str, pd.DataFrame] = {}

    def before(self, documents: Index, source: Source, asked: bool | int) -> None:
        """``asked``: of how many queries the teacher of ``source`` is measured too; True of all."""
        evaluator, collection, split = self.evaluator, self.collection, self.split
        self._measure("before", documents)
        if reranks(self.student):
            self.results |= retrieved(evaluator, source.retrievers, collection, split)
        means = self.results["before"].mean.items()
        log.info("before: %s", " ".join(f"{name} {value:.4f}" for name, value in means))
        if asked:
            self.asked = asked_queries(asked, collection, split, evaluator)
            teacher, retrievers = source.teacher, source.retrievers
            self.table = measured_scores(teacher, retrievers, collection, split, evaluator, self.asked)
            if self.table is not None and embeds_all(teacher, self.table.candidates):
                index = stored_index(teacher.model, collection)
                self.searched = evaluator.evaluate(teacher.model, collection, split, index)
        self._compare("before", documents)
        log.info("measured: %s", measured_queries(collection, split, self.queries))

    def after(self, documents: Index) -> None:
        """And the teacher, where it was asked: reranking its candidates, and, if it embeds all documents, as
        a model that searches, which the student is."""
        self._measure("after", documents)
        self._compare("after", documents)
        if self.table is not None:
            ids = [self.collection.query_ids[row] for row in self.asked.tolist()]
            self.results["teacher"] = self.evaluator.rerank(self.table, self.split).of(ids)
            if self.searched is not None:
                self.results[SEARCHED] = self.searched.of(ids)
            warn_of(self.results["teacher"].mean, self.results["before"].of(ids).mean, self.evaluator.main)

    @property
    def queries(self) -> int:
        """How many of the split are measured."""
        return len(self.results["before"].per_query[self.evaluator.main])

    @property
    def active(self) -> dict[str, Mapping[str, float]]:
        """The active dimensions of a sparse student, before and after; {} of another."""
        found = {when: self.results[when].active for when in ("before", "after")}
        return {when: active for when, active in found.items() if active}

    def counted(self, tables: Sequence[ScoreTable]) -> dict[str, Any]:
        """Of how many queries the figures are, why not of the others, and how many are in ``tables`` too."""
        limit = self.evaluator.limit
        counts = evaluation_queries(self.collection, self.split, self.queries, limit)
        counts["trained on"], alike = measured_and_trained(tables, self.split, self.evaluator)
        if alike:
            counts["trained on but for case or white space"] = alike
        if self.table is not None:
            counts["used of the teacher"] = len(self.asked)
            unscored = int((~np.isin(self.asked, self.table.candidates.query_rows)).sum())
            if unscored:
                counts["without teacher scores of relevant documents"] = unscored
        return counts

    def _measure(self, when: str, documents: Index) -> None:
        evaluator, student = self.evaluator, self.student
        self.results |= evaluations(
            when, evaluator, student, self.collection, self.split, documents, self.pools
        )

    def _compare(self, when: str, documents: Index) -> None:
        if processes.is_main() and self.table is not None:
            self.pairs[when] = analysis.student_scores(self.student, self.table, documents)
            self.agreements[when] = agreement_of(self.table, self.pairs[when], when)


def evaluations(
    name: str,
    evaluator: Evaluator,
    student: Model,
    collection: Collection,
    split: str,
    documents: Index,
    candidates: Candidates | None,
) -> dict[str, Evaluation]:
    """``student`` as ``name``, and as ``name:n`` by each number of dimensions that it is trained for."""
    indexes = {name: documents}
    for n in cuts_of(student):  # what is cut is dense
        indexes[f"{name}:{n}"] = cast(DenseIndex, documents).cut(n)
    return {
        key: evaluator.evaluate(student, collection, split, index, candidates)
        for key, index in indexes.items()
    }


def retrieved(
    evaluator: Evaluator, retrievers: Retrievers, collection: Collection, split: str
) -> dict[str, Evaluation]:
    """All documents ranked by the encoder of dense candidates, which reranking must beat; {} without one."""
    encoder = next((one.model for one in by_name(retrievers).values() if isinstance(one, Dense)), None)
    if encoder is None:
        return {}
    documents = stored_index(encoder, collection)
    return {"retrieved": evaluator.evaluate(encoder, collection, split, documents)}


def truncated_inputs(
    student: Model,
    tables: Mapping[str, ScoreTable],
    pools: Candidates | None,
    evaluator: Evaluator,
    split: str,
) -> Counts:
    """What ``student`` cuts; of a cross-encoder in ``tables`` by name, and of the measured pairs.

    These are ``pools``, or BM25's.
    """
    counts: Counts = {}
    for name, table in tables.items():
        counts |= cut_inputs(student, table.candidates, f"{name} pairs")
        collection = table.collection
    if isinstance(student, CrossEncoderModel):
        measured = evaluator.pools(collection, split) if pools is None else pools
        counts |= cut_pairs(student, measured, "measured pairs")
    return counts


def cut_in_the_step(student: Model, stages: Sequence[Stage], tables: Sequence[ScoreTable]) -> Counts:
    """What the teachers inside the step of ``stages`` cut of their ``tables``, those of each stage.

    A copy of the student reads as the student does, unless it has texts of its own.
    """
    counts: Counts = {}
    taught = [(stage, table) for stage, table in zip(stages, tables, strict=True) if stage.step_teacher]
    for stage, table in taught:
        teacher = cast(StepTeacher, stage.step_teacher)
        model = student if isinstance(teacher.model, str) else teacher.model
        if not isinstance(model, Model) or (model is student and teacher.view is None):
            continue
        candidates = table.candidates
        if teacher.view is not None:
            candidates = replace(candidates, collection=teacher.view.of(table.collection))
        cut = cut_inputs(model, candidates, who="the step teacher")
        where = f" in {stage.name}" if len(taught) > 1 else ""
        counts |= {f"{name} that the step teacher reads{where}": n for name, n in cut.items()}
    return counts


def summed(found: Sequence[Counts]) -> Counts:
    """The counts of several rounds as one; ``tokens`` are the same in each."""
    total: Counts = {}
    for name, counts in (item for one in found for item in one.items()):
        before = total.get(name, {"longer": 0, "of": 0})
        more = {key: (counts[key] or 0) + (before[key] or 0) for key in ("longer", "of")}
        total[name] = {**more, "tokens": counts["tokens"]}
    return total


def measured_how(evaluator: Evaluator, documents: int) -> list[str]:
    """What a reader of the figures must know of the search that they are of, a sentence each."""
    sentences = []
    if evaluator.index != "Flat":
        sentences.append(
            f"Documents were retrieved through FAISS's index {evaluator.index}, which is not exhaustive and "
            "may miss some of the best."
        )
    if evaluator.uncut:
        sentences.append(
            f"{', '.join(evaluator.uncut)}: over the {min(evaluator.k, documents)} best documents."
        )
    return sentences


def reranked_pools(
    student: Model,
    teacher,
    retrievers: Retrievers,
    collection: Collection,
    split: str,
    evaluator: Evaluator,
) -> Candidates | None:
    """The candidates that a cross-encoder is measured on, which are the teacher's; None of another student.

    None too if the teacher is a file without queries of ``split``.
    """
    if not reranks(student):
        return None
    if isinstance(teacher, FileTeacher):
        return teacher.table(collection, split).candidates if teacher.covers(collection, split) else None
    return mine(collection, retrievers, split, evaluator.limit, evaluator.seed)


def task_of(
    student: Model, pools: Candidates | None, evaluator: Evaluator, collection: Collection, split: str
) -> str:
    """What ``student`` was measured at: equal for two runs whose figures are of one task."""
    if not reranks(student):
        return SEARCH
    return f"{RERANKING} {(evaluator.pools(collection, split) if pools is None else pools).fingerprint}"


def watched_pools(
    student: Model, teacher, retrievers: Retrievers, collection: Collection, dev, evaluator: Evaluator
) -> Candidates | None:
    """``reranked_pools`` of ``dev``, a split or judgments, that is measured while training."""
    if dev is None or dev == "":
        return None
    if isinstance(dev, str):
        return reranked_pools(student, teacher, retrievers, collection, dev, evaluator)
    held = replace(collection, qrels={"dev": dev})
    return reranked_pools(student, teacher, retrievers, held, "dev", evaluator)


def evaluated(collection: Collection, split: str) -> str:
    """Changes with whatever measures of ``split`` depend on: documents, its queries, their judgments."""
    judged = collection.judged(split)
    texts = [(query, collection.queries[collection.query_row[query]]) for query in sorted(judged)]
    digest = hashlib.sha256()
    for name, text in [*texts, *sorted(zip(collection.document_ids, collection.documents, strict=True))]:
        digest.update(f"{name}\0{text}\0".encode())
    digest.update(str([(query, sorted(judged[query].items())) for query, _ in texts]).encode())
    return digest.hexdigest()[:16]


def agreement_of(table: ScoreTable, student: np.ndarray, when: str) -> pd.DataFrame:
    """``agreement`` on the test queries' candidates; ``student`` are its scores (N,) of these pairs."""
    agreements = analysis.agreement(table, student)
    means = agreements[["kendall_tau", "top1"]].mean()
    log.info(
        "agreement with the teacher %s, %d queries: Kendall's tau %.3f, same document first %.3f",
        when,
        len(agreements),
        *means,
    )
    return agreements


def asked_queries(number: bool | int, collection: Collection, split: str, evaluator: Evaluator) -> np.ndarray:
    """Rows, ascending, of the measured queries that the teacher scores: ``number`` of them, or all."""
    rows = collection.query_rows(split, evaluator.limit, evaluator.seed)
    if number is True or number >= len(rows):
        return rows
    return np.sort(np.random.default_rng(evaluator.seed).choice(rows, number, replace=False))


def measured_scores(
    teacher, retrievers, collection: Collection, split: str, evaluator: Evaluator, asked: np.ndarray
) -> ScoreTable | None:
    """The scores that the teacher is measured on, of the queries at ``asked``; None if there are none."""
    if isinstance(teacher, NoTeacher):
        return None
    if not isinstance(teacher, FileTeacher):
        pools = mine(collection, retrievers, split, evaluator.limit, evaluator.seed)
        return score_candidates(teacher, pools.take(np.flatnonzero(np.isin(pools.query_rows, asked))))
    rows = collection.query_rows(split)
    covered, queries = teacher.covers(collection, split), len(rows)
    if not covered:
        log.info(
            "%s: no scores of the %d queries of %s; the teacher isn't measured", teacher.path, queries, split
        )
        return None
    table = teacher.table(collection, split)
    lacking = np.setdiff1d(rows, table.candidates.query_rows).tolist()
    if lacking:
        log.warning(
            "%s: scores of %d of %d queries of %s; of the other %d the file has no scored relevant document "
            "or no second candidate, and they count 0: %s",
            teacher.path,
            queries - len(lacking),
            queries,
            split,
            len(lacking),
            shorten(collection.query_ids[row] for row in lacking),
        )
    return table.take(np.flatnonzero(np.isin(table.candidates.query_rows, asked)))


def warn_of(teacher: Mapping[str, float], student: Mapping[str, float], measure: str) -> None:
    """Of a teacher that ranks its candidates no better than the student ranks the collection."""
    if teacher[measure] <= student[measure]:
        log.warning(
            "the teacher reranks to %s %.4f, the student has %.4f before: there is little to distil",
            measure,
            teacher[measure],
            student[measure],
        )
