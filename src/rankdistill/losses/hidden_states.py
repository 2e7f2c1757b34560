"""A teacher's layers, number by number (Simplified TinyBERT, Chen et al. 2021, arXiv 2009.07531)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from rankdistill.errors import InputError
from rankdistill.losses.base import Loss
from rankdistill.losses.layerwise import matched
from rankdistill.vocabulary import Batch, Outputs


def hidden_states(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The sum over the student's layers of the mean of (s - t)²; float (n, d) each, a scalar.

    The token embeddings, the first of both, are held against each other, and each of the L further layers of
    the student against the teacher's that is as far up: of 12 layers a student of 3 has the 4th, 8th, 12th.
    """
    chosen = [0, *(1 + i for i in matched(len(student) - 1, len(teacher) - 1))]
    errors = [mse_loss(s, teacher[i]) for s, i in zip(student, chosen, strict=True)]
    return torch.stack(errors).sum()


class HiddenStates(Loss):
    """``hidden_states`` of the queries plus those of the documents, as the model pools its last layer.

    The authors compare every token's state, and the attention too; a step offers neither. Both models need a
    transformer, of as many dimensions, and the teacher no fewer layers. ``step_teacher=dense``.
    """

    reads = frozenset({"queries", "documents", "layers"})
    reads_of_teacher = reads

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.queries is not None and student.documents is not None  # it reads them
        assert teacher.queries is not None and teacher.documents is not None
        own, others = student.queries.layers, teacher.queries.layers
        if len(own) > len(others):
            raise InputError(
                f"loss: HiddenStates: the student has {len(own) - 1} layers, the teacher {len(others) - 1}; "
                "take a student of as many, or fewer"
            )
        if own[0].shape[1] != others[0].shape[1]:
            raise InputError(
                f"loss: HiddenStates: the student's layers have {own[0].shape[1]} dimensions, the teacher's "
                f"{others[0].shape[1]}; take a student of as many, or loss=kl_layerwise"
            )
        return hidden_states(own, others) + hidden_states(student.documents.layers, teacher.documents.layers)
