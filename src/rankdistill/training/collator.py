"""From groups to the tensors of a step."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rankdistill.data.collection import Collection
from rankdistill.data.labels import among, known_relevant
from rankdistill.students.base import Prepare, PreparePairs, Ranker
from rankdistill.training.groups import Group


class Preparer:
    """What makes a ranker's inputs of a batch, of the collection that it reads."""

    def __init__(self, ranker: Ranker, collection: Collection, chunk_tokens: int | None = None):
        self.prepare, self.pairs = ranker.preparer(collection, chunk_tokens), ranker.pairs

    def __call__(
        self, queries: Sequence[int], documents: np.ndarray, owners: np.ndarray, where: np.ndarray
    ) -> tuple[Any, Tensor]:
        """Of rows, and of the groups' pairs: places in ``queries`` and in ``documents``, group by group."""
        if self.pairs:
            return cast(PreparePairs, self.prepare)(queries, documents, np.stack([owners, where], axis=1))
        return cast(Prepare, self.prepare)(queries, documents)


class GroupCollator:
    """B groups as the fields of a ``Batch`` of U distinct documents, in the order in which the student takes
    them; ``student`` prepares its ``inputs``, and ``teacher`` those of one inside the step, which come with
    the order int64 (U,) in which that takes the documents.

    ``targets`` has ``scores``, the teacher's, and what else the groups have (``further``). Of ``pools``,
    ``rows`` int64, ascending, and ``scores`` float32 (B, P) are the queries' candidates and their scores,
    known positives and the query itself without one (NaN), filled up with rows that no document has;
    ``taken`` bool (B, P) says which may not serve as in-batch negatives, being of the group, known positives,
    the query itself, or copies of these. Without ``in_batch`` the loss has no use for ``pools``: they are {}.
    """

    def __init__(
        self,
        collection: Collection,
        student: Preparer,
        teacher: Preparer | None = None,
        in_batch: bool = True,
    ):
        self.collection, self.student, self.teacher = collection, student, teacher
        self.in_batch = in_batch

    def __call__(self, groups: Sequence[Group]) -> dict[str, Any]:
        rows, where = np.unique(np.concatenate([g.document_rows for g in groups]), return_inverse=True)
        owners = np.repeat(np.arange(len(groups)), [len(g.document_rows) for g in groups])
        queries = [g.query_row for g in groups]
        student, order = self.student(queries, rows, owners, where)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        inputs: dict[str, Any] = {"student": student}
        if self.teacher is not None:
            inputs["teacher"] = self.teacher(queries, rows[order.numpy()], owners, place.numpy()[where])

        shape = len(groups), max(len(g.document_rows) for g in groups)
        index, teacher = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        positive, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        start = 0
        for b, group in enumerate(groups):
            g = len(group.document_rows)
            index[b, :g] = place[where[start : start + g]]
            teacher[b, :g] = torch.from_numpy(np.array(group.teacher))
            positive[b, :g] = torch.from_numpy(np.array(group.positive))
            mask[b, :g] = True
            start += g
        return {
            "query_rows": torch.tensor([g.query_row for g in groups]),
            "document_rows": torch.from_numpy(rows.astype(np.int64))[order],
            "index": index,
            "positive": positive,
            "mask": mask,
            "targets": {"scores": teacher, **further(groups, shape)},
            "pools": self._pools(groups) if self.in_batch else {},
            "inputs": inputs,
        }

    def _pools(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        candidates = [self._pool(group) for group in groups]
        shape = len(groups), max(len(rows) for rows, _, _ in candidates)
        pools = {
            "rows": torch.full(shape, torch.iinfo(torch.long).max),
            "scores": torch.zeros(shape),
            "taken": torch.zeros(shape, dtype=torch.bool),
        }
        for b, (rows, scores, taken) in enumerate(candidates):
            n = len(rows)
            pools["rows"][b, :n] = torch.from_numpy(rows.astype(np.int64))
            pools["scores"][b, :n] = torch.from_numpy(np.array(scores))
            pools["taken"][b, :n] = torch.from_numpy(taken)
        return pools

    def _pool(self, group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows ascending, scores, and which are taken: the group's pool, and what is missing there.

        A file of scores may lack positives; copies of them, or of documents of the group, need not be in the
        pool. See ``known_relevant``.
        """
        rows, scores, positive = group.pool_rows, group.pool_teacher, group.pool_positive
        taken = known_relevant(self.collection, group.query_row, rows, positive)
        same, own = self.collection.same_documents, group.document_rows.tolist()
        taken |= set(own) if same is None else same.rows(own)
        if missing := taken.difference(rows.tolist()):
            more = np.array(sorted(missing), dtype=rows.dtype)
            at = np.searchsorted(rows, more)
            rows, scores = np.insert(rows, at, more), np.insert(scores, at, np.nan)
        return rows, scores, among(rows, np.array(sorted(taken), dtype=rows.dtype))


def further(groups: Sequence[Group], shape: tuple[int, int]) -> dict[str, Tensor]:
    """The ``targets`` of ``groups`` as those of a ``Batch``: columns (B, G), 0 where there is no document."""
    columns = {}
    for name, first in groups[0].targets.items():
        if name == "pairs":
            owned = [np.insert(group.targets[name], 0, b, axis=1) for b, group in enumerate(groups)]
            columns[name] = torch.from_numpy(np.concatenate(owned).astype(np.int64))
        elif name == "pair_p":
            columns[name] = torch.from_numpy(np.concatenate([group.targets[name] for group in groups]))
        else:
            column = np.zeros(shape, np.float32 if first.dtype.kind == "f" else np.int64)
            for b, group in enumerate(groups):
                column[b, : len(group.targets[name])] = group.targets[name]
            columns[name] = torch.from_numpy(column)
    return columns


def in_batch_negatives(rows: Tensor, pools: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Which of the documents at ``rows`` int64 (V,) may serve each query as negatives, bool (B, V).

    Neither those of its group, nor known positives or copies of them (``known_relevant``), nor a document a
    second time, nor a row below 0.
    Also the teacher's scores, float32 (B, V), of those in the query's pool, else NaN.
    """
    pool = pools["rows"]
    at = torch.searchsorted(pool, rows.expand(len(pool), -1).contiguous()).clamp(max=pool.shape[1] - 1)
    known = pool.gather(1, at) == rows
    teacher = pools["scores"].gather(1, at).masked_fill(~known, torch.nan)
    _, kinds = rows.unique(return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, kinds, places, "amin")[kinds] == places
    return first & (rows >= 0) & ~(known & pools["taken"].gather(1, at)), teacher
