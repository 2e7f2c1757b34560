"""From groups to the tensors of a step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rankdistill.chunking import by_length, chunks, tokens_at_once
from rankdistill.data.collection import Collection
from rankdistill.data.labels import known_relevant
from rankdistill.data.tokens import stored_tokens
from rankdistill.packing import first_position, pack
from rankdistill.students.prompts import prompt_of
from rankdistill.training.groups import Group


class GroupCollator:
    """B groups as one batch of U distinct documents, sorted by length into chunks.

    Chunks hold at most ``chunk_tokens`` tokens (at least one document). Where the student takes
    packed texts they have no padding; else it counts, and chunks keep long documents from making
    short ones long. Texts are tokenised once, in the token store. The batch:

    * ``queries``: features of the B queries; ``documents``: a list of the chunks' features;
    * ``document_rows`` int64 (U,): the documents in the order of the chunks; ``index`` int64
      (B, G): which of them stands in a group's place;
    * ``teacher`` float32, ``positive``, ``mask`` bool (B, G);
    * ``pool_rows`` int64, ascending, and ``pool_teacher`` float32 (B, P): the queries' candidates
      and their scores, known positives and the query itself without one (NaN), filled up with rows
      that no document has; ``pool_taken`` bool (B, P): those that may not serve as in-batch
      negatives, being of the group, known positives or copies of these, or the query itself;
    * ``query_rows`` int64 (B,).
    """

    def __init__(
        self,
        collection: Collection,
        student: SentenceTransformer,
        chunk_tokens: int | None = None,
        half: bool | None = None,
    ):
        self.collection = collection
        self.chunk_tokens = chunk_tokens or tokens_at_once(student.device, training=True)
        self.first_position = first_position(student, training=True, half=half)
        self.preprocess = student.preprocess
        self.prompts = {kind: prompt_of(student, kind) for kind in ("query", "document")}
        self.tokens = {
            kind: stored_tokens(student, collection, kind, prompt) for kind, prompt in self.prompts.items()
        }

    def __call__(self, groups: Sequence[Group]) -> dict[str, Any]:
        rows, where = np.unique(np.concatenate([g.document_rows for g in groups]), return_inverse=True)
        features = self._features("document", rows)
        order = by_length(features)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))

        shape = len(groups), max(len(g.document_rows) for g in groups)
        candidates = [self._pool(group) for group in groups]
        pools = len(groups), max(len(pool) for pool, _, _ in candidates)
        index, teacher = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        positive, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        pool_rows = torch.full(pools, torch.iinfo(torch.long).max)
        pool_teacher, pool_taken = torch.zeros(pools), torch.zeros(pools, dtype=torch.bool)
        start = 0
        for b, group in enumerate(groups):
            g, (pool, scores, known) = len(group.document_rows), candidates[b]
            n = len(pool)
            index[b, :g] = place[where[start : start + g]]
            teacher[b, :g] = torch.from_numpy(np.array(group.teacher))
            positive[b, :g] = torch.from_numpy(np.array(group.positive))
            mask[b, :g] = True
            start += g
            pool_rows[b, :n] = torch.from_numpy(pool.astype(np.int64))
            pool_teacher[b, :n] = torch.from_numpy(np.array(scores))
            pool_taken[b, :n] = torch.from_numpy(known | np.isin(pool, group.document_rows))
        return {
            "queries": self._queries([g.query_row for g in groups]),
            "documents": [c for _, c in chunks(features, order, self.chunk_tokens, self.first_position)],
            "document_rows": torch.from_numpy(rows.astype(np.int64))[order],
            "index": index,
            "teacher": teacher,
            "positive": positive,
            "mask": mask,
            "pool_rows": pool_rows,
            "pool_teacher": pool_teacher,
            "pool_taken": pool_taken,
            "query_rows": torch.tensor([g.query_row for g in groups]),
        }

    def _pool(self, group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows ascending, scores, and which are no negatives: the group's pool, and what is missing there.

        A file of scores may lack positives; copies of them need not be in the pool. See ``known_relevant``.
        """
        rows, scores, positive = group.pool_rows, group.pool_teacher, group.pool_positive
        known = known_relevant(self.collection, group.query_row, rows, positive)
        if len(known) == positive.sum():
            return rows, scores, positive
        positive = np.isin(rows, list(known))
        missing = known.difference(rows.tolist())
        if not missing:
            return rows, scores, positive
        found = np.array(sorted(missing), dtype=rows.dtype)
        at = np.searchsorted(rows, found)
        return np.insert(rows, at, found), np.insert(scores, at, np.nan), np.insert(positive, at, True)

    def _queries(self, rows: Sequence[int]) -> dict[str, Any]:
        features = self._features("query", rows)
        if self.first_position is None:
            return features
        return pack(features, torch.arange(len(rows)), self.first_position)

    def _features(self, kind: str, rows: Sequence[int]) -> dict[str, Any]:
        if self.tokens[kind] is not None:
            return self.tokens[kind].features(rows)
        texts = self.collection.queries if kind == "query" else self.collection.documents
        return dict(self.preprocess([texts[row] for row in rows], prompt=self.prompts[kind], task=kind))


def in_batch_negatives(rows: Tensor, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Which of the documents at ``rows`` int64 (V,) may serve each query as negatives, bool (B, V).

    Neither those of its group, nor known positives or copies of them (``known_relevant``), nor a document a
    second time, nor a row below 0.
    Also the teacher's scores, float32 (B, V), of those in the query's pool, else NaN.
    """
    pool = batch["pool_rows"]
    at = torch.searchsorted(pool, rows.expand(len(pool), -1).contiguous()).clamp(max=pool.shape[1] - 1)
    known = pool.gather(1, at) == rows
    teacher = batch["pool_teacher"].gather(1, at).masked_fill(~known, torch.nan)
    _, kinds = rows.unique(return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, kinds, places, "amin")[kinds] == places
    return first & (rows >= 0) & ~(known & batch["pool_taken"].gather(1, at)), teacher
