"""How long a run will take here: a few texts and pairs of each model are timed before it begins."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch

from rankdistill.candidates.mining import by_name, candidates_path
from rankdistill.commands.measuring import asked_queries
from rankdistill.commands.tables import Source
from rankdistill.data import Collection
from rankdistill.data.candidates import read_candidates
from rankdistill.errors import fields_of
from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import index_of
from rankdistill.runtime.stopwatch import duration
from rankdistill.students import fingerprint_of
from rankdistill.students.embed import embeddings_path
from rankdistill.students.models import BiEncoderModel, CrossEncoderModel, Model
from rankdistill.students.rankers import is_static, reranks
from rankdistill.students.sides import sides, stored_modules
from rankdistill.teachers import FileTeacher, NoTeacher
from rankdistill.teachers.scoring import scores_path
from rankdistill.training.arguments import batch_of, steps_of
from rankdistill.training.checkpoints import last_checkpoint, step_of
from rankdistill.training.groups import group_size
from rankdistill.training.rates import kept_rates
from rankdistill.training.stages import Stage

log = logging.getLogger(__name__)
TABLES, MEASURING = "training candidates and scores", "measuring"
SAMPLE = {"cpu": 48, "cuda": 1000}  # texts, or pairs, that are timed
BACKWARD = 3  # a step's encoding against encoding alone: the way back takes about twice the way there
STEP = 0.014  # seconds of a step besides: batches, loss, optimiser, log
SAVED = 1e8  # bytes a second of a checkpoint, which is written, and read again for its checksums
TRIED = 4  # rates that a search tries, mostly


class Forecast:
    """Seconds of the parts of a run on ``collection``; what the cache has, or was counted, costs nothing."""

    def __init__(self, collection: Collection):
        self.collection = collection
        self._timed: dict[tuple[str, str], float] = {}
        self._embedded: set[str] = set()
        self.unknown: dict[str, int] = {}  # pairs of teachers that are not asked to find out

    def text(self, model: Model, kind: str) -> float:
        """Seconds that ``model`` takes to encode a ``query`` or a ``document``."""
        texts = self.collection.queries if kind == "query" else self.collection.documents
        return self._of_one(model, kind, lambda rows: index_of(model, [texts[row] for row in rows]), texts)

    def pair(self, model: CrossEncoderModel) -> float:
        """Seconds that ``model`` takes to score a pair."""
        queries, documents = self.collection.queries, self.collection.documents

        def score(rows: np.ndarray) -> None:
            places = np.arange(len(rows))
            asked = [queries[row % len(queries)] for row in rows]
            index_of(model, [documents[row] for row in rows]).scores(asked, places, places)

        return self._of_one(model, "pair", score, documents)

    def _of_one(self, model: Model, kind: str, work: Callable, texts: Sequence[str]) -> float:
        key = fingerprint_of(model), kind
        if key not in self._timed:
            n = min(SAMPLE.get(model.device.type, max(SAMPLE.values())), len(texts))
            rows = np.random.default_rng(0).choice(len(texts), n, replace=False)
            training = model.training
            with torch.no_grad():
                work(rows[:4])  # what is slow once alone
                begun = perf_counter()
                work(rows)
            self._timed[key] = (perf_counter() - begun) / n
            model.train(training)
        return self._timed[key]

    def stored_documents(self, model: Model) -> float:
        """Encoding the whole collection once."""
        key = fingerprint_of(model)
        if key in self._embedded:
            return 0.0
        self._embedded.add(key)
        if isinstance(model, BiEncoderModel) and embeddings_path(model, self.collection, "document").exists():
            return 0.0
        return len(self.collection.documents) * self.text(model, "document")

    def table(
        self, source: Source, split: str, limit: int | None, seed: int, asked: np.ndarray | None = None
    ) -> float:
        """Mining the pools of ``split``, and the teacher's scores of those of the queries at ``asked``."""
        if isinstance(source.teacher, FileTeacher):
            return 0.0
        with fields_of(source.key("candidates")):
            rows = self.collection.query_rows(split, limit, seed)
        retrievers, seconds = by_name(source.retrievers), 0.0
        path = candidates_path(self.collection, retrievers, split, limit, seed)
        scored = rows if asked is None else asked
        if path.exists():
            pools = read_candidates(path, self.collection)
            pools = pools.take(np.flatnonzero(np.isin(pools.query_rows, scored)))
            if scores_path(source.teacher, pools).exists():
                return 0.0
            pairs = len(pools.document_rows)
        else:
            sizes = (getattr(retriever, "n", 0) for retriever in retrievers.values())
            pairs = len(scored) * min(sum(sizes) + 1, len(self.collection.documents))
            models = (getattr(retriever, "model", None) for retriever in retrievers.values())
            encoders = [model for model in models if isinstance(model, Model)]
            seconds = sum(self.stored_documents(x) + len(rows) * self.text(x, "query") for x in encoders)
        return seconds + self.scoring(source.teacher, pairs, len(scored))

    def scoring(self, teacher: Any, pairs: int, queries: int) -> float:
        """The teacher's scores of so many pairs; an ensemble's members' one after another."""
        if members := getattr(teacher, "teachers", None):
            return sum(self.scoring(member, pairs, queries) for member in members.values())
        model = getattr(teacher, "model", None)
        if isinstance(model, CrossEncoderModel):
            return pairs * self.pair(model)
        if isinstance(model, Model):
            return self.stored_documents(model) + queries * self.text(model, "query")
        if not isinstance(teacher, NoTeacher):
            name = type(teacher).__name__
            self.unknown[name] = self.unknown.get(name, 0) + pairs
        return 0.0

    def measuring(self, student: Model, queries: int, pairs: int) -> float:
        """Once, by weights that are new."""
        if reranks(student):
            return pairs * self.pair(cast(CrossEncoderModel, student))
        documents = len(self.collection.documents)
        return documents * self.text(student, "document") + queries * self.text(student, "query")

    def stage(self, stage: Stage, student: Model, queries: int, measured: float) -> float:
        """Its steps that are still to make, of ``queries`` an epoch; measuring costs ``measured`` a time."""
        arguments, size = stage.arguments, max(group_size(stage.sampler), 2)
        steps = steps_of(arguments, queries)
        if (stage.folder / "finished").exists():
            steps = 0
        elif (checkpoint := last_checkpoint(stage.folder)) is not None:
            steps -= step_of(checkpoint)
        batch = min(batch_of(arguments)["queries"], queries) / arguments.world_size
        each = BACKWARD * self.group(student, size)
        if stage.step_teacher is not None:
            inside = stage.step_teacher.model
            each += self.group(inside if isinstance(inside, Model) else student, size)
        seconds = steps * (STEP + batch * each)
        if stage.searches_rate and not kept_rates(stage.folder):
            seconds += TRIED * (seconds + measured)
        if arguments.eval_strategy == "steps":
            seconds += measured * times(steps, arguments.eval_steps or arguments.logging_steps)
        if arguments.save_strategy == "steps":
            weights = sum(x.numel() * x.element_size() for x in student.parameters() if x.requires_grad)
            seconds += 3 * weights / SAVED * times(steps, arguments.save_steps)  # with AdamW's two
        return seconds

    def group(self, model: Model, size: int) -> float:
        """Encoding a query and ``size`` documents, but for what is looked up: stored and token vectors."""
        if reranks(model):
            return size * self.pair(cast(CrossEncoderModel, model))
        seconds = 0.0
        for kind, side in sides(model).items():
            if not (isinstance(side, BiEncoderModel) and (stored_modules(side) or is_static(side))):
                seconds += (1 if kind == "query" else size) * self.text(model, kind)
        return seconds


