"""Pairs of a query and a document, scored together: nothing is encoded, and candidates are reranked."""

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm.auto import tqdm

from rankdistill.data.candidates import Candidates
from rankdistill.errors import InputError
from rankdistill.runtime import processes
from rankdistill.scores.table import ScoreTable
from rankdistill.students.cross_encoder import scorer_of
from rankdistill.students.finite import check_finite
from rankdistill.students.models import CrossEncoderModel

BLOCK = 2_000  # pairs sorted by length together
BAR_FROM = 10_000  # pairs; fewer take a minute


class PairIndex:
    """``documents`` as a cross-encoder scores them beside a query, see ``Index``; a pair is scored once.

    The model's weights are those of when it was made.
    """

    vectors = None

    def __init__(self, model: CrossEncoderModel, documents: Sequence[str]):
        self.model, self.score, self.documents = model, scorer_of(model), documents
        self._known: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        return len(self.documents)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        own: np.ndarray | None = None,
        index: str = "Flat",
        parameters: Mapping[str, float] | None = None,
        field: str = "evaluator",
    ) -> tuple[np.ndarray, np.ndarray]:
        raise InputError(
            "model: a cross-encoder searches nothing, it reranks candidates; search with another"
        )

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        return {}

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        pairs = [(queries[owner], row) for owner, row in zip(owners, np.asarray(rows).tolist(), strict=True)]
        self._score(pairs)
        return np.array([self._known[pair] for pair in pairs], dtype=np.float32)

    def table(self, candidates: Candidates) -> ScoreTable:
        """The scores of ``candidates``, whose documents these are; the processes of a job share the work."""
        queries = [candidates.collection.queries[row] for row in candidates.query_rows]
        owners = np.repeat(np.arange(len(candidates)), np.diff(candidates.offsets))
        rows = np.asarray(candidates.document_rows)
        share = slice(processes.rank(), None, processes.count())
        self.scores(queries, owners[share], rows[share])
        for known in processes.gathered(self._known if processes.count() > 1 else {}):
            self._known.update(known)
        return ScoreTable(candidates, self.scores(queries, owners, rows), "student")

    def _score(self, pairs: Sequence[tuple[str, int]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        hidden = len(new) < BAR_FROM or not processes.is_main()
        with tqdm(total=len(new), desc="scoring", unit="pair", unit_scale=True, disable=hidden) as bar:
            for start in range(0, len(new), BLOCK):
                some = new[start : start + BLOCK]
                scores = self.score([query for query, _ in some], [self.documents[row] for _, row in some])
                check_finite(scores, (query for query, _ in some), "score of the query")
                self._known.update(zip(some, scores.tolist(), strict=True))
                bar.update(len(some))
