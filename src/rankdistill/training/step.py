"""A step's forward pass: from the texts of a batch to the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from rankdistill import processes
from rankdistill.errors import InputError
from rankdistill.losses.weighted_sum import accepted
from rankdistill.training.bi_encoder import BiEncoder
from rankdistill.training.collator import in_batch_negatives


class Step(BiEncoder):
    """Student and loss in one module: what the optimiser sees, DDP wraps, clipping and checkpoints take.

    So a loss's own parameters are trained as the student's are. Their names begin with ``loss.``,
    the student's with ``encoder.``.
    """

    def __init__(self, encoder: SentenceTransformer, loss: nn.Module, *args, **kwargs):
        super().__init__(encoder, *args, **kwargs)
        self.loss = loss

    def forward(self, queries: dict[str, Any], documents: list[dict[str, Any]], **groups):
        """The embeddings (B, d) and (U, d); with the rest of a batch of ``GroupCollator``, ``compare``'s."""
        embeddings = super().forward(queries, documents)
        if not groups:
            return embeddings
        with torch.autocast(embeddings[0].device.type, enabled=False):
            return self.compare(self.similarity(*embeddings), *embeddings, groups)

    def compare(
        self,
        scores: Tensor,
        queries: Tensor,
        documents: Tensor,
        groups: Mapping[str, Any],
        loss: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss's value, the student's and the teacher's scores (B, G), and ``scores``.

        ``scores`` (B, U) are the student's for the process's own documents; another ``loss`` may be tried.
        Raises ``InputError`` unless the loss gives a tensor of one number and no dimension.
        """
        loss = self.loss if loss is None else loss
        student = scores.gather(1, groups["index"])
        teacher = groups["teacher"] * self.teacher_factor
        offered = {
            "query_embeddings": queries,
            "document_embeddings": documents,
            "index": groups["index"],
        }
        if accepted(loss.forward, {"in_batch": None}):
            rows, in_batch = groups["document_rows"], scores
            if processes.count() > 1:
                rows = processes.gather_rows(rows, fill=-1)
                in_batch = self.similarity(queries, processes.gather_rows(documents))
            in_batch_mask, known = in_batch_negatives(rows, groups)
            offered |= {
                "in_batch": in_batch,
                "in_batch_mask": in_batch_mask,
                "in_batch_teacher": known * self.teacher_factor,
            }
        more = accepted(loss.forward, offered)
        value = loss(student, teacher, groups["positive"], groups["mask"], **more)
        if not isinstance(value, Tensor) or value.ndim:
            found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"loss: {type(loss).__name__} gives {found}; it gives a scalar tensor, the mean over the "
                "queries"
            )
        return value, student, teacher, scores
