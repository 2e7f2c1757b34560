"""What a student is called, and how it was made, where that is of another model's parts: for its card."""

from typing import Any

from sentence_transformers.base.model import BaseModel


def note_made(student: BaseModel, called: str, how: str) -> None:
    """Keeps both on ``student``, which begins as no model that somebody else published."""
    kept: Any = student  # a module takes any attribute
    kept.made_of = called, how


def made_of(student: BaseModel) -> tuple[str, str]:
    """What ``note_made`` kept; ("", "") of a model that is taken as it is."""
    return getattr(student, "made_of", ("", ""))
