"""What a loss is to the step, and how a plain function's module is one."""

import inspect
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.vocabulary import Batch, Outputs

# What a plain module may name in its signature -> the field of ``Outputs`` that it is made of.
EXTRAS = {
    "in_batch": "in_batch",
    "in_batch_mask": "in_batch",
    "in_batch_teacher": "in_batch",
    "query_embeddings": "queries",
    "document_embeddings": "documents",
}


class Loss(nn.Module):
    """Compares a student's outputs with a teacher's, a scalar: the mean over the queries.

    ``reads`` names the fields of the student's ``Outputs`` that it needs besides ``scores``; the step
    computes these and no more, and refuses a student that does not offer them. ``term_weights`` is among
    them, though no field: vectors must be weights of a vocabulary's terms, 0 or more. With ``in_batch`` there
    are the teacher's ``in_batch`` and ``Batch.negatives`` too. ``reads_of_teacher`` are those of the
    teacher's: a table of scores offers ``in_batch`` alone, a teacher inside the step what a student of its
    kind does.
    ``columns`` are those of the score table, besides ``scores``, that it finds in ``Batch.targets``.
    """

    columns: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    reads_of_teacher: frozenset[str] = frozenset()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        raise NotImplementedError


def reads(loss: nn.Module) -> frozenset[str]:
    """The fields of ``Outputs`` that ``loss`` needs besides ``scores``.

    A plain module may say it as a ``Loss`` does, where it does not need all that its signature names.
    """
    if (declared := getattr(loss, "reads", None)) is not None:
        return frozenset(declared)
    return frozenset(EXTRAS[name] for name in accepted(loss.forward, EXTRAS))


def check_signature(loss: nn.Module) -> None:
    """Raises ``InputError`` if a plain module asks for what the step has not, or for less than it gives."""
    if isinstance(loss, Loss):
        return
    names, known = inspect.signature(loss.forward), [*EXTRAS, "index"]
    try:
        names.bind(*"1234", **accepted(loss.forward, dict.fromkeys(known)))
    except TypeError as error:
        raise InputError(
            f"loss: {type(loss).__name__}.forward{names}: {error}; it is called with student, teacher, "
            f"positive and mask, and what it names of {', '.join(known)}"
        ) from None


def columns_of(loss: nn.Module) -> frozenset[str]:
    """The columns of the score table that ``loss`` needs besides ``scores``; a plain one's: none."""
    return frozenset(getattr(loss, "columns", ()))


def check_columns(loss: nn.Module, offered: Iterable[str]) -> None:
    """Raises ``InputError`` if ``loss`` reads a column that is not ``offered`` by the score table.

    ``grades`` always are: those that a table lacks are the qrels'.
    """
    offered = list(dict.fromkeys([*offered, "grades"]))
    if missing := sorted(columns_of(loss) - {*offered}):
        raise InputError(
            f"loss: {type(loss).__name__} reads {', '.join(missing)}, which the score table does not have; "
            f"it has {', '.join(offered)}"
        )


def reads_of_teacher(loss: nn.Module) -> frozenset[str]:
    """The fields of the teacher's ``Outputs`` that ``loss`` needs besides ``scores``; a plain one's: none."""
    return frozenset(getattr(loss, "reads_of_teacher", ()))


def value_of(loss: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    """What ``loss`` gives: a ``Loss``, or a plain module.

    A plain one takes ``student``, ``teacher`` float (B, G), ``positive``, ``mask`` bool (B, G), and of the
    following those that its ``forward`` names: ``in_batch`` float (B, V), the student's scores of all
    documents of the batch, those of the job's other processes too; ``in_batch_mask`` bool (B, V), those that
    may serve as negatives; ``in_batch_teacher`` float (B, V), NaN where unknown; ``query_embeddings`` (B, d);
    ``document_embeddings`` (U, d), the process's own distinct documents; ``index`` int64 (B, G), the groups'
    documents among these.
    """
    if isinstance(loss, Loss):
        return loss(student, teacher, batch)
    offered = {
        "in_batch": student.in_batch,
        "in_batch_mask": batch.negatives,
        "in_batch_teacher": teacher.in_batch,
        "query_embeddings": student.queries and student.queries.vectors,
        "document_embeddings": student.documents and student.documents.vectors,
        "index": batch.index,
    }
    more = accepted(loss.forward, offered)
    return loss(student.scores, teacher.scores, batch.positive, batch.mask, **more)


def accepted(function: Callable, offered: Mapping) -> dict:
    """Those of ``offered`` that ``function`` names in its signature (all, if it takes ``**kwargs``)."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}
