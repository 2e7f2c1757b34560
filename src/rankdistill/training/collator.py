"""From groups to the tensors of a step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rankdistill.chunking import by_length, chunks
from rankdistill.data.collection import Collection
from rankdistill.training.groups import Group


class GroupCollator:
    """B groups as one batch of U distinct documents, sorted by length into chunks.

    Chunks hold at most ``chunk_tokens`` tokens with padding (at least one document), so that long
    documents don't make short ones long. The batch:

    * ``queries``: features of the B queries; ``documents``: a list of the chunks' features;
    * ``index`` int64 (B, G): which of the U documents stands in a group's place;
    * ``teacher`` float32, ``positive``, ``mask`` bool (B, G);
    * ``in_batch_mask`` bool (B, U): documents that may serve the query as in-batch negatives,
      neither of its group nor known positives; ``in_batch_teacher`` float32 (B, U): their scores
      where the query's pool has them, else NaN;
    * ``query_rows`` int64 (B,).
    """

    def __init__(self, collection: Collection, student: SentenceTransformer, chunk_tokens: int = 4096):
        self.collection, self.chunk_tokens = collection, chunk_tokens
        self.preprocess = student.preprocess
        self.prompts = {kind: student.prompts.get(kind) or None for kind in ("query", "document")}

    def __call__(self, groups: Sequence[Group]) -> dict[str, Any]:
        rows, where = np.unique(np.concatenate([g.document_rows for g in groups]), return_inverse=True)
        features = self._features("document", [self.collection.documents[row] for row in rows])
        order = by_length(features)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        rows = rows[order.numpy()]

        width = max(len(g.document_rows) for g in groups)
        shape, unique = (len(groups), width), (len(groups), len(rows))
        index, teacher = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        positive, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        in_batch_mask = torch.ones(unique, dtype=torch.bool)
        in_batch_teacher = torch.full(unique, torch.nan)
        start = 0
        for b, group in enumerate(groups):
            g = len(group.document_rows)
            index[b, :g] = place[where[start : start + g]]
            teacher[b, :g] = torch.from_numpy(np.array(group.teacher))
            positive[b, :g] = torch.from_numpy(np.array(group.positive))
            mask[b, :g] = True
            start += g
            at = np.searchsorted(group.pool_rows, rows).clip(max=len(group.pool_rows) - 1)
            known = group.pool_rows[at] == rows
            in_batch_teacher[b, known] = torch.from_numpy(np.array(group.pool_teacher[at[known]]))
            in_batch_mask[b, known] = torch.from_numpy(~group.pool_positive[at[known]])
            in_batch_mask[b, index[b, :g]] = False
        return {
            "queries": self._features("query", [self.collection.queries[g.query_row] for g in groups]),
            "documents": [chunk for _, chunk in chunks(features, order, self.chunk_tokens)],
            "index": index,
            "teacher": teacher,
            "positive": positive,
            "mask": mask,
            "in_batch_mask": in_batch_mask,
            "in_batch_teacher": in_batch_teacher,
            "query_rows": torch.tensor([g.query_row for g in groups]),
        }

    def _features(self, kind: str, texts: list[str]) -> dict[str, Any]:
        return dict(self.preprocess(texts, prompt=self.prompts[kind]))
