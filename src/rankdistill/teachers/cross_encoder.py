"""A cross-encoder as the teacher."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.util import batch_to_device

from rankdistill.chunking import by_length, chunks, tokens_at_once
from rankdistill.errors import InputError, check_counts
from rankdistill.hardware import has_bf16
from rankdistill.packing import first_position, packed
from rankdistill.students.lengths import check_prompt, limit_length
from rankdistill.students.load import hash_weights, load_weights
from rankdistill.teachers.pairs import PairTokenizer


class CrossEncoderTeacher:
    """Scores are the logits of a sentence-transformers ``CrossEncoder``, a folder or a hub name.

    Whatever activation is saved with it: a sigmoid's flat ends would hide the differences to be taught.

    ``max_length`` in tokens, query and document together. Pairs are scored in chunks,
    packed or of like length, of ``chunk_tokens`` tokens, by default 4,096 on a CPU and 65,536 on a
    GPU. Weights are bf16 where the machine computes in it natively. Raises ``InputError`` if the
    model can't be had or has several labels.
    """

    def __init__(
        self,
        model: str,
        max_length: int | None = 256,
        chunk_tokens: int | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
    ):
        check_counts(max_length=max_length, chunk_tokens=chunk_tokens)
        self.name = str(model)
        self.model = load_weights(
            CrossEncoder,
            self.name,
            device=device,
            num_labels=1,
            trust_remote_code=trust_remote_code,
        )
        limit_length(self.model, max_length, self.name, pair=True)
        kinds = self.model.transformers_model.config.architectures or []
        if kinds and not any("Classification" in kind for kind in kinds):
            raise InputError(
                f"teacher.model={self.name!r} has no scoring head ({kinds[0]}); train one: "
                f"python -m rankdistill.finetune_teacher model={self.name}"
            )
        self.chunk_tokens = chunk_tokens or tokens_at_once(self.model.device)
        self.first_position = first_position(self.model, "scores")
        self.tokenise = PairTokenizer(self.model)
        check_prompt(self.model, self.tokenise.prompt, f"the prompt of {self.name}")
        self._came = self._hash()  # of the weights as they came, before they are rounded
        if has_bf16():
            self.model.bfloat16()
            keep_head_in_float32(self.model.transformers_model)
        self._rounded = self._hash()

    def _hash(self) -> str:
        return hash_weights(self.model, ["cross-encoder", self.model.max_seq_length, self.tokenise.prompt])

    @property
    def fingerprint(self) -> str:
        """Of the weights as they came; once they were trained, of what they are now."""
        found = self._hash()
        return self._came if found == self._rounded else found

    @torch.inference_mode()
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Logits of the aligned pairs, float32 (n,)."""
        self.model.eval()
        features = self.tokenise(list(zip(queries, documents, strict=True)))
        scores = torch.empty(len(queries))
        first = self.first_position
        with nullcontext() if first is None else packed(self.model):
            for rows, chunk in chunks(features, by_length(features), self.chunk_tokens, first):
                logits = self.model(batch_to_device(chunk, self.model.device))["scores"]
                scores[rows] = logits.float().reshape(len(rows)).cpu()
        return scores.numpy()


def keep_head_in_float32(model: torch.nn.Module) -> None:
    """Runs the scoring head in float32: bf16 logits between 8 and 16 are 0.06 apart, and tie."""
    head = getattr(model, "classifier", None) or getattr(model, "score", None)
    if isinstance(head, torch.nn.Module):
        head.float().register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
