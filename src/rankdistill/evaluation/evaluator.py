"""Retrieval with a model, and measures of runs."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from subprocess import SubprocessError

import ir_measures
import numpy as np
from ir_measures import Measure, Metric

from rankdistill.candidates import BM25, mine
from rankdistill.data.candidates import UNRANKED, Candidates
from rankdistill.data.collection import Collection, Qrels
from rankdistill.data.rows import HIGHEST_GRADE
from rankdistill.errors import InputError, check_counts, check_loaded, check_seed
from rankdistill.evaluation.run import Run
from rankdistill.retrieval import Index, PairIndex, check_index, passing_index
from rankdistill.runtime import processes
from rankdistill.runtime.checked import checked
from rankdistill.scores.table import ScoreTable
from rankdistill.students.lengths import cut_pairs, cut_texts
from rankdistill.students.models import Model
from rankdistill.students.rankers import reranks

log = logging.getLogger(__name__)
MEASURES = ("nDCG@10", "RR@10", "R@100", "AP")


@dataclass(frozen=True)
class Evaluation:
    """``per_query[measure][query id]`` and ``mean[measure]`` of ``run``.

    ``active`` is the mean number of active dimensions of ``queries`` and ``documents``, of a sparse model.
    """

    run: Run
    per_query: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float] = field(init=False)
    active: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        means = {name: float(np.mean(list(values.values()))) for name, values in self.per_query.items()}
        object.__setattr__(self, "mean", means)

    def of(self, queries: Iterable[str]) -> "Evaluation":
        """The measures of ``queries`` alone, ids of some that were measured."""
        wanted = set(queries)
        some = {
            name: {query: value for query, value in values.items() if query in wanted}
            for name, values in self.per_query.items()
        }
        return replace(self, per_query=some)


@checked
class Evaluator:
    """Scores models and runs on a split of a collection.

    ``measures`` are any ir-measures expressions, the first one the main one; ``k`` documents are retrieved
    per query, or as many as the deepest measure's cutoff, and measures without one (AP) see these. ``index``
    is a FAISS ``index_factory`` string, ``search`` what it is searched with (``{"nprobe": 16}``); ``limit``
    evaluates on that many queries, drawn with ``seed``. Raises ``InputError`` for a measure ir-measures
    can't parse.
    """

    def __init__(
        self,
        measures: Sequence[str] = MEASURES,
        index: str = "Flat",
        k: int = 100,
        limit: int | None = None,
        seed: int = 0,
        search: Mapping[str, float] | None = None,
    ):
        measures = [measures] if isinstance(measures, str) else measures
        if not measures:
            raise InputError("evaluator.measures is empty: name one or more, such as nDCG@10")
        if k < 1:
            raise InputError(f"evaluator.k={k}: it must be a number of documents, 1 or more")
        check_counts(**{"evaluator.limit": limit})
        self.measures = {str(name): parse_measure(str(name)) for name in measures}
        check_seed(seed, "evaluator.seed")
        self.index, self.limit, self.seed, self.search = index, limit, seed, dict(search or {})
        self.k = max(k, self.depth)
        if self.k > k:
            deepest = ", ".join(name for name, m in self.measures.items() if m.params.get("cutoff", 0) > k)
            log.info("evaluator.k=%d is raised to %d for %s", k, self.k, deepest)

    @property
    def main(self) -> str:
        return next(iter(self.measures))

    @property
    def depth(self) -> int:
        """The deepest cutoff of a measure, 0 if none has one."""
        return max(measure.params.get("cutoff", 0) for measure in self.measures.values())

    @property
    def uncut(self) -> list[str]:
        """The measures without a cutoff, which see all results that there are."""
        return [name for name, measure in self.measures.items() if "cutoff" not in measure.params]

    def evaluate(
        self,
        model: Model | None,
        collection: Collection,
        split: str = "test",
        documents: Index | None = None,
        candidates: Candidates | None = None,
    ) -> Evaluation:
        """Retrieves ``k`` documents for each query of ``split`` and measures the run.

        ``documents`` is the collection as the model encodes it where that is there already (``model`` may be
        None then); else the processes of a job share the work. A cross-encoder searches nothing: it reranks
        ``candidates``, by default the ``k`` best of BM25.
        """
        self.check(collection, split)
        check_loaded(model)
        if model is not None:
            self.check_index(model)  # before the collection is encoded
        if documents is None:
            if model is None:
                raise InputError("model: must be given where documents is not")
            documents = passing_index(model, collection)
        if not (hasattr(documents, "search") and hasattr(documents, "__len__")):
            kind = type(documents).__name__
            raise InputError(f"documents: a {kind} is no index; retrieval.index_of makes one")
        if len(documents) != len(collection.documents):
            raise InputError(
                f"documents: a {type(documents).__name__} of {len(documents):,}, and {collection.name} has "
                f"{len(collection.documents):,} documents; give what retrieval.index_of makes of these"
            )
        if isinstance(documents, PairIndex):
            return self._reranked(documents, collection, split, candidates)
        query_rows = collection.query_rows(split, self.limit, self.seed)
        result = None
        if processes.is_main():
            if model is not None:
                cut_texts(model, collection)  # says how many
            queries = [collection.queries[row] for row in query_rows]
            own = collection.own_document[query_rows]
            rows, scores = documents.search(
                queries, self.k, collection.document_ids, own, self.index, self.search
            )
            if self.uncut:
                log.info("%s: over the %d best documents (evaluator.k)", ", ".join(self.uncut), rows.shape[1])
            run = Run.from_rows(collection, query_rows, rows, scores, "student")
            result = replace(self.measure(run, collection, split), active=documents.active(queries))
            if result.active:
                log.info(
                    "active dimensions: {queries:,.1f} a query, {documents:,.1f} a document".format(
                        **result.active
                    )
                )
        return processes.broadcast(result)

    def _reranked(
        self, documents: PairIndex, collection: Collection, split: str, candidates: Candidates | None
    ) -> Evaluation:
        """``evaluate`` of what scores pairs."""
        if self.index != "Flat":
            raise InputError(f"evaluator.index={self.index}: a cross-encoder has no index; leave it Flat")
        if candidates is None:
            log.info("a cross-encoder reranks: the %d best documents of BM25", self.k)
            candidates = self.pools(collection, split)
        if processes.is_main():
            cut_pairs(documents.model, candidates, "measured pairs")  # says how many
        return self.rerank(documents.table(candidates), split, "student")

    def pools(self, collection: Collection, split: str) -> Candidates:
        """What a cross-encoder reranks where nothing else is given: the ``k`` best of BM25."""
        return mine(collection, [BM25(self.k)], split, self.limit, self.seed)

    def rerank(self, table: ScoreTable, split: str = "test", name: str = "teacher") -> Evaluation:
        """The ranking of the candidates in ``table`` by its scores, the teacher's unless ``name`` says whose.

        Positives that no retriever found stay out, as they would if the teacher reranked; so do all beyond
        the best ``k``, as in ``evaluate``.
        """
        collection, candidates = table.collection, table.candidates
        judged = collection.judged(split)
        if not any(collection.query_ids[row] in judged for row in candidates.query_rows):
            raise InputError(f"none of the scored queries is in split {split!r} of {collection.name}")
        retrieved = ~candidates.positive | (candidates.best_ranks() < UNRANKED)
        scored = {}
        for i, row in enumerate(candidates.query_rows):
            span = candidates.pool(i)
            keep = retrieved[span]
            ids = [collection.document_ids[d] for d in candidates.document_rows[span][keep]]
            scored[collection.query_ids[row]] = dict(zip(ids, table.scores[span][keep].tolist(), strict=True))
        run = Run.from_scores(scored, name).without_own(collection)
        run = Run({query: ranked[: self.k] for query, ranked in run.ranking.items()}, run.name)
        sizes = [len(ranked) for ranked in run.ranking.values()]
        if min(sizes) < self.k and (self.uncut or min(sizes) < self.depth):
            log.info(
                "the %s ranks its candidates alone, %d to %d a query, where a model that searches has the "
                "best %d %s",
                name,
                min(sizes),
                max(sizes),
                min(self.k, len(collection.documents)),
                "of all documents" if self.index == "Flat" else f"that evaluator.index={self.index} finds",
            )
        return self.measure(run, collection, split)

    def check_index(self, model: Model) -> None:
        """Raises ``InputError`` if there is no such index of ``model``'s documents, or search parameter."""
        if not reranks(model):
            check_index(model, self.index, self.search)
        elif self.index != "Flat":
            raise InputError(
                f"evaluator.index={self.index}: a cross-encoder searches no index; leave it Flat"
            )

    def check(self, collection: Collection, split: str = "test") -> Qrels:
        """The judgments that are measured; raises ``InputError`` for a grade that a measure doesn't know."""
        wanted = {collection.query_ids[row] for row in collection.query_rows(split, self.limit, self.seed)}
        qrels = {query: judged for query, judged in collection.judged(split).items() if query in wanted}
        check_grades(self.measures.values(), qrels)
        return qrels

    def measure(self, run: Run, collection: Collection, split: str = "test") -> Evaluation:
        """Measures ``run``; queries of the split that it has no results for count 0.

        Left out is a document that is the query itself (``Collection.ignore_identical_ids``).
        """
        run = run.without_own(collection)
        qrels = self.check(collection, split)
        values = {name: dict.fromkeys(sorted(qrels), 0.0) for name in self.measures}
        asked, judged, ranked = numbered(qrels, run)
        names = {}  # by object: to compare measures is to print them, for every query
        for metric in calculated(list(set(self.measures.values())), judged, ranked):
            if id(metric.measure) not in names:  # two names may mean one measure
                alike = [name for name, measure in self.measures.items() if measure == metric.measure]
                names[id(metric.measure)] = metric.measure, alike
            for name in names[id(metric.measure)][1]:
                values[name][asked[metric.query_id]] = float(metric.value)
        for name, measure in self.measures.items():
            if measure.NAME == "NumQ":
                values[name] = dict.fromkeys(values[name], 1.0)
            elif measure.NAME == "NumRel":  # as many as the judgments say, whatever was found
                values[name] = {
                    query: float(sum(grade > 0 for grade in qrels[query].values())) for query in values[name]
                }
        return Evaluation(run, values)


