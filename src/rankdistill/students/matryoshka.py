"""Students whose first dimensions serve alone (Kusupati et al. 2022, arXiv 2205.13147)."""

from collections.abc import Sequence
from typing import cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel

from rankdistill.errors import InputError, check_counts


def cut_to(model: BaseModel, dimensions: Sequence[int]) -> None:
    """Has ``model`` trained and measured with its vectors cut to each of ``dimensions`` as well.

    Its own number is no cut. Raises ``InputError`` for numbers that are not below it.
    """
    own = cast(int, cast(SentenceTransformer, model).get_embedding_dimension())
    for number in dimensions:
        check_counts(**{"student.dimensions": number})
        if number is None or number > own:
            raise InputError(f"student.dimensions={list(dimensions)}: {number}, and the model has {own}")
    vars(model)["cuts"] = tuple(sorted(set(dimensions) - {own}, reverse=True))


def cuts_of(model: object) -> tuple[int, ...]:
    """The dimensions that ``cut_to`` was given, without the model's own number; the largest first."""
    return getattr(model, "cuts", ())
