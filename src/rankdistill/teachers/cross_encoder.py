"""A cross-encoder as the teacher."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from rankdistill.hardware import has_bf16
from rankdistill.students.load import hash_weights, load_weights


class CrossEncoderTeacher:
    """Scores are the logits of a sentence-transformers ``CrossEncoder``, a folder or a hub name.

    ``max_length`` in tokens, query and document together. Weights are bf16 where the machine
    computes in it natively. Raises ``InputError`` if the model can't be had or has several labels.
    """

    def __init__(
        self,
        model: str,
        max_length: int | None = 256,
        batch_size: int = 64,
        device: str | None = None,
        trust_remote_code: bool = False,
    ):
        self.name = str(model)
        self.batch_size = batch_size
        self.model = load_weights(
            CrossEncoder, self.name, device=device, num_labels=1, max_length=max_length,
            trust_remote_code=trust_remote_code,
        )
        self.fingerprint  # of the weights as they came, before they are rounded
        if has_bf16():
            self.model.bfloat16()

    @cached_property
    def fingerprint(self) -> str:
        return hash_weights(self.model, ["cross-encoder", self.model.max_length])

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Logits of the aligned pairs, float32 (n,)."""
        pairs = list(zip(queries, documents, strict=True))
        return self.model.predict(
            pairs, batch_size=self.batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        ).astype(np.float32)
