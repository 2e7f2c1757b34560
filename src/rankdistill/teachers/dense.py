"""A bi-encoder as the teacher: weaker than a cross-encoder, far cheaper, good in an ensemble."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from rankdistill.data import Candidates
from rankdistill.errors import InputError, check_aligned
from rankdistill.retrieval import embed_documents, embed_queries, stored_index
from rankdistill.runtime.checked import checked
from rankdistill.students.load import check_class, fingerprint_of, load_student
from rankdistill.students.models import BiEncoderModel
from rankdistill.students.there import ModelName
from rankdistill.teachers.kept import Kept

KEPT_TEXTS = 200_000  # embeddings kept between calls, so that a document is embedded once


@checked
class DenseTeacher:
    """Scores are ``scale`` times the inner product of a bi-encoder's embeddings (cosine or dot)."""

    def __init__(self, model: ModelName | BiEncoderModel, scale: float = 20.0, max_length: int | None = 256):
        if not 0 < scale < np.inf:
            raise InputError(f"scale={scale}: it must be a number above 0")
        if isinstance(model, str):
            check_class(model, BiEncoderModel)
            self.model = cast(BiEncoderModel, load_student(model, max_length=max_length))
        else:
            self.model = model
        self.scale = scale
        self._kept = Kept(KEPT_TEXTS)

    @property
    def fingerprint(self) -> str:
        digest = fingerprint_of(self.model)
        self._kept.check(self.model, digest)
        return f"dense {digest} {self.scale}"

    def forget(self) -> None:
        """What is scored from now on does not depend on what was scored before, to the last digit."""
        self._kept.forget()

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Scores of the aligned pairs, float32 (n,)."""
        check_aligned(queries, documents)
        self._kept.check(self.model)
        q = self._embeddings("query", queries)
        d = self._embeddings("document", documents)
        return (self.scale * np.einsum("nd,nd->n", q, d)).astype(np.float32)

    def score_stored(self, candidates: Candidates) -> np.ndarray:
        """Scores of all candidates, float32 (N,), by the stored embeddings of the whole collection.

        The cache keeps these: mining, another split and another number of queries use them again.
        """
        collection = candidates.collection
        queries = [collection.queries[row] for row in candidates.query_rows]
        owners = np.repeat(np.arange(len(candidates)), np.diff(candidates.offsets))
        scores = stored_index(self.model, collection).scores(queries, owners, candidates.document_rows)
        return np.float32(self.scale) * scores

    def _embeddings(self, kind: str, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._kept]
        if new:
            embed = embed_queries if kind == "query" else embed_documents
            self._kept.update(
                zip(((kind, text) for text in new), embed(self.model, new, progress=False), strict=True)
            )
            self._kept.size += len(new)
        return np.stack([self._kept[kind, text] for text in texts])
