"""What a model puts before queries and documents."""

import logging

from sentence_transformers.base.model import BaseModel

from rankdistill.errors import shorten

log = logging.getLogger(__name__)


def prompt_of(student: BaseModel, kind: str) -> str | None:
    """What ``student`` puts before a text of the ``kind`` query or document.

    As ``encode_query`` and ``encode_document`` do: an empty prompt keeps the default one away.
    """
    names = ["query"] if kind == "query" else ["document", "passage", "corpus"]
    name = next((name for name in names if name in student.prompts), student.default_prompt_name)
    return None if name is None else student.prompts.get(name) or None


def warn_of_unused(student: BaseModel, name: str) -> None:
    """Of prompts that ``student`` carries, where queries or documents get none."""
    applied = [prompt_of(student, kind) for kind in ("query", "document")]
    unused = [key for key, prompt in student.prompts.items() if prompt and prompt not in applied]
    if unused and None in applied:
        log.warning(
            "%s carries prompts that neither queries nor documents get: %s; to use them give "
            "student.prompts={query: ..., document: ...}",
            name,
            shorten(unused),
        )
