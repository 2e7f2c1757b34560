"""What losses of embeddings share: the vectors of the groups' texts."""

from torch import Tensor

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss
from rankdistill.vocabulary import Batch, Outputs


class OfEmbeddings(Loss):
    """A loss that reads the embeddings of queries and documents, one vector each."""

    reads = frozenset({"queries", "documents"})

    def vectors_of(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the queries float (B, d), of the groups' documents (B, G, d), what stands in no place included.

        Raises ``InputError`` for token vectors.
        """
        queries, documents = self.texts_of(outputs)
        return queries, documents[batch.index]

    def texts_of(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Of the queries float (B, d), of the batch's documents (U, d)."""
        assert outputs.queries is not None and outputs.documents is not None  # it reads them
        if outputs.queries.mask is not None or outputs.documents.mask is not None:
            raise InputError(f"loss: {type(self).__name__} is of one vector a text, not of token vectors")
        return outputs.queries.vectors, outputs.documents.vectors

    def scale_of(self, outputs: Outputs) -> float:
        """What a student multiplies a product of vectors by; raises ``InputError`` if it does not say."""
        if outputs.scale is None:
            raise InputError(
                f"loss: {type(self).__name__} scores further pairs as the student does, which does not say "
                "its scale (Outputs.scale)"
            )
        return outputs.scale