def numbered(qrels: Qrels, run: Run) -> tuple[dict[str, str], dict, dict]:
    """number -> query id, qrels and results of these queries under ids of our own: numbers.

    A document's is its rank. What computes a measure may cut an id at a hyphen (gdeval) or a zero byte
    (trec_eval), or take digits alone. Results have distinct scores above 0, since programs break ties in
    opposite directions; queries without results have none.
    """
    asked, judged, ranked = {}, {}, {}
    places: list[str] = []
    scores: dict[int, dict[str, float]] = {}  # by the number of results, which tells them all
    for number, (query, grades) in enumerate(qrels.items(), 1):
        results = run.ranking.get(query, [])
        n = len(results)
        places += map(str, range(len(places), n))
        place = {document: rank for rank, (document, _) in zip(places, results, strict=False)}
        others = map(str, count(n))
        asked[str(number)] = query
        judged[str(number)] = {place.get(d) or next(others): int(grade) for d, grade in grades.items()}
        if n and n not in scores:
            scores[n] = {rank: float(n - i) for i, rank in enumerate(places[:n])}
        if n:
            ranked[str(number)] = scores[n]
    return asked, judged, ranked


def calculated(measures: Sequence[Measure], qrels: dict, ranked: dict) -> Iterator[Metric]:
    """What ir-measures makes of it; raises ``InputError`` if it fails or answers what wasn't asked."""
    try:
        for metric in ir_measures.iter_calc(measures, qrels, ranked):
            if metric.query_id not in qrels:
                raise ValueError(f"{metric.measure} of a query {metric.query_id!r} that was not asked for")
            yield metric
    except (ArithmeticError, ValueError, OSError, SubprocessError) as error:
        raise InputError(
            f"evaluator.measures: {', '.join(map(str, measures))}: ir_measures cannot compute one of them on "
            f"this run ({type(error).__name__}: {error}); leave that one out"
        ) from None


