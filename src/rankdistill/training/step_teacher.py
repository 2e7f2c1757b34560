"""A teacher inside the step: it scores each batch as it comes, and may be trained with the student."""

import copy
from dataclasses import dataclass, field

from rankdistill.data.views import View
from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.students.base import Ranker
from rankdistill.students.load import hash_weights, start_of
from rankdistill.students.models import BiEncoderModel, Model
from rankdistill.students.rankers import ranker_of, similarity_of

STUDENT = "student"


@dataclass(frozen=True)
class StepTeacher:
    """Takes the place of the score table's scores in the loss; samplers go by the table's as before.

    ``model`` is any model of sentence-transformers that can be a student, a teacher that has such a ``model``
    (``DenseTeacher``), a ``Ranker`` of your own, or ``"student"``: a copy of the student as it is when the
    stage begins. It stays as it is, and is in no checkpoint, unless it is ``trained`` with the student, by
    the gradient that the loss has for it. A bi-encoder that stays as it is reads all texts once, where a
    stage shows more of them than the collection has, or it has scored the pools by them. Scores
    are 20 times its similarity, and logits as they are, before ``teacher_scale``. With a ``view`` it reads
    other texts. Raises ``InputError`` for anything else.
    """

    model: Model | Ranker | str = STUDENT
    trained: bool = False
    view: View | None = None
    of_pools: bool = field(default=False, init=False)  # whether it is a teacher's that scores pools too

    def __post_init__(self):
        if not isinstance(self.model, Ranker) and isinstance(
            inner := getattr(self.model, "model", None), Model
        ):
            object.__setattr__(self, "model", inner)
            object.__setattr__(self, "of_pools", True)
        if not isinstance(self.model, (Model, Ranker)) and self.model != STUDENT:
            given = repr(self.model) if isinstance(self.model, str) else f"a {type(self.model).__name__}"
            raise InputError(
                f"step_teacher.model is {given}: it must be a model, a teacher that is one model, or "
                "student, a copy of it"
            )
        if not isinstance(self.trained, bool):
            raise InputError(f"step_teacher.trained={self.trained!r}: it must be true or false")
        if not isinstance(self.view, View | None):
            raise InputError(f"step_teacher.view={self.view!r:.60}: it must be a View, or None")

    def ranker(self, student: Model | Ranker, half: bool, grad_cache: bool, stored: bool = False) -> Ranker:
        """The model as the step runs it, beside ``student`` and on its device; not trained unless asked.

        If ``stored``, a bi-encoder that is not trained encodes all texts once, before the first step.
        """
        model = copy.deepcopy(student) if isinstance(self.model, str) else self.model
        device = next(student.parameters()).device
        if stored and not self.trained and isinstance(model, BiEncoderModel):
            model.requires_grad_(False)
        elif not any(weight.requires_grad for weight in model.parameters()):  # another stage froze it
            model.requires_grad_(True)  # it reads texts in the step
        if isinstance(model, Ranker):
            ranker = model
        else:
            ranker = ranker_of(
                model, similarity_of(model, None), None, half, grad_cache, trained=self.trained
            )
        ranker.sparse = False  # its gradient, if any, joins that of a dense optimiser
        if not self.trained:
            ranker.requires_grad_(False)
        elif not any(weight.requires_grad for weight in ranker.parameters()):
            raise InputError("step_teacher.trained=true: none of its weights is trained")
        return ranker.to(device)

    @property
    def fingerprint(self) -> str:
        """Changes with the model's weights and settings, and with the texts that it reads."""
        if isinstance(self.model, str):
            weights = self.model
        elif isinstance(self.model, Ranker):
            weights = hash_weights(self.model, [])
        else:
            weights = start_of(self.model)
        return fingerprint(weights, self.trained, self.view and self.view.fingerprint)
