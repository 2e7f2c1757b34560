"""A cross-encoder as the teacher."""

from collections.abc import Sequence

import numpy as np
import torch

from rankdistill.errors import InputError, check_aligned, check_counts
from rankdistill.runtime.checked import checked
from rankdistill.students.cross_encoder import PairScorer
from rankdistill.students.fast.pair_tokens import prompt_of_pairs
from rankdistill.students.kinds import has_head
from rankdistill.students.language import check_template, set_prompt, settings_of
from rankdistill.students.lengths import check_prompt, limit_length
from rankdistill.students.load import hash_weights, load_weights
from rankdistill.students.models import CrossEncoderModel
from rankdistill.students.there import ModelName


@checked
class CrossEncoderTeacher:
    """Scores are the logits of a cross-encoder of sentence-transformers, a folder or a hub name.

    Whatever activation is saved with it: a sigmoid's flat ends would hide the differences to be taught.

    A language model's is the logit of yes less that of no, or whatever its ``LogitScore`` compares.

    ``max_length`` in tokens, query and document together, a chat template among them. ``prompt`` is read
    with every pair, by default the model's own: before the query, or as the system's message of a chat
    template, which is where an LLM reranker has its instruction; "" is none. Pairs are scored in chunks,
    packed or of like length, of ``chunk_tokens`` tokens, by default 4,096 on a CPU and 65,536 on a
    GPU. Weights are bf16 where the machine computes in it natively. Raises ``InputError`` if the
    model can't be had, has several labels or a chat template that can't show a pair.
    """

    def __init__(
        self,
        model: ModelName,
        max_length: int | None = 256,
        chunk_tokens: int | None = None,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
        prompt: str | None = None,
    ):
        check_counts(max_length=max_length, chunk_tokens=chunk_tokens)
        self.name = str(model)
        self.model = load_weights(
            CrossEncoderModel,
            self.name,
            device=device,
            num_labels=1,
            trust_remote_code=trust_remote_code,
        )
        limit_length(self.model, max_length, self.name, pair=True)
        if not has_head(self.model):
            raise InputError(
                f"teacher.model={self.name!r} has no scoring head; train one: "
                f"rankdistill finetune_teacher model={self.name}"
            )
        set_prompt(self.model, prompt)
        check_template(self.model, self.name)
        check_prompt(self.model, prompt_of_pairs(self.model), f"the prompt of {self.name}")
        self.scorer = PairScorer(self.model, chunk_tokens)
        self._came = self._hash()  # of the weights as they came
        self.scorer.round()
        self._rounded = self._hash()

    def _hash(self) -> str:
        read = [self.model.max_seq_length, prompt_of_pairs(self.model), *settings_of(self.model)]
        return hash_weights(self.model, ["cross-encoder", *read])

    @property
    def fingerprint(self) -> str:
        """Of the weights as they came; once they were trained, of what they are now."""
        digest = self._hash()
        return self._came if digest == self._rounded else digest

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Logits of the aligned pairs, float32 (n,)."""
        check_aligned(queries, documents)
        return self.scorer(queries, documents)
