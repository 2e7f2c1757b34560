"""What losses of embeddings share: the vectors of the groups' texts."""

import torch
from torch import Tensor

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss
from rankdistill.runtime import processes
from rankdistill.vocabulary import Batch, Outputs


class OfEmbeddings(Loss):
    """A loss that reads the embeddings of queries and documents, one vector each."""

    reads = frozenset({"queries", "documents"})

    def vectors_of(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the queries float (B, d), of the groups' documents (B, G, d), padding included.

        Raises ``InputError`` for token vectors.
        """
        queries, documents = self.texts_of(outputs)
        return queries, documents[batch.index]

    def texts_of(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Of the queries float (B, d), of the batch's documents (U, d)."""
        assert outputs.queries is not None and outputs.documents is not None  # it reads them
        if outputs.queries.mask is not None or outputs.documents.mask is not None:
            raise InputError(f"loss: {type(self).__name__} needs one vector per text, not token vectors")
        return outputs.queries.vectors, outputs.documents.vectors

    def scale_of(self, outputs: Outputs) -> float:
        """What a student multiplies a product of vectors by; raises ``InputError`` if it does not say."""
        if outputs.scale is None:
            raise InputError(
                f"loss: {type(self).__name__} scores further pairs as the student does, which does not say "
                "its scale (Outputs.scale)"
            )
        return outputs.scale

    def against(self, left: Tensor, documents: Tensor, student: Outputs, in_batch: bool) -> Tensor:
        """The products of ``left`` (B, n, d) with a query's ``documents`` (B, G, d), then with the batch's.

        float (B, n, G) or, ``in_batch``, (B, n, G + V): of all processes, as ``Outputs.in_batch`` has them.
        """
        own = left @ documents.transpose(1, 2)
        if not in_batch:
            return own
        _, others = self.texts_of(student)
        if processes.count() > 1:
            others = processes.gather_rows(others)
        return torch.cat([own, left @ others.T], dim=2)

    @staticmethod
    def negatives_of(batch: Batch, in_batch: bool) -> Tensor:
        """Which of these are negatives, bool (B, G) or (B, G + V)."""
        own = batch.mask & ~batch.positive
        if not in_batch:
            return own
        assert batch.negatives is not None  # it reads in_batch
        return torch.cat([own, batch.negatives], dim=1)