def times(steps: int, every: float) -> float:
    """How often in ``steps`` what happens ``every`` so many, or such a share of them, does; 0 is never."""
    if every == 0:
        return 0.0
    return steps / every if every >= 1 else 1 / every


def forecast(
    collection: Collection,
    student: Model,
    sources: Sequence[Source],
    stages: Sequence[Stage],
    evaluator: Evaluator,
    split: str,
    teacher: bool | int,
) -> list[tuple[str, float]]:
    """The parts of a run in their order, each with its seconds; the log says what they come to.

    ``teacher`` of the queries of ``split`` are scored by it, or all. Of a retriever or teacher of one's own
    nothing is known; the log says so.
    """
    costs = Forecast(collection)
    last = sources[-1]
    measured = len(collection.query_rows(split, evaluator.limit, evaluator.seed))
    tables = sum(costs.table(x, x.candidates.split, x.candidates.limit, 0) for x in sources)
    pairs = measured * sum(getattr(x, "n", 0) for x in by_name(last.retrievers).values())
    once = costs.measuring(student, measured, pairs)
    before = once
    if not reranks(student):  # as it begins it may have mined
        before = costs.stored_documents(student) + measured * costs.text(student, "query")
    if teacher:
        asked = asked_queries(teacher, collection, split, evaluator)
        before += costs.table(last, split, evaluator.limit, evaluator.seed, asked)
    parts = [(TABLES, tables), (MEASURING, before)]
    for stage in stages:
        source = next(x for x in sources if stage.name in x.stages)
        queries = len(collection.query_rows(source.candidates.split, source.candidates.limit, 0))
        parts.append((stage.name, costs.stage(stage, student, queries, once)))
    parts.append((MEASURING, once))
    said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts)
    besides = "".join(f"; not counted: {pairs:,} pairs of {name}" for name, pairs in costs.unknown.items())
    log.info("about %s from here on: %s%s", duration(sum(x for _, x in parts)), said, besides)
    return parts
