"""What the step needs of a model that scores: a student, or a teacher inside the step."""

from collections.abc import Callable, Sequence
from collections.abc import Collection as Container
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rankdistill.data.collection import Collection
from rankdistill.runtime import processes
from rankdistill.students.matryoshka import cuts_of
from rankdistill.vocabulary import Batch, Embeddings, Outputs

Rows = Sequence[int] | np.ndarray  # of texts, integers (n,)
# Query rows (B,) and document rows (U,) -> a model's features of these texts, and the order int64 (U,) in
# which it takes the documents.
Prepare = Callable[[Rows, Rows], tuple[Any, Tensor]]
# The same of the rows of one kind of texts; the order is int64 (n,).
PrepareSide = Callable[[Rows], tuple[Any, Tensor]]
# Of a model that reads query and document together (``Ranker.pairs``): besides, the pairs that the groups are
# made of, int64 (P, 2) places in both rows, group by group.
PreparePairs = Callable[[Rows, Rows, np.ndarray], tuple[Any, Tensor]]


class Ranker(nn.Module):
    """A model that scores a batch's documents for its queries.

    ``offers`` names the fields of ``Outputs`` that it can fill; the step asks for those that its loss reads.
    ``term_weights`` in it says that its vectors are weights of a vocabulary's terms, 0 or more.
    """

    offers: frozenset[str] = frozenset({"scores"})
    pairs = False  # whether ``preparer`` gives a ``PreparePairs``
    sparse = False  # whether a step's gradient holds few rows of a table
    learning_rate = 5e-5  # the default, which suits it

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare | PreparePairs:
        """What makes ``inputs`` of rows; it is sent to the loader's workers, and holds no weights."""
        raise NotImplementedError

    def forward(self, inputs: Any, batch: Batch, wanted: Container[str]) -> Outputs:
        """``wanted`` names the fields to fill besides ``scores``."""
        raise NotImplementedError

    def training_pass(self) -> AbstractContextManager:
        """What the passes of training run within; what is changed for speed is undone after that."""
        return nullcontext()

    def tokens(self, inputs: Any) -> int:
        """How many tokens the texts of ``inputs`` have, without padding."""
        raise NotImplementedError


class Encoder(Ranker):
    """Texts become one vector each; a score is ``scale`` times their cosine or dot product.

    The vectors are those of ``encode_query`` and ``encode_document`` of sentence-transformers' ``model``, of
    length 1 if ``cosine``. ``preparer_of``, ``vectors_of`` and ``tokens_of`` are ``preparer``, ``vectors``
    and ``tokens`` of one kind of texts, ``query`` or ``document``, where another encoder has the other.
    """

    offers = frozenset({"scores", "in_batch", "queries", "documents"})

    def __init__(self, model: nn.Module, cosine: bool, scale: float):
        super().__init__()
        self.model, self.cosine, self.scale = model, cosine, scale

    def vectors(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Of the queries float32 (B, d) and of the documents (U, d), of any length."""
        raise NotImplementedError

    def preparer_of(self, kind: str, collection: Collection, chunk_tokens: int | None = None) -> PrepareSide:
        raise NotImplementedError

    def vectors_of(self, kind: str, inputs: Any) -> Tensor:
        raise NotImplementedError

    def tokens_of(self, inputs: Any) -> int:
        raise NotImplementedError

    def forward(self, inputs: Any, batch: Batch, wanted: Container[str]) -> Outputs:
        return self.with_cuts(*self.vectors(inputs), batch, wanted)

    def with_cuts(self, queries: Tensor, documents: Tensor, batch: Batch, wanted: Container[str]) -> Outputs:
        """``compared``, and the same of the vectors cut to the numbers of dimensions that are trained too."""
        with torch.autocast(queries.device.type, enabled=False):
            cuts = [
                self.compared(queries[:, :n], documents[:, :n], batch, wanted) for n in cuts_of(self.model)
            ]
            return replace(self.compared(queries, documents, batch, wanted), cuts=tuple(cuts))

    def compared(self, queries: Tensor, documents: Tensor, batch: Batch, wanted: Container[str]) -> Outputs:
        """The outputs of ``vectors`` (B, d) and (U, d)."""
        if self.cosine:
            queries, documents = normalize(queries, dim=1), normalize(documents, dim=1)
        scores, in_batch = self.similarity(queries, documents), None
        if "in_batch" in wanted:
            in_batch = scores
            if processes.count() > 1:
                in_batch = self.similarity(queries, processes.gather_rows(documents))
        vectors = Embeddings(queries), Embeddings(documents)
        return Outputs(scores.gather(1, batch.index), in_batch, *vectors, scale=self.scale)

    def similarity(self, queries: Tensor, documents: Tensor) -> Tensor:
        """float32 (B, U): ``scale`` times cosine or dot product."""
        return self.scale * queries @ documents.T
