"""Whether the arguments of a call from Python are of the kinds that the parameters declare.

``runtime.fields`` asks the same of a configuration, whose values are YAML's.
"""

import functools
import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

import numpy as np

from rankdistill.errors import InputError, check_loaded

WORDS = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    os.PathLike: "a path",
    dict: "a dict",
    Mapping: "a dict",
    list: "a list",
    tuple: "a list",
    Sequence: "a list",
    np.ndarray: "an array",
    NoneType: "None",
}
HOW = {  # how a value of a class is had
    "BaseModel": "load_student makes one",
    "Candidates": "mine makes them",
    "Collection": "read_beir and its like read one",
    "Module": "KLDivergence() is one",
    "ScoreTable": "score_candidates makes one, read_scores reads one",
    "TrainingArguments": "training_arguments makes them",
}
Made = TypeVar("Made", bound=Callable[..., Any])


def checked(made: Made) -> Made:
    """``made``, a function or a class, that refuses an argument of another kind than its annotation says.

    Of a class that are its constructor and its own public methods. They raise ``InputError`` naming the first
    such parameter, before anything is done. What a list or a dict has in it, and whether an object has the
    methods of a protocol, is left to ``made``.
    """
    if not inspect.isclass(made):
        return _checked(made)
    for name, method in list(vars(made).items()):
        if isinstance(method, classmethod):
            setattr(made, name, classmethod(_checked(method.__func__)))
        elif inspect.isfunction(method) and (name == "__init__" or not name.startswith("_")):
            setattr(made, name, _checked(method))
    return made


def _checked(function: Made) -> Made:
    parameters = inspect.signature(function).parameters
    places = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {  # by name: its default and kinds, read once, as methods may be called for every query
        name: (parameter.default, _kinds(parameter.annotation))
        for name, parameter in parameters.items()
        if parameter.annotation is not parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }

    @functools.wraps(function)
    def call(*given, **named):
        for name, value in (*zip(places, given, strict=False), *named.items()):
            if name in taken:
                default, kinds = taken[name]
                if value is not default and not any(_is(value, kind) for kind in kinds):
                    raise _refused(name, value, kinds)
        return function(*given, **named)

    return typing.cast(Made, call)


def _refused(name: str, value: Any, kinds: Sequence[Any]) -> InputError:
    if name == "model":
        check_loaded(value)
    words = dict.fromkeys(word for kind in kinds for word in _words(kind))
    how = "".join(f"; {HOW[kind.__name__]}" for kind in kinds if getattr(kind, "__name__", "") in HOW)
    return InputError(f"{name}={' '.join(repr(value).split()):.60}: it must be {' or '.join(words)}{how}")


def _kinds(annotation: Any) -> list[Any]:
    """The alternatives of ``annotation``, without what is only noted beside them."""
    if isinstance(annotation, InitVar):
        return _kinds(annotation.type)
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    parts = alternatives(annotation)
    return [kind for part in parts for kind in _kinds(part)] if len(parts) > 1 else list(parts)


def alternatives(kind: Any) -> Sequence[Any]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, UnionType) else [kind]


def _is(value: Any, kind: Any) -> bool:
    """Whether ``value`` can be of ``kind``, which is no union; True where nothing is known of it."""
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return any(isinstance(value, type(choice)) and value == choice for choice in typing.get_args(kind))
    if origin in (int, float):  # NumPy's too
        number = Integral if origin is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if origin is bool:
        return isinstance(value, bool | np.bool_)
    if origin is str:  # the parameters that take files and models are of it too
        return isinstance(value, str | os.PathLike)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if origin in (list, tuple, Sequence, np.ndarray):  # a column of a dataset too
        like = hasattr(value, "__len__") and hasattr(value, "__getitem__")
        return like and not isinstance(value, str | bytes | Mapping)
    if not isinstance(origin, type) or origin is Any:
        return True
    return getattr(origin, "_is_protocol", False) or isinstance(value, origin)


def _words(kind: Any) -> list[str]:
    """What a value of ``kind`` is, in words; of a choice each."""
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return [repr(choice) for choice in typing.get_args(kind)]
    name = getattr(origin, "__name__", str(origin))
    return [WORDS.get(origin, f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")]
