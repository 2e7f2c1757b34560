"""Retrieval with a model, and measures of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ir_measures
import numpy as np
from sentence_transformers import SentenceTransformer

from rankdistill import processes
from rankdistill.data.candidates import SOURCES
from rankdistill.data.collection import Collection
from rankdistill.data.scores import ScoreTable
from rankdistill.errors import InputError
from rankdistill.evaluation.run import Run
from rankdistill.retrieval import embed_queries, passing_embeddings, search

MEASURES = ("nDCG@10", "RR@10", "R@100", "AP")


@dataclass(frozen=True)
class Evaluation:
    """``per_query[measure][query id]`` and ``mean[measure]`` of ``run``."""

    run: Run
    per_query: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float] = field(init=False)

    def __post_init__(self):
        means = {name: float(np.mean(list(values.values()))) for name, values in self.per_query.items()}
        object.__setattr__(self, "mean", means)


class Evaluator:
    """Scores models and runs on a split of a collection.

    ``measures`` are any ir-measures expressions, the first one the main one; ``index`` a FAISS
    ``index_factory`` string; ``k`` documents are retrieved per query; ``limit`` evaluates on that
    many queries, drawn with ``seed``. Raises ``InputError`` for a measure ir-measures can't parse.
    """

    def __init__(
        self,
        measures: Sequence[str] = MEASURES,
        index: str = "Flat",
        k: int = 100,
        limit: int | None = None,
        seed: int = 0,
    ):
        measures = [measures] if isinstance(measures, str) else measures
        if not measures:
            raise InputError("evaluator.measures is empty: name one or more, such as nDCG@10")
        if k < 1:
            raise InputError(f"evaluator.k={k}: it is a number of documents, 1 or more")
        self.measures = {str(name): parse_measure(str(name)) for name in measures}
        self.index, self.k, self.limit, self.seed = index, k, limit, seed

    @property
    def main(self) -> str:
        return next(iter(self.measures))

    def evaluate(
        self,
        model: SentenceTransformer,
        collection: Collection,
        split: str = "test",
        documents: np.ndarray | None = None,
    ) -> Evaluation:
        """Retrieves ``k`` documents for each query of ``split`` and measures the run.

        ``documents`` float32 (D, d) are the model's embeddings of the collection where they are there
        already; else the processes of a job share the work.
        """
        query_rows = collection.query_rows(split, self.limit, self.seed)
        if documents is None:
            documents = passing_embeddings(model, collection.documents)
        result = None
        if processes.is_main():
            queries = embed_queries(model, [collection.queries[row] for row in query_rows])
            rows, scores = search(documents, queries, self.k, self.index)
            run = Run.from_rows(collection, query_rows, rows, scores, "student")
            result = self.measure(run, collection, split)
        return processes.broadcast(result)

    def rerank(self, table: ScoreTable, split: str = "test") -> Evaluation:
        """The teacher's own ranking of the candidates in ``table``.

        Positives that no retriever found stay out, as they would if the teacher reranked.
        """
        collection, candidates = table.collection, table.candidates
        judged = collection.judged(split)
        if not any(collection.query_ids[row] in judged for row in candidates.query_rows):
            raise InputError(f"none of the scored queries is in split {split!r} of {collection.name}")
        retrieved = SOURCES["bm25"] | SOURCES["dense"] | SOURCES["file"]
        found = ~candidates.positive | ((candidates.sources & retrieved) > 0)
        scored = {}
        for i, row in enumerate(candidates.query_rows):
            span = candidates.pool(i)
            keep = found[span]
            ids = [collection.document_ids[d] for d in candidates.document_rows[span][keep]]
            scored[collection.query_ids[row]] = dict(zip(ids, table.scores[span][keep].tolist(), strict=True))
        return self.measure(Run.from_scores(scored, "teacher"), collection, split)

    def measure(self, run: Run, collection: Collection, split: str = "test") -> Evaluation:
        """Measures ``run``; queries of the split that it has no results for count 0.

        Left out is a document that is the query itself (``Collection.ignore_identical_ids``).
        """
        run = run.without_own(collection)
        wanted = {collection.query_ids[row] for row in collection.query_rows(split, self.limit, self.seed)}
        qrels = {query: dict(judged) for query, judged in collection.judged(split).items() if query in wanted}
        values = {name: dict.fromkeys(sorted(wanted), 0.0) for name in self.measures}
        ranked = {query: found for query, found in run.strict().items() if found and query in wanted}
        names = {}  # by object: to compare measures is to print them, for every query
        for metric in ir_measures.iter_calc(list(set(self.measures.values())), qrels, ranked):
            if id(metric.measure) not in names:  # two names may stand for one measure
                alike = [name for name, measure in self.measures.items() if measure == metric.measure]
                names[id(metric.measure)] = metric.measure, alike
            for name in names[id(metric.measure)][1]:
                values[name][metric.query_id] = float(metric.value)
        return Evaluation(run, values)


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
        reason = f" ({error})" if str(error) else ""
        raise InputError(
            f"evaluator.measures: {name!r} is no measure here{reason}; such as {known}"
        ) from None