def check_grades(measures: Iterable[Measure], qrels: Qrels) -> None:
    """Raises ``InputError`` for a grade that a measure does not know, or takes for something else."""
    first: dict[int, tuple[str, str]] = {}  # grade -> where it is
    for query, judged in qrels.items():
        for document, grade in judged.items():
            if grade not in first:
                first[grade] = query, document
    for measure in measures:
        low, high = -HIGHEST_GRADE, HIGHEST_GRADE  # trec_eval counts every grade up to the highest
        remedy = f"grades are whole numbers up to {HIGHEST_GRADE}"
        if provider_of(measure) == "gdeval":
            high, remedy = 4, "gdeval computes it, of grades up to 4: map them to 0-4"
        elif measure.NAME in ("Bpref", "infAP") or measure.params.get("judged_only"):
            low, remedy = 0, "a negative one means not judged to it: make it 0 if it means not relevant"
        for grade, (query, document) in first.items():
            if not low <= grade <= high or grade != int(grade):
                raise InputError(
                    f"evaluator.measures: {measure}: query {query!r}, document {document!r} has the grade "
                    f"{grade}; {remedy}, or leave this measure out"
                )


def provider_of(measure: Measure) -> str:
    """The name of what computes ``measure`` within ir-measures."""
    providers = ir_measures.DefaultPipeline.providers
    return next(p.NAME for p in providers if p.supports(measure) and p.is_available())


def parse_measure(name: str):
    """The ir-measures object of ``name``; raises ``InputError`` with what there is to choose from."""
    try:
        measure = ir_measures.parse_measure(name)
        if not 1 <= measure.params.get("cutoff", 1) <= 1_000_000:  # trec_eval ends the whole process
            raise ValueError("a cutoff is between 1 and 1,000,000")
        ir_measures.evaluator([measure], {"q": {"d": 1}})
        return measure
    except Exception as error:  # ir-measures asserts, looks up and evaluates what it parses
        known = "AP, nDCG@10, P@5, R@100, RR@10, Success@1, Judged@10"
        text = re.sub(r"invalid param (\w+)=<object .*?>", r"it needs \1=...", " ".join(str(error).split()))
        reason = f" ({text})" if text else ""
        raise InputError(
            f"evaluator.measures: {name!r} is not a measure here{reason}; such as {known}"
        ) from None
