"""A frozen encoder as the step runs it: its vectors are there already, and what comes after is trained."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import truncate_embeddings
from torch import Tensor

from rankdistill.data.collection import Collection
from rankdistill.runtime.cache import map_npy
from rankdistill.students.base import Encoder, PrepareSide
from rankdistill.students.sides import like, stored_modules, stored_part


class Rows:
    """Rows of the matrix float32 (n, d) in a .npy file; what crosses to another process is its name alone."""

    def __init__(self, file: Path):
        self.file = file
        self._matrix  # noqa: B018  # mapped from now on: another job may prune the cache

    def __getstate__(self) -> dict:
        return {"file": self.file}

    @cached_property
    def _matrix(self) -> np.ndarray:
        return map_npy(self.file)

    def __call__(self, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        vectors = self._matrix[np.asarray(rows)].astype(np.float32, copy=False)
        return torch.from_numpy(vectors), torch.arange(len(rows))


class StoredEncoder(Encoder):
    """The texts of a whole collection are encoded once; a step takes their rows and encodes none.

    The vectors are those that the collection is measured and mined with (``retrieval.stored_embeddings``).
    """

    learning_rate = 1e-3  # of a linear map
    model: SentenceTransformer

    def preparer_of(self, kind: str, collection: Collection, chunk_tokens: int | None = None) -> PrepareSide:
        from rankdistill.students.embed import store_embeddings  # which needs what a student is

        side = like(self.model, self.model)
        side.similarity_fn_name = "cosine" if self.cosine else "dot"
        part = stored_part(side)
        training = part.training
        try:
            return Rows(store_embeddings(part, collection, kind))
        finally:
            part.train(training)

    def vectors_of(self, kind: str, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return above(self.model, inputs)

    def tokens_of(self, inputs: Tensor) -> int:
        return 0


def above(side: SentenceTransformer, vectors: Tensor) -> Tensor:
    """float32 (n, d), what ``side`` makes of ``vectors`` of its frozen encoder."""
    first = stored_modules(side)
    if first == len(side):
        return vectors
    features = {"sentence_embedding": vectors}
    for module in list(side)[first:]:
        features = module(features)
    return truncate_embeddings(features["sentence_embedding"], side.truncate_dim)
