"""What crosses a step: a batch of groups goes in, a model's outputs come out, a loss compares two of these.

B queries, G documents in a group, U distinct documents in the batch, V of them in the batches of all
processes, d dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Embeddings:
    """What an encoder makes of n texts: ``vectors`` float (n, d).

    Of late interaction (n, L, d), a vector for each token; ``mask`` bool (n, L) says which are a text's.
    ``layers``, only where asked for, are float (n, d) of each of a transformer's layers, its token embeddings
    first: their states, pooled as the last one's are.
    """

    vectors: Tensor
    mask: Tensor | None = None
    layers: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Rows of a collection, labels, and the teacher's columns; ``inputs`` are each model's own features.

    ``index`` int64 (B, G) says which of ``document_rows`` is in a group's place, ``mask`` bool (B, G)
    whether one does, ``positive`` bool (B, G) whether it is known to be relevant. ``targets`` are columns of
    the score table: ``scores`` float32 (B, G), and what the loss names in its ``columns``: other scores
    float32 (B, G); ``grades`` int64 (B, G), -1 where unjudged; ranks such as ``ranks.bm25`` int64
    (B, G), 65535 where not found; ``pairs`` int64 (P, 3), a query's place in the batch and two in its group,
    with ``pair_p`` float32 (P,), how probably the first of the two is preferred. ``pools`` are those of
    ``in_batch_negatives``. ``inputs`` has ``student``, and of a teacher inside the step ``teacher``. ``step``
    counts the optimiser's steps.
    """

    query_rows: Tensor  # int64 (B,)
    document_rows: Tensor  # int64 (U,), distinct
    index: Tensor
    positive: Tensor
    mask: Tensor
    targets: Mapping[str, Tensor]
    pools: Mapping[str, Tensor] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    negatives: Tensor | None = None  # bool (B, V): which of ``Outputs.in_batch`` may serve as negatives


@dataclass(frozen=True)
class Outputs:
    """What a student or a teacher says of a batch; what no loss reads is None.

    ``scores`` float (B, G); ``in_batch`` float (B, V), of all documents, NaN where a teacher is not known to
    have scored one; ``queries`` of B texts, ``documents`` of U, in the order of ``Batch.document_rows``.
    ``cuts`` are the same of a student's vectors cut to fewer dimensions: the loss is the mean over all.
    ``scale`` is what the scores are times the similarity of two vectors, None where they are of no vectors.
    """

    scores: Tensor
    in_batch: Tensor | None = None
    queries: Embeddings | None = None
    documents: Embeddings | None = None
    cuts: tuple["Outputs", ...] = ()
    scale: float | None = None
