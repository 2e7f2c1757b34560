"""What the step needs of a model that scores: a student, or a teacher inside the step."""

from collections.abc import Callable, Sequence
from collections.abc import Collection as Container
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from rankdistill.data.collection import Collection
from rankdistill.vocabulary import Batch, Outputs

# Query rows (B,) and document rows (U,) -> a model's features of these texts, and the order int64 (U,) in
# which it takes the documents.
Prepare = Callable[[Sequence[int], Sequence[int]], tuple[Any, Tensor]]


class Ranker(nn.Module):
    """A model that scores a batch's documents for its queries.

    ``offers`` names the fields of ``Outputs`` that it can fill; the step asks for those that its loss reads.
    """

    offers: frozenset[str] = frozenset({"scores"})

    def preparer(self, collection: Collection, chunk_tokens: int | None = None) -> Prepare:
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
