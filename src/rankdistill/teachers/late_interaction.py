"""A late-interaction model (ColBERT) as the teacher."""

from collections.abc import Sequence

import numpy as np
import torch

from rankdistill.errors import check_aligned
from rankdistill.runtime.checked import checked
from rankdistill.runtime.hardware import autocast
from rankdistill.students.late_interaction import token_model
from rankdistill.students.lengths import limit_length
from rankdistill.students.load import fingerprint_of
from rankdistill.students.there import ModelName
from rankdistill.teachers.kept import Kept

KEPT_NUMBERS = 250_000_000  # of token embeddings between calls: 1 GB, a million tokens of 250 dimensions


@checked
class LateInteractionTeacher:
    """Scores are MaxSim: each query token's best inner product with a document token, summed.

    Khattab & Zaharia, SIGIR 2020. ``model`` is a folder or a hub name of a late-interaction model
    (sentence-transformers, PyLate or Stanford's), with its own markers, lengths, query expansion and
    list of tokens that don't count. Of any other encoder the normalised embeddings of all tokens
    are compared. ``max_length`` in tokens shortens what the model allows.
    Token vectors are kept from one block of pairs to the next: scores that are resumed may differ in the
    last digit, as those of a batch of other texts do.
    Raises ``InputError`` if the model can't be had.
    """

    def __init__(
        self,
        model: ModelName,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
    ):
        self.model = token_model(model, device=device, trust_remote_code=trust_remote_code)
        limit_length(self.model, max_length, model)
        self._kept = Kept(KEPT_NUMBERS)

    @property
    def fingerprint(self) -> str:
        digest = fingerprint_of(self.model)
        self._kept.check(self.model, digest)
        return f"late interaction {digest}"

    def forget(self) -> None:
        """What is scored from now on does not depend on what was scored before, to the last digit."""
        self._kept.forget()

    @torch.inference_mode()
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Scores of the aligned pairs, float32 (n,)."""
        check_aligned(queries, documents)
        self._kept.check(self.model)
        q, d = self._embeddings("query", queries), self._embeddings("document", documents)
        return self.model.similarity_pairwise(q, d).float().cpu().numpy()

    def _embeddings(self, kind: str, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each text's token embeddings, float32 (tokens, d), every text encoded once."""
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._kept]
        if new:
            encode = self.model.encode_query if kind == "query" else self.model.encode_document
            with autocast(self.model.device):
                vectors = [tokens.float() for tokens in encode(new, show_progress_bar=False)]
            self._kept.update(zip(((kind, text) for text in new), vectors, strict=True))
            self._kept.size += sum(tokens.numel() for tokens in vectors)
        return [self._kept[kind, text] for text in texts]
